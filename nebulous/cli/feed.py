"""Rows of some resources as they change: from the server's watch, or by asking again where there is none.

A thread of its own reads the watch, so that the one that waits can keep the time.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from nebulous.client import Api, Json, Place
from nebulous.errors import NebulousError, NotFound, Unavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between two looks, where there is no watch
TICK = 1.0  # seconds after which the last row is shown again, for the clock beside it
LOOK_ANYWAY = 10.0  # seconds; a watch tells what visibility shows, a look what is
#: How long a server may be out of reach before waiting gives up; a restart of `nebu serve` takes less.
PATIENCE = timedelta(seconds=30)


class Looks:
    """Each resource's row at once, and then whenever it changed; None once it is gone.

    Iteration ends when every one has been let go of, or when the time is over.
    """

    def __init__(self, api: Api, places: Iterable[Place], limit: timedelta | None = None) -> None:
        self._api = api
        self._waiting = {_key(place): place for place in places}
        self._rows: dict[tuple[str, str], Json] = {}
        self._shown: tuple[str, str] | None = None
        self._alive = self._looked = time.monotonic()
        self._end = self._alive + limit.total_seconds() if limit is not None else math.inf

    def let_go(self, place: Place) -> None:
        """Look no more for this one."""
        self._waiting.pop(_key(place), None)

    def __iter__(self) -> Iterator[tuple[Place, Json | None]]:
        """Look until nothing is waited for.

        Raises:
            Unavailable: The server stays out of reach.
        """
        yield from self._look()
        feed = self._feed() if self._waiting and time.monotonic() < self._end else None
        try:
            yield from self._until_let_go(feed)
        finally:
            if feed is not None:
                feed.stop()

    def _until_let_go(self, feed: Feed | None) -> Iterator[tuple[Place, Json | None]]:
        pause = FIRST_PAUSE
        while self._waiting and time.monotonic() < self._end:
            if feed is not None and not feed.broken:
                yield from self._heed(feed.next(min(TICK, self._end - time.monotonic())))
                continue
            time.sleep(max(0.0, min(pause, self._end - time.monotonic())))
            pause = min(pause * 1.5, LONGEST_PAUSE)
            yield from self._look()

    def _look(self) -> Iterator[tuple[Place, Json | None]]:
        """Ask for each."""
        self._looked = time.monotonic()
        for place in list(self._waiting.values()):
            yield from self._ask(place)

    def _ask(self, place: Place) -> Iterator[tuple[Place, Json | None]]:
        try:
            row = self._api.get(place)
        except NotFound:
            self._alive = time.monotonic()
            yield place, None
        except Unavailable:
            if time.monotonic() - self._alive > PATIENCE.total_seconds():
                raise
        else:
            self._alive = time.monotonic()
            yield from self._show(place, row)

    def _heed(self, told: tuple[str, Json] | None) -> Iterator[tuple[Place, Json | None]]:
        if told is None:
            yield from self._tick()
            return
        word, row = told
        self._alive = time.monotonic()
        if word == "synced":  # what was deleted before the watch began is not in it
            yield from self._look()
        elif place := self._waiting.get(_key_of(row)):
            # A deletion is a life's: its name may have another by now, or soon.
            yield from self._ask(place) if word == "deleted" else self._show(place, row)

    def _tick(self) -> Iterator[tuple[Place, Json | None]]:
        if time.monotonic() - self._looked > LOOK_ANYWAY:
            yield from self._look()
        elif self._shown is not None and self._shown in self._waiting:
            yield self._waiting[self._shown], self._rows[self._shown]

    def _show(self, place: Place, row: Json) -> Iterator[tuple[Place, Json]]:
        key = _key(place)
        before = self._rows.get(key)
        if before and before["metadata"]["id"] == row["metadata"]["id"] and _version(row) < _version(before):
            return  # visibility is behind what was looked up
        self._rows[key], self._shown = row, key
        yield place, row

    def _feed(self) -> Feed | None:
        places = list(self._waiting.values())
        owners, plurals = {place.owner for place in places}, {place.plural for place in places}
        if len(owners) > 1 or len(plurals) > 1 or not all(place.namespace for place in places):
            return None
        one = {"namespace": places[0].namespace, "name": places[0].name} if len(places) == 1 else {}
        return Feed(self._api, plurals.pop(), owner=owners.pop(), **one)


class Feed:
    """A watch that is read beside whatever else goes on."""

    def __init__(self, api: Api, kind: str, **filters: str | None) -> None:
        self.broken = False
        self._watch = api.watch(kind, **filters)
        self._told: queue.SimpleQueue[tuple[str, Json] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float) -> tuple[str, Json] | None:
        """The next change, or None if there is none within the time, or never will be."""
        try:
            told = self._told.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        self.broken = told is None
        return told

    def stop(self) -> None:
        """Read no more."""
        self._watch.stop()

    def _read(self) -> None:
        try:
            for told in self._watch:
                self._told.put(told)
        except (NebulousError, ValueError, KeyError):  # an older server, or none: then by asking
            self._told.put(None)


def _key(place: Place) -> tuple[str, str]:
    return (place.namespace or "").lower(), place.name.lower()


def _key_of(row: Json) -> tuple[str, str]:
    return str(row["metadata"]["namespace"]).lower(), str(row["metadata"]["name"]).lower()


def _version(row: Json) -> int:
    return int(row["metadata"].get("resource_version") or 0)
