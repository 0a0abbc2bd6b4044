"""What every kind of resource shares: metadata, events, conditions, and the row that a reader sees."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nebulous import ids
from nebulous.models.base import IN_PLACE, Record, Spec

EVENTS_KEPT = 50
LIVES_KEPT = 20

Labels = dict[str, str]


class MetadataRequest(Spec):
    """`metadata:` as a person writes it."""

    aliases: ClassVar[dict[str, str]] = {"owner_id": "owner"}

    name: str | None = Field(default=None, description="Name, or ORGANIZATION/NAME; generated when absent.")
    namespace: str | None = Field(default=None, description="Group of resources that reach each other by name.")
    owner: str | None = Field(default=None, description="Organization; default the caller's own.")
    labels: Labels | None = Field(
        default=None, description="Free `key: value` pairs, selectable with -l.", json_schema_extra=IN_PLACE
    )
    owner_ref: str | None = Field(
        default=None, description="Workflow id of the resource that this one belongs to and is deleted with."
    )
    resource_version: str | None = Field(
        default=None, description='Refuse the write if the resource changed since; `""` if it exists.'
    )

    @model_validator(mode="after")
    def _split_owner(self) -> MetadataRequest:
        if self.name is None:
            return self
        owner, name = ids.split_owner(self.name)
        if owner and self.owner and owner.lower() != self.owner.lower():
            raise ValueError(f"name {self.name!r} says organization {owner!r}, owner says {self.owner!r}")
        self.owner, self.name = owner or self.owner, name
        return self

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None:
            owner, rest = ids.split_owner(name)
            ids.check_name(rest)
            if owner:
                ids.check_name(owner, "organization")
        return name

    @field_validator("namespace", "owner")
    @classmethod
    def _check_names(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value if value in (None, "", "-") else ids.check_name(str(value), str(info.field_name))

    @field_validator("labels", mode="before")
    @classmethod
    def _write_labels(cls, labels: object) -> object:
        """Numbers and booleans become text: `exit_code: 3` is a label as people write it."""
        if not isinstance(labels, dict):
            return labels
        return {key: _written(value) for key, value in cast("dict[str, object]", labels).items()}

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: Labels | None) -> Labels | None:
        for key, value in (labels or {}).items():
            text = key + value
            if not key or "=" in key or '"' in text or not text.isprintable() or len(text) > 500:
                why = "no '=' in the key, no '\"', nothing unprintable, at most 500 characters"
                raise ValueError(f"label {key!r} is not allowed: {why}")
        return labels


def _written(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


class Metadata(Record):
    """`metadata` of an existing resource."""

    name: str
    namespace: str
    owner: str
    id: str
    labels: Labels | None = None
    owner_ref: str | None = None
    resource_version: str = "1"  # grows with every change that readers see
    spec_version: str = "1"  # the resource_version with which spec or labels changed last
    request: str = ""  # digest of the request that made this life; see api/keys.py
    created_by: str = ""
    created_at: int = 0  # unix seconds
    updated_at: int = 0
    deleted_at: int | None = None  # unix seconds; when deletion was asked for
    next_id: str | None = None  # of the life that is to follow under this name

    @property
    def tag(self) -> str:
        """This state of this life, for `ETag` and `If-Match`."""
        return f"{self.id}.{self.resource_version}"

    def outdates(self, seen: str) -> bool:
        """True when who saw version `seen` (a resource_version, or a `tag`) has not seen the spec as it is.

        That a status moved on meanwhile outdates nothing: nobody could change a container that is just starting.
        """
        life, _, version = seen.rpartition(".")
        if (life and life != self.id) or not (version.isascii() and version.isdecimal()) or len(version) > 18:
            return True
        return not int(self.spec_version) <= int(version) <= int(self.resource_version)

    def outdated(self, seen: str) -> str:
        """Why a write is refused whose writer saw only `seen`; "" is nothing at all."""
        if not seen:
            return f"it exists meanwhile: resource_version is {self.resource_version!r}"
        life, _, version = seen[:40].rpartition(".")
        if life and life != self.id:
            return f"it is another life by now: {self.id}, not {life}; resource_version is {self.resource_version!r}"
        return f"it changed meanwhile: resource_version is {self.resource_version!r}, not {version!r}"


class Event(Record):
    """Something that happened to a resource, in words."""

    at: str  # RFC 3339
    reason: str  # one CamelCase word
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


class Condition(Record):
    """One aspect of a resource that may be true, false or unknown, with why."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


class Row(Record):
    """One resource as `describe()` and lists give it: the workflow's memo."""

    metadata: Metadata
    spec: dict[str, Any]
    status: dict[str, Any]
    rentals: dict[str, dict[str, Any]] = {}
