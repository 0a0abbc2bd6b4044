"""What `nebu get` prints, read back as what a person would have written: so that it is a file for `apply`.

Only for files; the API takes no such thing. What the server alone sets is left out, and what it shows in another way
than it was asked for is turned back. Importing this loads no pydantic.
"""

from __future__ import annotations

import shlex
from typing import Any, cast

from nebulous.models.kinds import KINDS, Kind

STATUS = "status"
#: Of `metadata`, what nobody can ask for.
GIVEN = ("id", "spec_version", "created_by", "created_at", "updated_at", "deleted_at", "next_id")
#: Beside a list, where to go on reading it.
CURSOR = "cursor"

Json = dict[str, Any]


class Ambiguous(ValueError):
    """Two spellings of one field were printed, and one of them was changed; `field` is the one to look at."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def listed(data: Json) -> Kind | None:
    """The kind of a printed list (`containers: […]`), or None when it is no list."""
    names = data.keys() - {CURSOR}
    return next((kind for kind in KINDS if names == {kind.plural}), None) if "kind" not in data else None


def written(data: Json) -> Json:
    """A document without what only the server sets.

    Raises:
        Ambiguous: Nobody can tell which of two spellings counts.
    """
    status = data.get(STATUS)
    asked = {name: value for name, value in data.items() if name not in (STATUS, "argv")}
    if isinstance(asked.get("metadata"), dict):
        asked["metadata"] = _metadata(asked["metadata"])
    if "argv" in data:
        asked["command"] = _command(data)
    if isinstance(status, dict):
        asked |= _as_asked(asked, cast(Json, status))
    return asked


def _metadata(metadata: Json) -> Json:
    """A version is one of a life, so that a namesake of later is never taken for it."""
    kept = {name: value for name, value in metadata.items() if name not in GIVEN}
    life, version = metadata.get("id"), metadata.get("resource_version")
    if isinstance(life, str) and isinstance(version, str) and version and "." not in version:
        kept["resource_version"] = f"{life}.{version}"
    return kept


def _command(data: Json) -> object:
    """The list where it was one: `command` is its text, for clients that know only strings."""
    argv, command = data["argv"], data.get("command")
    if argv is None or command is None:
        return cast(object, command if argv is None else argv)
    words = cast("list[object]", argv if isinstance(argv, list) else [])
    same = command == argv or command == shlex.join(map(str, words))
    if not same:
        raise Ambiguous(
            "command", "command and argv say different things: leave out argv, or command if argv is what you changed"
        )
    return words


def _as_asked(asked: Json, status: Json) -> Json:
    """The fields that are shown as they became, or as text where nothing was asked for."""
    found: Json = {}
    if asked.get("image") == "":
        found["image"] = None
    if "platform" in asked and asked["platform"] in ("", status.get("platform")):
        found["platform"] = status.get("platform_asked") or None
    return found
