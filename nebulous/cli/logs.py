"""`nebu logs`: what the command wrote, byte for byte; with -f until it ends, with its own exit code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from nebulous.cli import containers, failures, options
from nebulous.cli.lookup import Lookup, connect, looks_like_id
from nebulous.cli.names import Target, select
from nebulous.cli.screen import emit_bytes, note
from nebulous.client import Json, Place, Unreachable
from nebulous.errors import NebulousError, NotFound, Unavailable


def command(
    names: options.OneName,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the command ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Begin with this many last lines.")] = None,
    offset: Annotated[
        int | None, typer.Option("--offset", min=0, help="With -f: go on there, as a broken follow said.")
    ] = None,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
) -> int:
    """Print what a container's command wrote; one that was deleted is found by its id."""
    target = select(names).only()
    if "logs" not in target.kind.verbs:
        raise failures.UsageError(f"{target.kind.plural} have no logs")
    if offset is not None and not follow:
        raise failures.UsageError("--offset goes with -f")
    lookup = connect().within(namespace, owner)
    place, life = _place(lookup, target)
    if follow:
        start = {"tail": tail, "offset": offset}
        return follow_log(lookup, place, life, {key: value for key, value in start.items() if value is not None})
    for chunk in lookup.api.logs(place, tail=tail):
        emit_bytes(chunk)
    return 0


def follow_log(lookup: Lookup, place: Place, life: str | None, start: Json, farewell: str | None = None) -> int:
    """Pass the log on until the command ends; return its exit code. Ctrl-C says `farewell`, or how to come back.

    Raises:
        Unreachable: The server stayed away; the hint goes on at the same byte.
    """
    log = lookup.api.follow(place, life, **start)
    log.comment = _say_once()
    name = place.name if place.namespace is None else f"{place.name} -n {place.namespace}"
    try:
        for chunk in log:
            emit_bytes(chunk)
    except Unavailable as error:
        at = f" --offset {log.offset}" if log.offset is not None else ""
        raise Unreachable(f"the log broke off: {error.message}", f"go on with: nebu logs -f {name}{at}") from error
    except KeyboardInterrupt:
        note(farewell or f"detached; come back with: nebu logs -f {name} --tail 20, or end it with: nebu stop {name}")
        return failures.DETACHED
    end = log.end or {}
    code = _code(end)
    if end.get("exit_code") is None and end.get("status") not in containers.GOOD:
        _say_why(lookup, place)
    return code


def _say_why(lookup: Lookup, place: Place) -> None:
    """Say why nothing ran: the log has nothing of it."""
    with suppress(NebulousError):
        message = lookup.api.get(place)["status"].get("message")
        name = f"{place.name}{lookup.options(place.namespace or '')}"
        note(f"{message or 'it did not run'}; see also: nebu describe {name}")


def _place(lookup: Lookup, target: Target) -> tuple[Place, str | None]:
    try:
        row = lookup.find(target)
    except NotFound:
        if not looks_like_id(target.name):
            raise
        return Place(target.kind.plural, target.name, owner=lookup.organization(target)), target.name
    return lookup.place_of(target.kind, row), row["metadata"]["id"]


def _code(end: Json) -> int:
    """The command's own exit code; without one, whether it ended well."""
    status, code = str(end.get("status") or ""), end.get("exit_code")
    if status not in containers.GOOD:
        reason = f" ({end['reason']})" if end.get("reason") else ""
        note(f"{status or 'ended'}{reason}" + (f" with exit code {code}" if code is not None else ""))
    if code is None:
        return 0 if status in containers.GOOD else failures.FAILED
    return int(code) if 0 <= int(code) <= 255 else failures.FAILED


def _say_once() -> Callable[[str], None]:
    last = ""

    def say(comment: str) -> None:
        nonlocal last
        if comment and comment not in ("ping", last):
            last = comment
            note(comment)

    return say
