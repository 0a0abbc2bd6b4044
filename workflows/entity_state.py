"""What every resource's workflow knows, and how it writes times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from nebulous.models.base import Record
from nebulous.models.resources import Event, Metadata

#: What comes with a signal: anything, or nothing at all, for people send them from the Temporal UI. A handler takes any
#: number of these: a workflow never gets over a signal that does not fit its handler.
Said = Any
LONGEST_NUMBER = 18  # digits


class NextLife(Record):
    """What begins under the same name once this life is over."""

    spec: dict[str, Any]
    metadata: dict[str, Any]
    asked_at: int = 0  # the resource_version that shows readers that it was asked for
    stopped: bool = False  # it begins stopped: somebody stopped the name while it was to follow


class EntityState(Record):
    """All that survives continue-as-new; a kind adds its own fields, each with a default."""

    spec: dict[str, Any] = {}
    metadata: Metadata
    install: str = ""
    phase: str = "begin"
    deleting: bool = False
    next: NextLife | None = None
    lives: list[str] = []
    asked_at: int = 0  # the resource_version of the life before, since which this one was asked for
    applied: list[str] = []  # requests that changed this life in place
    requests: dict[str, str] = {}  # of each of these lives and changes that came with a key, the digest of the body
    events: list[Event] = []


S = TypeVar("S", bound=EntityState)


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str | None) -> datetime | None:
    """Read a stamp back."""
    return datetime.fromisoformat(text) if text else None


def as_dict(value: object) -> dict[str, Any]:
    """A mapping as a dict of its own; anything else as an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def number(value: object) -> int | None:
    """A version as the number that it is, or None when it is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER else None
