"""Accounts of clouds and machines of one's own, as the setting `platforms` names them: `ec2:prod`, `docker:gpu-box`."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nebulous.machines import ENGINE, Way
from nebulous.models.base import nearest


class Machine(BaseModel):
    """A machine of one's own with a Docker Engine, reached by SSH."""

    model_config = ConfigDict(extra="forbid")

    ssh: str = Field(description="[user@]host[:port]; also a Host of ~/.ssh/config")
    identity_file: Path | None = Field(default=None, description="private key; default: as `ssh` would choose")
    engine: str = Field(default=ENGINE, description="the Engine's socket on that machine")

    @field_validator("ssh")
    @classmethod
    def _readable(cls, text: str) -> str:
        Way.parse(text)
        return text

    @property
    def way(self) -> Way:
        """How to get there."""
        key = self.identity_file.expanduser() if self.identity_file else None
        return Way.parse(self.ssh, key, self.engine)


class MachineAccount(BaseModel):
    """What accounts have in common where machines are reached by SSH."""

    ssh_from: str | None = Field(
        default=None, description="range of addresses from which workers reach machines; default: this worker's own"
    )

    @field_validator("ssh_from")
    @classmethod
    def _a_range(cls, text: str | None) -> str | None:
        if text is not None and ipaddress.ip_network(text, strict=False).prefixlen == 0:
            raise ValueError("the whole world must not reach the SSH port")
        return text


class Ec2Account(MachineAccount):
    """An account of Amazon EC2."""

    model_config = ConfigDict(extra="forbid")

    profile: str | None = Field(
        default=None, description="of ~/.aws/config; default: as Amazon's SDK finds credentials"
    )
    regions: list[str] = Field(default=[], description="only these; default: all that are enabled and in the catalog")
    subnets: dict[str, list[str]] = Field(default={}, description="by region; default: those of the default VPC")


class GceAccount(MachineAccount):
    """A project of Google Compute Engine."""

    model_config = ConfigDict(extra="forbid")

    credentials: Path | None = Field(
        default=None,
        description="JSON of a service account; default GOOGLE_APPLICATION_CREDENTIALS, as Google's SDK does",
    )
    project: str | None = Field(default=None, description="default: that of the credentials")
    regions: list[str] = Field(default=[], description="only these; default: all in the catalog")
    network: str = Field(default="default", description="name of the VPC network")


class RunpodAccount(BaseModel):
    """An account of RunPod."""

    model_config = ConfigDict(extra="forbid")

    api_key_file: Path | None = Field(default=None, description="file with the key; default: RUNPOD_API_KEY")
    regions: list[str] = Field(default=[], description="only these data centres; default: all")
    cloud: Literal["SECURE", "COMMUNITY", "ANY"] = Field(default="SECURE", description="whose machines")


Account = Machine | Ec2Account | GceAccount | RunpodAccount

KINDS: dict[str, type[Account]] = {
    "docker": Machine,
    "ec2": Ec2Account,
    "gce": GceAccount,
    "runpod": RunpodAccount,
}


def account(name: str, fields: object) -> Account:
    """Read an account by what its name says it is; a queue and a folder can have that name.

    Raises:
        ValueError: It is not KIND:NAME, or a field is wrong.
    """
    kind, _, rest = name.partition(":")
    model = KINDS.get(kind)
    if model is None or not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", rest):
        kinds = ", ".join(f"{kind}:NAME" for kind in KINDS)
        raise ValueError(f"{name!r} is no account: write {kinds}, with lower case letters, digits and - in NAME")
    if isinstance(fields, model):
        return fields
    try:
        return model.model_validate(fields or {})
    except ValidationError as error:
        raise ValueError(f"{name}: {_words(error, list(model.model_fields))}") from error


def _words(error: ValidationError, fields: list[str]) -> str:
    """What is wrong first; a field that there is not hides whatever else is."""
    problems = error.errors(include_url=False)
    first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        guess = nearest(where, fields)
        return f"there is no field {where!r}; " + (f"did you mean {guess!r}?" if guess else f"use {', '.join(fields)}")
    words = first["msg"].removeprefix("Value error, ")
    return f"{where}: {words}" if where else words


#: What the SDKs of the clouds read: variables, and files in the home folder.
VARIABLES: dict[str, tuple[str, ...]] = {
    "runpod": ("RUNPOD_API_KEY",),
    "ec2": (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "gce": ("GOOGLE_APPLICATION_CREDENTIALS",),
}
FILES: dict[str, tuple[str, str]] = {
    "ec2": ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    "gce": ("CLOUDSDK_CONFIG", "~/.config/gcloud/application_default_credentials.json"),
}


def found(cloud: str) -> Account | None:
    """The account whose credentials stand where the cloud's own SDK looks for them, if there are any."""
    if not any(os.environ.get(variable) for variable in VARIABLES[cloud]) and not _kept(cloud):
        return None
    return KINDS[cloud].model_validate({})


def _kept(cloud: str) -> bool:
    if cloud not in FILES:
        return False
    variable, usual = FILES[cloud]
    named = os.environ.get(variable)
    path = Path(named or usual).expanduser()
    return (path / Path(usual).name if named and path.is_dir() else path).is_file()
