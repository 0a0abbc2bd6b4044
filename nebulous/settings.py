"""The server's settings: environment `NEBU_*`, else `nebulous.yaml`, else the default beside each.

Every field says its unit and its reason; `docs/settings.md` is generated from them.
"""

from __future__ import annotations

import json
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from nebulous import accounts
from nebulous.accounts import Account, Machine

CLOUDS = ("runpod", "ec2", "gce")


#: `NEBU_SIGNING_KEY_FILE` and so on: these may stand in a file of their own, as Docker and Kubernetes hand out secrets.
BY_FILE = ("signing_key", "secret_key", "encryption_key", "redis_url")


S3 = "s3://"
ARCHIVE_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/?#\\\s]+)*/?")


class Bucket(NamedTuple):
    """Part of a bucket of an object store."""

    name: str
    prefix: str = ""  # ends with a slash, unless it is empty
    endpoint: str | None = None


class SimOffer(BaseModel):
    """One thing that the simulated cloud rents out."""

    platform: str = "sim"
    region: str = "sim-1"
    instance_type: str = "sim.small"
    accelerator: str | None = None
    count: int = 0
    usd_per_hour: float | None = 0.0
    spot_usd_per_hour: float | None = None
    capacity: int | None = Field(default=None, description="how many may be rented at once; null has no limit")


class SimSettings(BaseModel):
    """The simulated cloud."""

    offers: list[SimOffer] | None = Field(default=None, description="what it rents out; default: a small world tour")
    latency_s: float = Field(default=0.0, ge=0, description="seconds before each of its answers")
    error_rate: float = Field(default=0.0, ge=0, le=1, description="share of calls that are answered with an error")
    boot_s: float = Field(default=0.5, ge=0, description="seconds from rental to ready, unless a label says otherwise")


