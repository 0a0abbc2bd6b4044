"""`nebu wait`: until containers have finished, or have a status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated

import typer

from nebulous import durations
from nebulous.cli import failures, options
from nebulous.cli.containers import FINAL, GOOD, STATUSES
from nebulous.cli.feed import Looks
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import Selection, select
from nebulous.cli.progress import Progress, called, described, detachable, each_gone, gone, too_late
from nebulous.cli.screen import note
from nebulous.client import Json, Place
from nebulous.errors import NotFound

DELETED = "deleted"
FINISHED = "finished"
READY = "ready"
#: Ways to write it that people know from elsewhere.
_PREFIXES = ("status=", "condition=")


def command(
    names: options.Names = None,
    wanted: Annotated[
        str, typer.Option("--for", metavar="STATUS", help="A status, finished, ready, or deleted.")
    ] = FINISHED,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Such as 5m; default: for ever.")
    ] = None,
    namespace: options.Namespace = None,
    labels: options.Labels = None,
    owner: options.Owner = None,
) -> int:
    """Wait for all of them; exit code 0 when it came to that, 1 when one failed or can no longer come to that."""
    selection = select(names or [])
    reached, limit = check(wanted), _limit(timeout)
    if selection.targets and labels:
        raise failures.UsageError("give names, or -l: not both")
    if not selection.targets and not labels:
        selection.only()
    lookup = connect().within(namespace, owner)
    lives = _chosen(selection, labels, lookup, reached)
    return wait_for_all(lookup, lives, reached, limit) if lives else 0


def check(word: str) -> str:
    """The status that is waited for.

    Raises:
        UsageError: There is no such status; with the nearest.
    """
    folded = word.lower()
    for prefix in _PREFIXES:
        folded = folded.removeprefix(prefix)
    if folded == "delete":
        return DELETED
    known = (*STATUSES, FINISHED, READY, DELETED)
    if folded in known:
        return folded
    guess = get_close_matches(folded, known, n=1)
    advice = f"did you mean {guess[0]!r}?" if guess else f"choose one of {', '.join(known)}"
    raise failures.UsageError(f"--for {word!r} is no status", advice)


def wait(
    lookup: Lookup,
    place: Place,
    life: str,
    wanted: str,
    limit: timedelta | None = None,
    farewell: str | None = None,
) -> int:
    """Wait for one with progress; return the exit code. Ctrl-C says `farewell`, or how to come back."""
    return wait_for_all(lookup, {place: life}, wanted, limit, farewell)


def wait_for_all(
    lookup: Lookup,
    lives: Mapping[Place, str],
    wanted: str,
    limit: timedelta | None = None,
    farewell: str | None = None,
) -> int:
    """Wait for all with progress; return the exit code."""
    first = next(iter(lives))
    back = f"{first.name}{lookup.options(first.namespace or '')}"
    flag = "" if wanted == FINISHED else f" --for {wanted}"
    advice = f"{first.name} goes on; come back with: nebu wait {back}{flag}, or nebu logs -f {back}"
    if len(lives) > 1:
        advice = f"they go on; look with: nebu get {first.plural}"
    with detachable(advice, farewell) as progress:
        if wanted == DELETED:
            for _ in each_gone(lookup.api, list(lives.items()), progress, limit):
                pass
            return 0
        rows = _arrived(lookup, lives, wanted, progress, limit)
    codes = [_judge(lookup, place, row, wanted) for place, row in rows.items()]
    return next((code for code in codes if code), 0)


def _chosen(selection: Selection, labels: list[str] | None, lookup: Lookup, wanted: str) -> dict[Place, str]:
    """The lives to wait for. What is not there is an error, except to whoever waits for it to be gone."""
    kind, rows = selection.kind, list[Json]()
    for target in selection.targets:
        try:
            rows.append(lookup.find(target))
        except NotFound:
            if wanted != DELETED:
                raise
    if labels:
        rows = lookup.rows(kind, labels)
        if not rows and wanted != DELETED:
            where = f" in namespace {lookup.namespace}" if lookup.namespace else ""
            raise NotFound(
                f"no {kind.plural} match -l {' -l '.join(labels)}{where}",
                f"`nebu get {kind.plural}` lists what there is",
            )
    return {lookup.place_of(kind, row): row["metadata"]["id"] for row in rows}


def _arrived(
    lookup: Lookup, lives: Mapping[Place, str], wanted: str, progress: Progress, limit: timedelta | None
) -> dict[Place, Json]:
    """Each one's row when waiting for it made no more sense: it was there, had ended otherwise, or another life began.

    Raises:
        NotFound: One is gone. NebulousError: The limit has passed.
    """
    rows: dict[Place, Json] = {}
    looks = Looks(lookup.api, lives, limit)
    for place, row in looks:
        if row is None:
            raise gone(place)
        progress.show(called(place), described(row))
        metadata = row["metadata"]
        if metadata["id"] != lives[place] and metadata.get("deleted_at"):
            continue  # the one before is still on its way out
        if _is(row, wanted) or row["status"]["status"] in FINAL or metadata["id"] != lives[place]:
            rows[place] = row
            looks.let_go(place)
    late = [place for place in lives if place not in rows]
    if late:
        raise too_late(late, limit)
    return rows


def _is(row: Json, wanted: str) -> bool:
    status = row["status"]
    return status["status"] == wanted or (wanted == READY and bool(status.get("ready")))


def _judge(lookup: Lookup, place: Place, row: Json, wanted: str) -> int:
    """The exit code for what one came to; says what went wrong."""
    status = row["status"]["status"]
    unchecked = wanted == READY and not row.get("health_check")  # then ready is running
    short = status == "completed" and (wanted == "running" or unchecked)  # it ran, too short to be seen
    if _is(row, wanted) or (wanted == FINISHED and status in GOOD) or short:
        return 0
    back = f"{place.name}{lookup.options(place.namespace or '')}"
    note(f"{called(place)} is {described(row)}")
    note(f"see why: nebu describe {back}, nebu logs {back}")
    return failures.FAILED


def _limit(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return durations.parse(text)
    except ValueError as error:
        raise failures.UsageError(f"--timeout: {error}") from error
