"""Rows of some resources as they change: asked for at first, so that short waits need no more; then told by one watch.

Where there is no watch (an older server, or too many watch already) they are asked for again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from time import monotonic
from typing import NamedTuple

from nebulous import waiting
from nebulous.client._async.api import AsyncApi
from nebulous.client._async.beside import AsyncBeside
from nebulous.client._async.follow import AsyncWatch
from nebulous.client.watching import key_of, life_of, version_of
from nebulous.client.wire import Change, Json, Place
from nebulous.errors import NotFound, Unavailable
from nebulous.waiting import Limit

QUICK_S = 2.0  # so long a single one is asked for before a watch is begun
LOOK_ANYWAY_S = 10.0  # a watch tells what visibility shows, a look what is
LOOKS_PER_S = 10  # at most, of those
LAST_LOOK_S = 1.0  # for an answer when the time is over
AGAIN_S = 30.0  # after which a watch that could not be is tried once more

Key = tuple[str, str, str]  # organization as it was said, namespace and name


class Look(NamedTuple):
    """How one is now; or that it is gone, and its last row where that was told."""

    place: Place
    row: Json
    gone: NotFound | None = None


class AsyncLooks:
    """Looks at each place now, and then whenever something changed there."""

    def __init__(self, api: AsyncApi, places: Iterable[Place], limit: Limit = None) -> None:
        self._api = api
        self._waiting: dict[Key, Place] = {_key(place): place for place in places}
        self._owner = ""  # of all that the watch tells
        self._first: dict[str, int] = {}  # life -> the version that it had when it was asked for first
        self._untold: set[Key] = set()  # of which the watch has said nothing yet
        self._alive = monotonic()
        self._end = self._alive + waiting.seconds(limit)

    def let_go(self, place: Place) -> None:
        """Look no more at this one."""
        self._waiting.pop(_key(place), None)

    async def looks(self) -> AsyncGenerator[Look]:
        """Until all are let go of, or the time is over.

        Raises:
            Unavailable: The server stays out of reach.
        """
        async for look in self._asked(self._waiting):
            yield look
        if len(self._waiting) == 1:
            async for look in self._polled(QUICK_S):
                yield look
        while self._goes_on():
            async with aclosing(self._listened()) as listened:  # whoever leaves early lets go of the connection
                async for look in listened:
                    yield look
            async for look in self._polled(AGAIN_S):
                yield look

    def _goes_on(self) -> bool:
        return bool(self._waiting) and monotonic() < self._end

    def _patience(self) -> float:
        """How long one answer may take: a server that hangs makes nobody wait much beyond the limit."""
        return min(self._api.timeout.total_seconds(), max(LAST_LOOK_S, self._end - monotonic()))

    async def _polled(self, seconds: float) -> AsyncGenerator[Look]:
        """Ask again and again, often at first, the last time when the time is over."""
        pause, until = waiting.FIRST_PAUSE, min(monotonic() + seconds, self._end)
        while self._waiting and monotonic() < until:
            await asyncio.sleep(max(0.0, min(pause, until - monotonic())))
            pause = min(pause * waiting.GROWTH, waiting.LONGEST_PAUSE)
            async for look in self._asked(self._waiting):
                yield look

    async def _listened(self) -> AsyncGenerator[Look]:
        """Take what a watch tells, until it ends; and ask all the same now and then, the last time at the end."""
        watch = self._watch()
        if watch is None or not self._api.watches.acquire(blocking=False):
            return
        told = AsyncBeside(watch, self._api.watches.release)
        self._untold, looked = set(self._waiting), monotonic()
        try:
            while self._goes_on():
                due = min(looked + max(LOOK_ANYWAY_S, len(self._waiting) / LOOKS_PER_S), self._end)
                change = await told.next(due - monotonic())
                if told.over:
                    return
                if change:
                    async for look in self._heard(change):
                        yield look
                if monotonic() >= due:
                    async for look in self._asked(self._waiting):
                        yield look
                    looked = monotonic()
        finally:
            await told.aclose()

    def _watch(self) -> AsyncWatch | None:
        """One for all of them, where one can be."""
        places = [*self._waiting.values()]
        owners, spaces = {place.owner for place in places}, {place.namespace for place in places}
        plurals = {place.plural for place in places}
        if len(owners) != 1 or len(plurals) != 1 or None in spaces:
            return None
        self._owner = places[0].owner or ""
        name = places[0].name if len(places) == 1 else None
        space = spaces.pop() if len(spaces) == 1 else None
        return self._api.watch(plurals.pop(), owner=owners.pop(), namespace=space, name=name)

    async def _heard(self, change: Change) -> AsyncGenerator[Look]:
        self._alive = monotonic()
        if change.kind == "synced":  # what went before the watch began is not in it
            async for look in self._asked(self._untold & self._waiting.keys()):
                yield look
            return
        key = (self._owner, *key_of(change.resource)) if change.resource else None
        place = self._waiting.get(key) if key else None
        if key is None or place is None:
            return
        self._untold.discard(key)
        if change.kind == "deleted":
            yield Look(place, change.resource, NotFound(f"{place.plural[:-1]} {place.name!r} was deleted"))
        elif version_of(change.resource) >= self._first.get(life_of(change.resource), 0):
            yield Look(place, change.resource)  # anything older had passed before the wait began

    async def _asked(self, keys: Collection[Key]) -> AsyncGenerator[Look]:
        """Ask for each."""
        for key in [*keys]:
            place = self._waiting.get(key)
            if place is None:  # let go of meanwhile
                continue
            try:
                row = await self._api.glance(place.path, self._patience(), owner=place.owner)
            except NotFound as error:
                self._alive = monotonic()
                yield Look(place, {}, error)
            except Unavailable:
                if monotonic() - self._alive > self._api.patience.total_seconds():
                    raise
                return
            else:
                self._alive = monotonic()
                self._first.setdefault(life_of(row), version_of(row))
                yield Look(place, row)


def _key(place: Place) -> Key:
    return place.owner or "", (place.namespace or "").lower(), place.name.lower()
