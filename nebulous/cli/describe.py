"""`nebu describe`: everything about one resource on one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from nebulous import durations
from nebulous.cli import options, views
from nebulous.cli.lookup import connect
from nebulous.cli.names import select
from nebulous.cli.screen import emit
from nebulous.cli.tables import NOTHING, age, dollars, facts, moment, table
from nebulous.client import Json
from nebulous.models.kinds import Kind


def command(names: options.OneName, namespace: options.Namespace = None, owner: options.Owner = None) -> None:
    """Show where it runs and why, every attempt to place it, its conditions and its events."""
    target = select(names).only()
    lookup = connect().within(namespace, owner)
    row = lookup.find(target)
    history = lookup.api.history(lookup.place_of(target.kind, row))
    emit(page(target.kind, row, history, time.time()))


def page(kind: Kind, row: Json, history: Json, now: float) -> str:
    """The page as text."""
    told = [fact for fact in [*_metadata(row["metadata"], now), *views.facts(kind, row, now)] if fact[1]]
    sections = [facts(_named_once(told))]
    sections += _section("Conditions", CONDITIONS, _condition, row["status"].get("conditions"))
    sections += _section("Attempts", ATTEMPTS, partial(_attempt, now=now), history.get("attempts"))
    sections += _section("Events", EVENTS, event_cells, history.get("events"))
    return "\n\n".join(sections)


CONDITIONS = ("TYPE", "STATUS", "REASON", "MESSAGE")
ATTEMPTS = ("#", "PLACE", "$/H", "AGE", "TOOK", "OUTCOME", "MESSAGE")
EVENTS = ("TIME", "TYPE", "REASON", "MESSAGE")


def event_cells(event: Json) -> list[str]:
    """One event as a row of a table."""
    return [moment(event["at"]), str(event.get("type", "Normal")), str(event["reason"]), str(event["message"])]


def _metadata(metadata: Json, now: float) -> list[tuple[str, str]]:
    created = metadata.get("created_at")
    labels: dict[str, str] = metadata.get("labels") or {}
    by = f" by {metadata['created_by']}" if metadata.get("created_by") else ""
    ago = f", {durations.render(max(0, now - created))} ago" if created else ""
    return [
        ("Name", metadata["name"]),
        ("Namespace", metadata.get("namespace") or ""),
        ("Organization", metadata["owner"]),
        ("Id", metadata["id"]),
        ("Belongs to", metadata.get("owner_ref") or ""),
        ("Labels", ", ".join(f"{key}={value}" for key, value in labels.items())),
        ("Created", f"{moment(created)}{ago}{by}" if created else ""),
    ]


def _named_once(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names get their colon; one that repeats the name above it is left out."""
    before = ["", *(name for name, _ in facts)]
    return [("" if name == above else f"{name}:", text) for above, (name, text) in zip(before, facts, strict=False)]


def _section(
    title: str, headers: tuple[str, ...], cells: Callable[[Json], list[str]], entries: list[Json] | None
) -> list[str]:
    return [f"{title}:\n{table(headers, [cells(entry) for entry in entries], indent='  ')}"] if entries else []


def _condition(condition: Json) -> list[str]:
    return [str(condition.get(name) or "") for name in ("type", "status", "reason", "message")]


def _attempt(attempt: Json, now: float) -> list[str]:
    return [
        str(attempt.get("number", NOTHING)),
        str(attempt.get("place") or attempt.get("platform") or NOTHING),
        dollars(attempt.get("usd_per_hour")),
        age(_seconds(attempt.get("started_at")), now),
        _took(attempt),
        str(attempt.get("outcome") or "under way"),
        str(attempt.get("message") or ""),
    ]


def _seconds(at: str | None) -> int | None:
    """An RFC 3339 time in unix seconds."""
    try:
        return int(datetime.fromisoformat(at or "").timestamp())
    except ValueError:
        return None


def _took(attempt: Json) -> str:
    try:
        begun, ended = datetime.fromisoformat(attempt["started_at"]), datetime.fromisoformat(attempt["ended_at"])
    except (KeyError, TypeError, ValueError):
        return NOTHING
    return durations.render(ended - begun)
