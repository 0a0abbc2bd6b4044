"""Containers: what a person asks for, what a reader sees, and what a platform is told to launch."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nebulous import durations
from nebulous.models.base import IN_PLACE, Duration, Record, Spec
from nebulous.models.container_fields import (
    LONGEST_KEPT,
    EnvVar,
    HealthCheck,
    Meter,
    Port,
    PublicPort,
    Registry,
    Resources,
    SshKey,
    VolumePath,
    check_url,
)
from nebulous.models.resources import Condition, Metadata, MetadataRequest

DEFAULT_STOP_GRACE = timedelta(seconds=30)
DEFAULT_PROVISION_TIMEOUT = timedelta(hours=1)
DEFAULT_TTL = timedelta(days=7)
DEFAULT_MAX_RETRIES = 3  # of OnFailure; Always has no limit
MAX_RECOVERIES = 10
RECOVERY_WINDOW = timedelta(hours=24)

ACCELERATOR = re.compile(r"^(\d{1,4}):(\S+)\Z", re.ASCII)


class Status(StrEnum):
    """The words that users see; the table with their meaning stands in the guide."""

    DEFINED = "defined"
    QUEUED = "queued"
    PENDING = "pending"
    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    RESTARTING = "restarting"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    INVALID = "invalid"


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED, Status.INVALID})
#: A container in one of these has an instance whose fate its workflow wants to hear of.
WATCHED = frozenset({Status.CREATING, Status.CREATED, Status.RUNNING, Status.RESTARTING})


class ContainerSpec(Spec):
    """What a person asks for. Absent fields keep their null, so that replies echo what was sent."""

    aliases: ClassVar[dict[str, str]] = {"env": "env_vars"}

    kind: Literal["Container"] = "Container"
    metadata: MetadataRequest | None = Field(default=None, description="Name, place and labels.")
    image: str | None = Field(default=None, description="Container image; `local` runs on the host and ignores it.")
    command: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="A string runs as `/bin/sh -c`, a list as it is; both replace ENTRYPOINT and CMD."
    )
    args: list[str] | None = Field(default=None, description="Given to the image's own ENTRYPOINT.")
    platform: str | None = Field(default=None, description="runpod, ec2, gce, docker, local or sim; default: chosen.")
    env_vars: list[EnvVar] | None = Field(default=None, description="Variables of the command.")
    volumes: list[VolumePath] | None = Field(default=None, description="Data that follows the container.")
    accelerators: list[str] | None = Field(default=None, description='"COUNT:NAME", in order of preference.')
    resources: Resources | None = Field(default=None, description="Processors and memory.")
    queue: str | None = Field(default=None, description="Name of the FIFO queue to wait in.")
    # in place: a queue reads it when a slot is free
    priority: int | None = Field(
        default=None, description="Within the queue, higher first.", json_schema_extra=IN_PLACE
    )
    restart: Literal["Never", "OnFailure", "Always"] = Field(
        default="Never", description="When the command is started again.", json_schema_extra=IN_PLACE
    )
    max_retries: int | None = Field(
        default=None,
        ge=0,
        description="Restarts; default 3 for OnFailure, no limit for Always.",
        json_schema_extra=IN_PLACE,
    )
    # in place: the deadline moves, counted from first running as before
    timeout: Duration | None = Field(
        default=None, description="Longest time from first running; default none.", json_schema_extra=IN_PLACE
    )
    stop_grace: Duration | None = Field(
        default=None, description="Between SIGTERM and SIGKILL; default 30s.", json_schema_extra=IN_PLACE
    )
    provision_timeout: Duration | None = Field(
        default=None, description="Longest wait for a machine; default 1h.", json_schema_extra=IN_PLACE
    )
    ttl_after_finished: Duration | None = Field(
        default=None, description="Keep row and logs; default 7d.", json_schema_extra=IN_PLACE
    )
    meters: list[Meter] | None = Field(default=None, description="What is billed.")
    ports: list[Port] | None = Field(default=None, description="What the command listens on.")
    # in place: it is asked from outside, the command knows nothing of it
    health_check: HealthCheck | None = Field(
        default=None, description="How to tell that it is ready.", json_schema_extra=IN_PLACE
    )
    ssh_keys: list[SshKey] | None = Field(
        default=None, description="Who may log in beside the caller; in the container as `PUBLIC_KEY`, one a line."
    )
    spot: bool | None = Field(default=None, description="Take machines that the cloud may take back.")
    regions: list[str] | None = Field(default=None, description="Only in these; default anywhere.")
    # in place: it bounds the next machine; the one that is paid for stays
    max_usd_per_hour: float | None = Field(
        default=None, gt=0, description="Pay no more than this; leaves out unknown prices.", json_schema_extra=IN_PLACE
    )
    disk: float | None = Field(default=None, gt=0, description="GiB of disk.")
    shm_size: float | None = Field(default=None, gt=0, description="GiB of /dev/shm.")
    registry: Registry | None = Field(default=None, description="Login at the registry of the image.")
    # in place: read when the command has failed
    keep_on_failure: Duration | None = Field(
        default=None,
        description="Keep the machine this long after a failure, at its price; at most 24h.",
        json_schema_extra=IN_PLACE,
    )
    # in place: it is looked at from outside
    idle_timeout: Duration | None = Field(
        default=None,
        description="Stop it once its accelerators have been idle this long and nobody was attached.",
        json_schema_extra=IN_PLACE,
    )
    # in place: read when there is something to tell
    notify: str | None = Field(
        default=None,
        description="http(s) URL that is sent outcome and recoveries by POST.",
        json_schema_extra=IN_PLACE,
    )
    proxy_port: int | None = Field(default=None, description="The original's field; accepted when null.")
    authz: dict[str, Any] | None = Field(default=None, description="The original's field; accepted when null.")

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: str | list[str] | None) -> str | list[str] | None:
        if isinstance(command, str) and not command.strip():
            raise ValueError("command is empty: leave it out to run the image's own")
        return command

    @field_validator("timeout", "idle_timeout")
    @classmethod
    def _check_timeout(cls, timeout: str | None, field: ValidationInfo) -> str | None:
        if timeout is not None and not durations.parse(timeout):
            raise ValueError(f"{field.field_name} must be longer than 0s; leave it out for none")
        return timeout

    @field_validator("keep_on_failure")
    @classmethod
    def _check_keep(cls, keep: str | None) -> str | None:
        if keep is not None and durations.parse(keep) > LONGEST_KEPT:
            raise ValueError(f"{keep!r} is too long: a failed machine is kept for at most 24h")
        return keep

    @field_validator("notify")
    @classmethod
    def _check_notify(cls, url: str | None) -> str | None:
        return url if url is None else check_url(url)

    @field_validator("accelerators")
    @classmethod
    def _check_accelerators(cls, asked: list[str] | None) -> list[str] | None:
        for entry in asked or []:
            parse_accelerator(entry)
        return asked

    @field_validator("env_vars")
    @classmethod
    def _check_env(cls, variables: list[EnvVar] | None) -> list[EnvVar] | None:
        seen: set[str] = set()
        for variable in variables or []:
            if variable.key in seen:
                raise ValueError(f"variable {variable.key!r} is given twice")
            seen.add(variable.key)
        return variables

    @field_validator("proxy_port", "authz")
    @classmethod
    def _not_enforced(cls, value: object) -> object:
        if value is not None:
            raise ValueError("is not enforced by this release, so it is not accepted; leave it out")
        return value

    @model_validator(mode="after")
    def _something_to_run(self) -> ContainerSpec:
        if self.image is None and self.command is None:
            raise ValueError("image or command is required: there is nothing to run")
        if self.image is not None and not self.image.strip():
            raise ValueError("image is empty")
        if self.args is not None and self.command is not None:
            raise ValueError("args goes with the image's own command: give command or args, not both")
        check = self.health_check
        if check and check.path is not None and check.port is None and not self.ports:
            raise ValueError("health_check has a path and no port: give port, or list it in ports")
        return self

    @property
    def probed(self) -> HealthCheck | None:
        """The health check, with the port that it asks."""
        check = self.health_check
        if check and check.path is not None and check.port is None and self.ports:
            return check.model_copy(update={"port": self.ports[0].port})
        return check

    @property
    def argv(self) -> list[str] | None:
        """The command as it is executed; None runs the image's own."""
        if self.command is None:
            return None
        return ["/bin/sh", "-c", self.command] if isinstance(self.command, str) else list(self.command)

    @property
    def stop_grace_span(self) -> timedelta:
        """How long the command may take to end after SIGTERM."""
        return _span(self.stop_grace, DEFAULT_STOP_GRACE)

    @property
    def provision_span(self) -> timedelta:
        """How long to look for a machine before giving up."""
        return _span(self.provision_timeout, DEFAULT_PROVISION_TIMEOUT)

    @property
    def ttl_span(self) -> timedelta:
        """How long a finished container stays visible."""
        return _span(self.ttl_after_finished, DEFAULT_TTL)

    @property
    def keep_span(self) -> timedelta:
        """How long the machine of a failed command is kept."""
        return _span(self.keep_on_failure, timedelta(0))

    @property
    def timeout_span(self) -> timedelta | None:
        """How long the command may run, restarts and recoveries included."""
        return durations.parse(self.timeout) if self.timeout else None

    @property
    def idle_span(self) -> timedelta | None:
        """How long its accelerators may be idle."""
        return durations.parse(self.idle_timeout) if self.idle_timeout else None

    @property
    def retries_allowed(self) -> int | None:
        """How often the command may be restarted; None has no limit."""
        if self.restart == "Never":
            return 0
        return (
            self.max_retries
            if self.max_retries is not None
            else DEFAULT_MAX_RETRIES
            if self.restart == "OnFailure"
            else None
        )


