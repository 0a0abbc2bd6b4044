"""Parts of a container's spec: variables, volumes, sizes, meters, ports, health check, keys, whom to notify."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from nebulous import durations
from nebulous.models.base import Duration, Record, Spec

LONGEST_KEPT = timedelta(hours=24)  # a machine that nobody looks at must not cost for ever
SOONEST_CHECK = timedelta(milliseconds=100)
LONGEST_URL = 2000

ENV_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")

_KEY_TYPE = re.compile(
    r"^(ssh-(ed25519|rsa|dss)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)$"
)
_KEY_BODY = re.compile(r"^AAAA[A-Za-z0-9+/]+={0,3}$")


class EnvVar(Spec):
    """One environment variable: a value, or the name of a secret that holds it."""

    key: str = Field(description="Name of the variable.")
    value: str | None = Field(default=None, description="Its value, as it is: `$VAR` is not expanded.")
    secret_name: str | None = Field(default=None, description="A secret in the container's namespace.")

    @model_validator(mode="after")
    def _one_source(self) -> EnvVar:
        if not ENV_KEY.fullmatch(self.key):
            raise ValueError(f"key {self.key!r} is no variable name: use letters, digits and '_'")
        if (self.value is None) == (self.secret_name is None):
            raise ValueError(f"variable {self.key!r} needs either value or secret_name")
        return self


class VolumePath(Spec):
    """Data that follows the container, synced by rclone."""

    source: str = Field(description="Remote or path, such as `s3://bucket/folder`.")
    dest: str = Field(description="Path in the container, or remote.")
    driver: Literal["RCLONE_SYNC", "RCLONE_COPY", "RCLONE_BISYNC", "RCLONE_MOUNT"] = Field(
        default="RCLONE_SYNC", description="How rclone moves the data."
    )
    continuous: bool = Field(default=False, description="Keep pushing changes while the command runs.")
    resync: bool = Field(default=False, description="Rebuild the listings of a two-way sync.")
    interval: Duration | None = Field(default=None, description="Between two pushes; default 30s.")
    include: list[str] | None = Field(default=None, description="Patterns of what to move; default everything.")
    exclude: list[str] | None = Field(default=None, description="Patterns of what to leave out.")
    bandwidth: str | None = Field(default=None, description="Limit, as rclone writes it: `10M`.")
    delete: bool = Field(default=False, description="A push also deletes what this life removed.")
    secret: str | None = Field(default=None, description="Secret with the credentials of the remote.")


class Resources(Spec):
    """Processor and memory asked for; memory in GiB, processors in cores."""

    min_cpu: float | None = Field(default=None, gt=0, description="Processors that it gets when others want them too.")
    min_memory: float | None = Field(default=None, gt=0, description="GiB that it gets when others want them too.")
    max_cpu: float | None = Field(default=None, gt=0, description="Processors that it never uses more than.")
    max_memory: float | None = Field(default=None, gt=0, description="GiB; with more than this the command is killed.")

    @model_validator(mode="after")
    def _ordered(self) -> Resources:
        for what in ("cpu", "memory"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{what} {least:g} is more than max_{what} {most:g}")
        return self


class Meter(Spec):
    """What is billed for the container: a price, or a percentage on top of the provider's."""

    metric: str = Field(description="What is counted: `runtime`.")
    unit: Literal["second", "minute", "hour"] = Field(default="second", description="Per what the price is.")
    currency: str = Field(description="Of the price, such as `USD`.")
    cost: float | None = Field(default=None, ge=0, description="Price per unit.")
    costp: float | None = Field(default=None, ge=0, description="Percent on top of the provider's price.")
    json_path: str | None = Field(default=None, description="Where the number stands in a response.")

    @model_validator(mode="after")
    def _one_price(self) -> Meter:
        if (self.cost is None) == (self.costp is None):
            raise ValueError("a meter needs either cost or costp")
        return self


class Registry(Spec):
    """How to log in to the image's registry."""

    username: str = Field(description="Of the account at the registry.")
    password_secret: str = Field(description="Secret with its password or token.")


class Port(Spec):
    """A port that the command listens on."""

    port: int = Field(ge=1, le=65535, description="Number in the container.")
    protocol: Literal["tcp", "udp", "http"] = Field(default="tcp", description="What is spoken on it.")
    public: bool = Field(
        default=False, description="Open it to the world. docker: the same port of the machine; `local`: see the guide."
    )

    @property
    def transport(self) -> str:
        """What carries it: tcp or udp."""
        return "udp" if self.protocol == "udp" else "tcp"