class FileSource(PydanticBaseSettingsSource):
    """Settings that stand in files: `NEBU_X_FILE` names the file."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """The content of the file that the environment names for this setting."""
        variable = f"NEBU_{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if not path or field_name not in BY_FILE:
            return None, field_name, False
        if os.environ.get(variable):
            raise ValueError(f"both {variable} and {variable}_FILE are set: unset one of them")
        try:
            content = Path(path).read_text().strip()
        except OSError as error:
            raise ValueError(f"{variable}_FILE cannot be read: {error}") from error
        if not content:
            raise ValueError(f"{variable}_FILE: {path!r} is empty")
        return content, field_name, False

    def __call__(self) -> dict[str, str]:
        """All that are given so."""
        found = {name: self.get_field_value(self.settings_cls.model_fields[name], name)[0] for name in BY_FILE}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """Everything that an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="NEBU_", env_nested_delimiter="__", yaml_file="nebulous.yaml", extra="ignore"
    )

    host: str = Field(default="127.0.0.1", description="address the API listens on; beyond loopback `local` is off")
    port: int = Field(default=3000, ge=0, le=65535, description="port of the API; 0 takes any free one")
    data_dir: Path = Field(default=Path("~/.nebu/server"), description="state of the embedded engine, logs, keys")

    temporal_address: str | None = Field(default=None, description="host:port of a Temporal server; default: embedded")
    embedded: bool = Field(
        default=False, description="set by `nebu serve` for its children: the engine is ours to shape"
    )
    temporal_namespace: str = Field(default="default", description="Temporal namespace that holds this install")
    temporal_port: int = Field(
        default=7233, ge=0, le=65535, description="port of the embedded Temporal; 0: any free one"
    )
    ui_port: int = Field(default=8233, ge=0, le=65535, description="port of the embedded Temporal UI; 0: any free one")
    redis_url: str | None = Field(
        default=None, description="Redis or Valkey for streams and sessions; default: embedded"
    )
    redis_port: int = Field(default=6390, ge=0, le=65535, description="port of the embedded Valkey; 0: any free one")
    retention_days: int = Field(default=30, ge=1, description="how long Temporal keeps closed histories")

    simulate: str = Field(default="", description="clouds that the simulated one stands in for, such as runpod,ec2,gce")
    local_enabled: bool | None = Field(
        default=None, description="platform `local`; default: only with `nebu serve` on loopback"
    )
    docker_enabled: bool = Field(default=True, description="platform `docker`")
    docker_host: str | None = Field(
        default=None, description="address of the Docker Engine; default DOCKER_HOST, else its socket"
    )
    docker_subnets: str = Field(
        default="10.213.0.0/16",
        description="pool of which each namespace's network gets a /24; must not clash with a VPN",
    )
    clouds: str = Field(
        default=",".join(CLOUDS), description="clouds that are used when the environment has credentials for them"
    )
    address_service: str = Field(
        default="https://checkip.amazonaws.com",
        description="URL that answers with the asking address: clouds' firewalls let that in to the SSH of machines, "
        "unless an account has ssh_from",
    )
    platforms: dict[str, Account] = Field(
        default={},
        description='machines of your own with Docker, and accounts of clouds, as JSON: {"docker:gpu-box": {"ssh": '
        '"me@gpu-box"}, "ec2:prod": {"profile": "prod"}}; docs/clouds.md has all fields',
    )
    sim: SimSettings = SimSettings()
    archive: str | None = Field(
        default=None,
        description="folder or s3://BUCKET/PREFIX for logs of finished containers, the same for API and workers; "
        "default DATA_DIR/archive",
    )
    archive_endpoint: str | None = Field(
        default=None,
        description="URL of the store that has the bucket, if not Amazon's; default AWS_ENDPOINT_URL_S3, as all that "
        "Amazon's SDK reads counts: AWS_ACCESS_KEY_ID, AWS_PROFILE, a role of the machine …",
    )

    notify_private: bool | None = Field(
        default=None,
        description="containers' `notify` may reach addresses that are not public; default: `nebu serve` on loopback",
    )

    signing_key: str | None = Field(
        default=None, description="HS256 key of the API's tokens; default: DATA_DIR/keys/signing"
    )
    secret_key: str | None = Field(
        default=None, description="base64 of 32 bytes that encrypt secrets; default: DATA_DIR/keys/secrets"
    )
    encryption_key: str | None = Field(
        default=None,
        description="base64 of 32 bytes that encrypt what Temporal holds; several, with commas: the first encrypts, "
        "all decrypt; default: it holds clear text",
    )
    ui_origin: str | None = Field(
        default=None,
        description="origin of the Temporal UI, such as http://localhost:8080, whose pages may use /codec; "
        "default: none",
    )
    deployment: str | None = Field(
        default=None,
        description="name of the worker deployment; lives stay on the build that began them: docs/upgrading.md; "
        "default: no versioning",
    )
    deployment_build: str | None = Field(default=None, description="this build in it; default: the version installed")
    orphan_grace_s: float = Field(
        default=90.0, gt=0, description="seconds between the two sightings before an orphan is destroyed"
    )
    full_sweep_s: float = Field(
        default=120.0, gt=0, description="seconds between full comparisons of cloud and workflows"
    )
    api_metrics: str | None = Field(
        default=None, description="host:port at which the API answers Prometheus; default: none. No token is asked for"
    )
    worker_metrics: str | None = Field(
        default=None, description="host:port at which the worker process does; two workers on a machine need two ports"
    )
    log_level: str = Field(default="INFO", description="of API and worker")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, and that over the file."""
        return init_settings, env_settings, FileSource(settings_cls), YamlConfigSettingsSource(settings_cls)

    @cached_property
    def data(self) -> Path:
        """The data directory, absolute."""
        return self.data_dir.expanduser().resolve()

    @property
    def archive_place(self) -> Path | Bucket:
        """Where logs of finished containers are kept."""
        if not self.archive:
            return self.data / "archive"
        if not self.archive.startswith(S3):
            return Path(self.archive).expanduser().resolve()
        bucket, _, prefix = self.archive.removeprefix(S3).partition("/")
        return Bucket(bucket, f"{prefix.rstrip('/')}/".removeprefix("/"), self.archive_endpoint)

    @field_validator("archive")
    @classmethod
    def _archive_can_be(cls, value: str | None) -> str | None:
        if value and "://" in value and not ARCHIVE_BUCKET.fullmatch(value):
            raise PydanticCustomError("archive", "should be a folder or s3://BUCKET/PREFIX")
        return value

    @field_validator("archive_endpoint")
    @classmethod
    def _endpoint_can_be(cls, value: str | None, known: ValidationInfo) -> str | None:
        if value and not re.fullmatch(r"https?://[^/?#@\s]+/?", value):
            raise PydanticCustomError("endpoint", "should be a URL such as https://s3.example.com")
        if value and not str(known.data.get("archive", S3)).startswith(S3):
            raise PydanticCustomError("endpoint", "goes with NEBU_ARCHIVE=s3://BUCKET/PREFIX")
        return value or None

    @property
    def loopback(self) -> bool:
        """True when nobody but this machine reaches the API."""
        return self.host in {"127.0.0.1", "::1", "localhost"}

    @property
    def tells_private(self) -> bool:
        """True when `notify` may reach any address; a worker by itself cannot know who reaches the API."""
        return self.embedded and self.loopback if self.notify_private is None else self.notify_private

    @property
    def simulated(self) -> list[str]:
        """The clouds that the simulated one stands in for.

        Raises:
            ValueError: One of them is no cloud.
        """
        return _clouds("NEBU_SIMULATE", self.simulate)

    @property
    def accounts(self) -> dict[str, Account]:
        """The accounts of clouds: those that are set, and `CLOUD:default` where there are credentials for one.

        Raises:
            ValueError: `clouds` names one that there is not.
        """
        named = {account: each for account, each in self.platforms.items() if not isinstance(each, Machine)}
        here = {account.partition(":")[0] for account in named} | set(self.simulated)
        wanted = [cloud for cloud in _clouds("NEBU_CLOUDS", self.clouds) if cloud not in here]
        return named | {f"{cloud}:default": account for cloud in wanted if (account := accounts.found(cloud))}

    def environment(self) -> dict[str, str]:
        """These settings as variables for a child process."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        structured = ("sim", "platforms")
        env = {f"NEBU_{name.upper()}": str(value) for name, value in values.items() if name not in structured}
        return env | {f"NEBU_{name.upper()}": json.dumps(values[name]) for name in structured}

    @field_validator("platforms", mode="before")
    @classmethod
    def _read_accounts(cls, given: object) -> object:
        """Read each by what its name says it is."""
        if not isinstance(given, dict):
            return given
        return {name: accounts.account(name, fields) for name, fields in cast("dict[str, object]", given).items()}

    @property
    def machines(self) -> dict[str, Machine]:
        """The machines of one's own."""
        return {account: each for account, each in self.platforms.items() if isinstance(each, Machine)}


def _clouds(variable: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CLOUDS:
            raise ValueError(f"{variable}: {name!r} is no cloud; choose of {', '.join(CLOUDS)}")
    return names