def _span(text: str | None, default: timedelta) -> timedelta:
    return durations.parse(text) if text else default


def parse_accelerator(entry: str) -> tuple[int, str]:
    """Split `4:A100` into count and name.

    Raises:
        ValueError: The entry is not COUNT:NAME with a count of at least 1.
    """
    match = ACCELERATOR.fullmatch(entry)
    if not match or int(match[1]) < 1:
        raise ValueError(f"{entry!r} is not COUNT:NAME; write for example '1:A100' or '8:H100'")
    return int(match[1]), match[2]


class ContainerStatus(Record):
    """`status` as readers see it; kept under 1 kB, so events and attempts are read apart."""

    status: Status = Status.DEFINED
    reason: str = ""  # one CamelCase word: Exited, OutOfMemory, NoCapacity, …
    message: str = ""
    platform: str = ""  # "" until chosen
    account: str = ""
    region: str = ""
    instance_type: str = ""
    instance_id: str | None = None
    simulated: bool = False
    accelerator: str | None = None  # "4:A100-80GB-SXM", what was got
    cost_per_hr: float | None = None  # of what is rented now; None is unknown or nothing
    price_source: str = ""
    ready: bool = False
    ip: str | None = None
    public_ports: list[PublicPort] | None = None
    image_digest: str | None = None  # what the image's name meant when it was brought
    exit_code: int | None = None
    attempt: int = 0
    restarts: int = 0
    recoveries: int = 0
    started_at: str | None = None
    finished_at: str | None = None
    next_try_at: str | None = None
    conditions: list[Condition] = []


