"""Waiting, with a line for every change: until a status is reached, or until nothing is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import typer

from nebulous import durations
from nebulous.cli import failures
from nebulous.cli.feed import Looks
from nebulous.cli.screen import note
from nebulous.cli.views import status_text
from nebulous.client import Api, Json, Place
from nebulous.errors import NebulousError, NotFound


class Progress:
    """Prints how a resource changes: on a terminal the line in force carries a clock, elsewhere a line a change."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._live = sys.stderr.isatty()
        self._begun = time.monotonic()
        self._line = ""  # stands on the terminal without its end, cut to its width

    def show(self, what: str, text: str) -> None:
        """Say it, if it is new."""
        if self._shown.get(what) != text:
            self.finish()
            self._shown[what] = text
            if not self._live:
                note(f"{what} {text}")
        if self._live:
            clock = durations.render(time.monotonic() - self._begun)
            self._line = "".join(char if char.isprintable() else " " for char in f"{what} {text}  {clock}")
            sys.stderr.write(f"\r\x1b[K{_cut(self._line, clock)}")  # what wrapped could not be written over
            sys.stderr.flush()

    def finish(self) -> None:
        """End the line in force, whole: it is not written over any more."""
        if self._line:
            sys.stderr.write(f"\r\x1b[K{self._line}\n")
            sys.stderr.flush()
            self._line = ""


def _cut(line: str, clock: str) -> str:
    """The line as wide as the terminal allows, its clock kept."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
    except OSError:
        width = 0
    if not 0 < width < len(line):
        return line
    return f"{line[: max(0, width - len(clock) - 3)]}…  {clock}"


@contextmanager
def detachable(advice: str, farewell: str | None = None) -> Generator[Progress]:
    """Show progress; Ctrl-C leaves the thing alone, says how to come back, and ends with code 130.

    Args:
        advice: How to come back.
        farewell: Said instead, by who does not leave it alone.
    """
    progress = Progress()
    try:
        yield progress
    except KeyboardInterrupt:
        progress.finish()
        note(farewell or f"detached; {advice}")
        raise typer.Exit(failures.DETACHED) from None
    finally:
        progress.finish()


def until_gone(api: Api, place: Place, life: str | None, progress: Progress, limit: timedelta | None = None) -> None:
    """Look until this life of the resource is proven gone.

    Raises:
        NebulousError: The limit has passed.
    """
    for _ in each_gone(api, [(place, life)], progress, limit):
        pass


def each_gone(
    api: Api, lives: Sequence[tuple[Place, str | None]], progress: Progress, limit: timedelta | None = None
) -> Iterator[Place]:
    """Look until each of these lives is proven gone, and yield its place when it is.

    Raises:
        NebulousError: The limit has passed.
    """
    left = dict(lives)
    looks = Looks(api, left, limit)
    for place, row in looks:
        if row is None or (left[place] and row["metadata"]["id"] != left[place]):
            looks.let_go(place)
            del left[place]
            progress.finish()
            yield place
        else:
            seen = row["metadata"].get("deleted_at") or row["status"]["status"] == "stopping"
            progress.show(called(place), described(row) if seen else f"delete requested, was {status_text(row)}")
    if left:
        raise too_late(left, limit)


def called(place: Place) -> str:
    """`container/foo`."""
    return f"{place.plural.removesuffix('s')}/{place.name}"


def described(row: Json) -> str:
    """`pending (NoCapacity): sold out in us-east-1`; a message may begin with the reason that stands there already."""
    message = str(row["status"].get("message") or "").removeprefix(f"{row['status'].get('reason')}: ")
    return f"{status_text(row)}: {message}" if message else status_text(row)


def tell_away(away: bool) -> None:
    """Say that the server went away, or came back, to whoever waits for what it tells."""
    note("the server is out of reach; trying again" if away else "the server is back")


def gone(place: Place) -> NotFound:
    """Why there is nothing more to wait for."""
    return NotFound(f"{called(place)} is gone: it was deleted meanwhile")


def too_late(places: Iterable[Place], limit: timedelta | None) -> NebulousError:
    """Why waiting ended before its time."""
    names = ", ".join(called(place) for place in places)
    waited = durations.render(limit or 0)
    return NebulousError(f"{names} is not there yet after {waited}", "it goes on: wait again, or longer")
