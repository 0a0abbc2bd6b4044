"""`nebu logs`: what the command wrote, byte for byte; with -f until it ends, with its own exit code."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from nebulous.cli import containers, failures, options
from nebulous.cli.lookup import Lookup, connect, looks_like_id
from nebulous.cli.names import Target, select
from nebulous.cli.progress import called, described, tell_away
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


def follow_log(
    lookup: Lookup,
    place: Place,
    life: str | None,
    start: Json,
    farewell: str | None = None,
    *,
    whole: bool = False,
) -> int:
    """Pass the log on until the command ends; return its exit code. Ctrl-C says `farewell`, or how to come back.

    Args:
        whole: Show the life around the log, too: that it runs, and how it ended even when that was well.

    Raises:
        Unreachable: The server stayed away; the hint goes on at the same byte.
    """
    log = lookup.api.follow(place, life, **start)
    log.away = tell_away
    states = _States(called(place))
    log.comment = states.heard
    name = f"{place.name}{lookup.options(place.namespace or '')}"
    try:
        with log:  # closed here: what the collector closes later waits for a lock that its own thread may hold
            for chunk in log:
                states.written(chunk, whole)
                emit_bytes(chunk)
    except Unavailable as error:
        at = f" --offset {log.offset}" if log.offset is not None else ""
        raise Unreachable(f"the log broke off: {error.message}", f"go on with: nebu logs -f {name}{at}") from error
    except KeyboardInterrupt:
        note(farewell or f"detached; come back with: nebu logs -f {name} --tail 20, or end it with: nebu stop {name}")
        return failures.DETACHED
    end = log.end or {}
    code = _code(end, states, whole)
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


def _code(end: Json, states: _States, whole: bool) -> int:
    """The command's own exit code; without one, whether it ended well."""
    status, code = str(end.get("status") or ""), end.get("exit_code")
    if whole or status not in containers.GOOD:
        states.say(containers.status_text({"status": {**end, "status": status or "ended"}}))
    if code is None:
        return 0 if status in containers.GOOD else failures.FAILED
    return int(code) if 0 <= int(code) <= 255 else failures.FAILED


#: What a container is before its command runs.
BEFORE = frozenset({"defined", "queued", "pending", "creating", "created"})


class _States:
    """The states between the lines of a log, on stderr.

    The server says them beside the log, from what it knows by then, which may be behind what is already written. So a
    line of output is itself the news that the command runs, and what comes before that is not told behind it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = ""
        self._behind = self._inside = False  # states may come late; the output is in the middle of a line

    def heard(self, comment: str) -> None:
        """The server said something while there was nothing to read: `pending: NoCapacity: sold out`, or a ping."""
        if comment in ("", "ping"):
            return
        word, _, rest = comment.partition(": ")
        if word not in containers.STATUSES:  # such as a worker that does not answer
            self._tell(comment)
            return
        reason, _, message = rest.partition(": ") if rest.partition(":")[0].isalnum() else ("", "", rest)
        if not (self._behind and word in BEFORE):
            self._behind = False
            self.say(described({"status": {"status": word, "reason": reason, "message": message}}))

    def written(self, chunk: bytes, whole: bool) -> None:
        """Output comes: the command runs, or did."""
        if not self._last.startswith("running"):
            self._behind = True
            if whole:
                self.say("running")
            self._last = "running"
        self._inside = not chunk.endswith(b"\n")

    def say(self, text: str) -> None:
        """Tell a state that was not told last, on a line of its own."""
        if text != self._last:
            self._last = text
            self._tell(f"{self._what} {text}")

    def _tell(self, text: str) -> None:
        if self._inside and sys.stdout.isatty() and sys.stderr.isatty():
            note("")
        self._inside = False
        note(text)