class PublicPort(Record):
    """Where a port can be reached from outside."""

    port: int
    protocol: str = "tcp"
    public_ip: str | None = None


class HealthCheck(Spec):
    """How to tell that the command is ready: an HTTP path or a command."""

    path: str | None = Field(default=None, description="HTTP path that answers 2xx or 3xx when ready.")
    command: str | list[str] | None = Field(default=None, description="Command in the container, exits 0 when ready.")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Where the path is asked for; default the first of `ports`."
    )
    protocol: Literal["http", "https"] = Field(default="http", description="How it is asked for.")
    interval: Duration = Field(default="10s", description="Between two checks.")
    timeout: Duration = Field(default="5s", description="Longest wait for one answer.")
    retries: int = Field(default=3, ge=1, description="Failures in a row until it counts as not ready.")
    start_period: Duration = Field(default="0s", description="Failures this early do not count.")

    @model_validator(mode="after")
    def _one_kind(self) -> HealthCheck:
        if self.path is not None and self.command is not None:
            raise ValueError("a health check needs either path or command, not both")
        if self.path is None and self.command is None:
            raise ValueError("a health check needs path or command")
        if self.command is not None and not self.command:
            raise ValueError("the health check's command is empty")
        return self

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or not path.isprintable() or " " in path):
            raise ValueError(f"{path!r} is no HTTP path: it begins with '/' and has no spaces")
        return path

    @field_validator("interval", "timeout")
    @classmethod
    def _not_too_often(cls, span: str) -> str:
        if durations.parse(span) < SOONEST_CHECK:
            raise ValueError(f"{span!r} is too short: at least {SOONEST_CHECK.total_seconds() * 1000:.0f}ms")
        return span

    @property
    def argv(self) -> list[str]:
        """The command as it is executed; a string runs in a shell."""
        return ["/bin/sh", "-c", self.command] if isinstance(self.command, str) else list(self.command or [])

    @property
    def interval_s(self) -> float:
        """Seconds between two checks."""
        return durations.parse(self.interval).total_seconds()

    @property
    def timeout_s(self) -> float:
        """Seconds that one check may take."""
        return durations.parse(self.timeout).total_seconds()

    @property
    def start_period_s(self) -> float:
        """Seconds from the start in which failures do not count."""
        return durations.parse(self.start_period).total_seconds()

    def __str__(self) -> str:
        return "its command" if self.path is None else f"{self.protocol} port {self.port}, path {self.path}"


class SshKey(Spec):
    """A public key that may log in beside the caller's own."""

    public_key: str | None = Field(default=None, description="The key, as in authorized_keys.")
    public_key_secret: str | None = Field(default=None, description="Secret that holds the key.")
    copy_local: bool | None = Field(
        default=None,
        description="`nebu create` puts the caller's own ~/.ssh/*.pub here; the API itself copies nothing.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> SshKey:
        if self.public_key is not None and self.public_key_secret is not None:
            raise ValueError("give public_key or public_key_secret, not both")
        if self.public_key is None and self.public_key_secret is None and not self.copy_local:
            raise ValueError("a key needs public_key, public_key_secret or copy_local")
        return self

    @field_validator("public_key")
    @classmethod
    def _a_key(cls, key: str | None) -> str | None:
        return key if key is None else check_key(key)


def check_key(text: str) -> str:
    """One public key without the line's end.

    Raises:
        ValueError: It is none; the message never repeats what was given.
    """
    key = text.strip()
    if "PRIVATE KEY" in key:
        raise ValueError("this is a private key: give the public one, from the file that ends in .pub")
    words = key.split(None, 2)
    fits = len(words) >= 2 and _KEY_TYPE.match(words[0]) and _KEY_BODY.match(words[1])
    if not fits or not key.isprintable():
        raise ValueError("this is no public key: give one line such as 'ssh-ed25519 AAAA… name'")
    return key


def check_url(url: str) -> str:
    """The address of a notification.

    Raises:
        ValueError: It is not http(s), has no host, or carries a login.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url[:80]!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url[:80]!r} is no http:// or https:// URL")
    if parts.username or parts.password:
        raise ValueError("a URL with a login would be shown to every member: put a token into its path")
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise ValueError(f"a URL has no spaces and at most {LONGEST_URL} characters")
    return url
