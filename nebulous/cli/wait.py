"""`nebu wait`: until a container has finished, or has a status."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated

import typer

from nebulous import durations
from nebulous.cli import failures, options
from nebulous.cli.containers import FINAL, GOOD, STATUSES
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import select
from nebulous.cli.progress import called, described, detachable, until, until_gone
from nebulous.cli.screen import note
from nebulous.client import Json, Place
from nebulous.errors import NotFound

DELETED = "deleted"
FINISHED = "finished"


def command(
    names: options.OneName,
    wanted: Annotated[str, typer.Option("--for", metavar="STATUS", help="A status, finished, or deleted.")] = FINISHED,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="Such as 5m; default: for ever.")
    ] = None,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
) -> int:
    """Wait; exit code 0 when it came to that, 1 when it failed or can no longer come to that."""
    target = select(names).only()
    reached = check(wanted)
    limit = _limit(timeout)
    lookup = connect().within(namespace, owner)
    try:
        row = lookup.find(target)
    except NotFound:
        if reached == DELETED:
            return 0
        raise
    return wait(lookup, lookup.place_of(target.kind, row), row["metadata"]["id"], reached, limit)


def check(word: str) -> str:
    """The status that is waited for.

    Raises:
        UsageError: There is no such status; with the nearest.
    """
    folded = word.lower()
    known = (*STATUSES, FINISHED, DELETED)
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
    """Wait with progress; return the exit code. Ctrl-C says `farewell`, or how to come back."""
    back = f"{place.name}{lookup.options(place.namespace or '')}"
    flag = "" if wanted == FINISHED else f" --for {wanted}"
    advice = f"{place.name} goes on; come back with: nebu wait {back}{flag}, or nebu logs -f {back}"
    with detachable(advice, farewell) as progress:
        if wanted == DELETED:
            until_gone(lookup.api, place, life, progress, limit)
            return 0
        row = until(lookup.api, place, _over(wanted, life), progress, limit)
    status = row["status"]["status"]
    if status == wanted or (wanted == FINISHED and status in GOOD) or (wanted == "running" and status == "completed"):
        return 0
    note(f"{called(place)} is {described(row)}")
    note(f"see why: nebu describe {back}, nebu logs {back}")
    return failures.FAILED


def _over(wanted: str, life: str) -> Callable[[Json], bool]:
    """True when waiting makes no more sense: it is there, it has ended otherwise, or another life has begun."""

    def over(row: Json) -> bool:
        status = row["status"]["status"]
        return status == wanted or status in FINAL or row["metadata"]["id"] != life

    return over


def _limit(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return durations.parse(text)
    except ValueError as error:
        raise failures.UsageError(f"--timeout: {error}") from error
