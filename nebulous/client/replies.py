"""What the typed client gives back: models of what the API shows, tolerant of whatever a newer server adds.

Fields that this version does not know are left out, words of a status that it does not know stay text, and nothing
is checked a second time. `raw` is the reply as it came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

from pydantic import Field, ValidationError

from nebulous.client.wire import Change, Json
from nebulous.errors import Unavailable
from nebulous.models.base import Record
from nebulous.models.containers import FINAL, ContainerSpec, ContainerStatus, Status
from nebulous.models.resources import Metadata
from nebulous.models.secrets import SecretStatus
from nebulous.models.seen import seen

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Container:
    """A container as the server showed it; what it is now, the next `get` tells."""

    metadata: Metadata
    spec: ContainerSpec  # as asked; `platform` is the one that was chosen, once one was
    status: ContainerStatus
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, row: Json) -> Container:
        """Read the API's reply.

        Raises:
            Unavailable: It is no container.
        """
        asked = {**row, "image": row.get("image") or None, "platform": row.get("platform") or None}
        if row.get("argv"):  # `command` is a list's text, for clients that know only strings
            asked["command"] = row["argv"]
        status = seen(ContainerStatus, row.get("status") or {})
        return cls(_metadata(row), seen(ContainerSpec, {**asked, "metadata": None}), status, row)

    def __str__(self) -> str:
        return f"container/{self.metadata.name}"

    @property
    def finished(self) -> bool:
        """True once its command has ended for good, or can never run."""
        return self.status.status in FINAL

    @property
    def succeeded(self) -> bool:
        """True once its command has ended with exit code 0."""
        return self.status.status == Status.COMPLETED


@dataclass(frozen=True)
class Secret:
    """A secret; its value is shown by `secrets.reveal` alone."""

    metadata: Metadata
    status: SecretStatus
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, row: Json) -> Secret:
        """Read the API's reply.

        Raises:
            Unavailable: It is no secret.
        """
        return cls(_metadata(row), seen(SecretStatus, row.get("status") or {}), row)

    def __str__(self) -> str:
        return f"secret/{self.metadata.name}"


@dataclass(frozen=True)
class Applied:
    """What an apply came to: a container, and whether it is new, the same, changed in place, or begins next."""

    container: Container
    outcome: str  # new, same, changed, next


class FieldChange(Record):
    """One field that an apply would change."""

    field: str
    before: Any = Field(default=None, alias="from")  # as the API shows it: any JSON
    after: Any = Field(default=None, alias="to")
    in_place: bool = False  # False: it takes a new life


class Plan(Record):
    """What an apply would do."""

    outcome: str
    changes: list[FieldChange] = []
    resource_version: str | None = None  # of what is there; applied with it, it is refused if that changed since

    @property
    def in_place(self) -> bool:
        """True when nothing of it takes a new life."""
        return all(change.in_place for change in self.changes)


@dataclass(frozen=True)
class ContainerChange:
    """What a watch tells; of `synced` and `reset` there is no container."""

    kind: Literal["added", "modified", "deleted", "synced", "reset"]
    container: Container | None

    @classmethod
    def of(cls, change: Change) -> ContainerChange:
        """Read an event of the API."""
        kind = cast("Literal['added', 'modified', 'deleted', 'synced', 'reset']", change.kind)
        return cls(kind, Container.of(change.resource) if change.resource else None)


class Platform(Record):
    """A platform: whether it can be used now, and if not, why and what to do."""

    platform: str
    account: str | None = None
    usable: bool = False
    reason: str | None = None
    hint: str | None = None
    simulated: bool = False
    features: list[str] = []
    accelerators: list[str] = []  # "COUNT:NAME"
    regions: list[str] = []
    detail: str = ""
    swept_at: str | None = None
    alarm: str | None = None


class Accelerator(Record):
    """An accelerator of the catalog, and which clouds rent how many of it at once."""

    name: str
    vendor: str = ""
    memory_gib: float = 0.0
    platforms: dict[str, list[int]] = {}
    aliases: list[str] = []


class Offer(Record):
    """Something that can be rented now."""

    platform: str
    account: str = ""
    place: str = ""  # for people: `ec2 us-east-1 g5.xlarge`
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    accelerator: str | None = None  # "COUNT:NAME"
    usd_per_hour: float | None = None  # None is unknown, never free
    price_source: str = ""
    price_age_s: int | None = None
    spot: bool = False
    simulated: bool = False


class LeftOut(Record):
    """A platform that has no part in the offers, and why."""

    platform: str
    reason: str
    hint: str | None = None
    account: str | None = None


class Offers(Record):
    """What could be rented now, the first choice first."""

    offers: list[Offer] = []
    out: list[LeftOut] = []
    why: str = ""  # why these platforms were asked
    problem: str | None = None  # what creating would come to, where nothing is offered


class Membership(Record):
    """An organization that one belongs to."""

    org_name: str = ""
    org_role: str | None = None


class Me(Record):
    """Who the token says one is."""

    handle: str
    email: str = ""
    organization: str = ""
    role: str | None = None  # in that organization
    organizations: dict[str, Membership] = {}
    admin: bool = False  # of the whole server


def record(model: type[R], data: Json) -> R:
    """A reply that must have its fields.

    Raises:
        Unavailable: It has not.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Unavailable(
            f"the server's answer is no {model.__name__}: is it a Nebulous API, of a version near to ours?",
            "compare them: nebu version",
        ) from error


def _metadata(row: Json) -> Metadata:
    return record(Metadata, row.get("metadata") or {})
