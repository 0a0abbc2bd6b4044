"""Which kind looks how; a kind without a view of its own shows name, status and age."""

from __future__ import annotations

import time
from typing import Any

from nebulous.cli import containers
from nebulous.cli.tables import age, table
from nebulous.client import Json
from nebulous.models.kinds import Kind

_COLUMNS = ("NAME", "STATUS", "AGE")
_WIDE = ("ID", "OWNER")


def listing(kind: Kind, rows: list[Json], *, wide: bool = False, now: float | None = None) -> str:
    """The table of `get`, with its footer. A row that cannot be read says so and hides no other."""
    at = time.time() if now is None else now
    spaces = {str(_metadata(row).get("namespace")) for row in rows}
    spread = kind.namespaced and (wide or len(spaces) > 1)
    text = table(headers(kind, wide, spread), [cells(kind, row, at, wide, spread) for row in rows])
    return f"{text}\n\n{containers.footer(rows)}" if kind.name == "Container" else text


def headers(kind: Kind, wide: bool, spread: bool) -> list[str]:
    """The columns of `get`; with the namespace when rows are spread over several."""
    return [*(("NAMESPACE",) if spread else ()), *_columns(kind, wide)]


def cells(kind: Kind, row: Json, now: float, wide: bool, spread: bool) -> list[str]:
    """One row, below `headers`."""
    return ([str(_metadata(row).get("namespace"))] if spread else []) + _cells(kind, row, now, wide)


def status_text(row: Json) -> str:
    """The status of any resource in words."""
    return containers.status_text(row)


def facts(kind: Kind, row: Json, now: float) -> list[tuple[str, str]]:
    """What `describe` says about a resource of this kind, beyond its metadata."""
    if kind.name == "Container":
        return containers.facts(row, now)
    return [("Status", status_text(row)), ("Message", row["status"].get("message") or "")]


def _columns(kind: Kind, wide: bool) -> tuple[str, ...]:
    if kind.name == "Container":
        return containers.COLUMNS + (containers.WIDE if wide else ())
    return _COLUMNS + (_WIDE if wide else ())


def _cells(kind: Kind, row: Json, now: float, wide: bool) -> list[str]:
    try:
        if kind.name == "Container":
            return [str(cell) for cell in containers.cells(row, now, wide)]
        metadata = row["metadata"]
        shown = [metadata["name"], status_text(row), age(metadata.get("created_at"), now)]
        return shown + ([metadata["id"], containers.owner_text(metadata)] if wide else [])
    except Exception as error:  # a newer server, or a damaged row: the others must still be seen
        blank = ["?"] * (len(_columns(kind, wide)) - 2)
        return [str(_metadata(row).get("name") or "?"), f"unreadable: {type(error).__name__} {error}", *blank]


def _metadata(row: Json) -> dict[str, Any]:
    metadata = row.get("metadata")
    return metadata if isinstance(metadata, dict) else {}  # pyright: ignore[reportUnknownVariableType]