class Attempt(Record):
    """One try of one offer, for the attempts table of `describe`."""

    number: int
    platform: str
    place: str
    usd_per_hour: float | None = None
    started_at: str
    ended_at: str | None = None
    outcome: str = ""  # "rented", or the error's type
    message: str = ""  # the platform's last words


class Launch(Record):
    """All that a platform needs to rent and start; secrets are resolved just before, never stored."""

    metadata: Metadata
    spec: dict[str, Any]
    key: str
    install: str
    workflow: str
    attempt: int = 1
    recoveries: int = 0
    platform: str = ""
    image_digest: str = ""  # the image of this life, once it is known

    @property
    def container(self) -> ContainerSpec:
        """The spec, validated again on this side of the wire."""
        return ContainerSpec.model_validate(self.spec)

    @property
    def own_env(self) -> dict[str, str]:
        """What every container is told about itself."""
        return {
            "NEBU_NAME": self.metadata.name,
            "NEBU_NAMESPACE": self.metadata.namespace,
            "NEBU_OWNER": self.metadata.owner,
            "NEBU_ID": self.metadata.id,
            "NEBU_ATTEMPT": str(self.attempt),
            "NEBU_RECOVERIES": str(self.recoveries),
            "NEBU_PLATFORM": self.platform,
        }


def shown_command(command: str | list[str] | None) -> str | None:
    """The command as one string, a list shell-quoted, for clients that know only strings."""
    return shlex.join(command) if isinstance(command, list) else command
