"""What a container wrote, attempt by attempt: from the archive what is over, from its worker what is live.

The two show the same bytes of an attempt, so a reader can go from one to the other at any byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from api.store import Store
from nebulous import ids
from nebulous.archive import ArchivedLogs
from nebulous.errors import NebulousError, NotFound, Unavailable
from nebulous.ids import Address
from nebulous.lines import LastLines
from nebulous.models.containers import FINAL, Status
from nebulous.models.resources import Row
from nebulous.sessions import NOWHERE, Session, SessionRequest

POLL_S = 0.3
FIRST = 1  # attempt
LOOKS = 3  # at what moves from live to archived while it is read
_OFFSET_BITS = 40


@dataclass(frozen=True, order=True)
class Place:
    """A byte of the output: of which attempt, and which one."""

    attempt: int = 0
    offset: int = 0

    @property
    def id(self) -> int:
        """One number that grows with the output, for `Last-Event-ID` and `?offset=`."""
        return self.attempt << _OFFSET_BITS | self.offset

    @classmethod
    def of(cls, number: int) -> Place:
        """The place that `id` named."""
        return cls(number >> _OFFSET_BITS, number & ((1 << _OFFSET_BITS) - 1))


@dataclass(frozen=True)
class Text:
    """Bytes that were written, and the place after them."""

    data: bytes
    after: Place


@dataclass(frozen=True)
class Note:
    """A sign of life, in words when there is something to say."""

    words: str = ""


@dataclass(frozen=True)
class End:
    """How it ended."""

    status: str
    reason: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class View:
    """What is known of the container at a moment."""

    status: dict[str, Any] = field(default_factory=dict[str, Any])
    rental: str | None = None  # the key of what is rented for the current attempt
    account: str = ""
    gone: bool = False

    @property
    def attempt(self) -> int:
        """The current attempt, from 1."""
        return int(self.status.get("attempt") or 0)

    @property
    def over(self) -> bool:
        """True when nothing more will be written."""
        return self.gone or self.status.get("status") in FINAL

    @property
    def began(self) -> bool:
        """True from when the command runs."""
        return self.over or self.status.get("status") in {Status.RUNNING, Status.RESTARTING, Status.STOPPING}

    @property
    def phase(self) -> tuple[object, ...]:
        """Changes whenever there may be something new to read."""
        return self.gone, self.rental, *(self.status.get(key) for key in ("status", "attempt", "restarts"))

    @property
    def words(self) -> str:
        """The status for people."""
        parts = (str(self.status.get(key) or "") for key in ("status", "reason", "message"))
        return ": ".join(part for part in parts if part).replace("\n", " ")

    @property
    def end(self) -> End:
        """The status as the last word of a followed log."""
        if self.gone and self.status.get("status") not in FINAL:
            return End("deleted", "Deleted")
        return End(
            str(self.status.get("status") or Status.DEFINED),
            str(self.status.get("reason") or ""),
            self.status.get("exit_code"),
        )


class Output:
    """The output of one life, from a place on."""

    def __init__(self, store: Store, redis: Any, archive: ArchivedLogs, address: Address) -> None:  # noqa: ANN401 - Redis is generic in its stubs
        self._store = store
        self._redis = redis
        self._archive = archive
        self._address = address
        self._last = View()
        self._tail: int | None = None  # lines of what is live, when that is all that is known of the place
        self.place = Place()

    async def seek_lines(self, count: int, follow: bool = False) -> None:
        """Go to where the last `count` lines begin, in whichever attempt that is.

        Args:
            count: How many lines.
            follow: Somebody may come back to a place behind, so that all of them have to be exact. Else the last
                lines of what is live may be read without knowing where in it they are.

        Raises:
            Unavailable: The worker that could tell does not answer.
        """
        self._tail = None
        view = await self._look()
        kept = await self._kept(view)
        for attempt in reversed(_attempts(view, kept)):
            found = await self._measure(view, attempt, kept.get(attempt), count, follow)
            if found.offset == NOWHERE:
                found, self._tail = LastLines(0, found.count), count
            self.place = Place(attempt, found.offset)
            count -= found.count
            if count <= 0:
                return

    async def read(self) -> AsyncGenerator[Text]:
        """Yield what was written so far.

        Raises:
            Unavailable: The worker that has the rest does not answer.
        """
        for looks_left in reversed(range(LOOKS)):
            try:
                async for item in self._news(await self._look(), follow=False):
                    if isinstance(item, Text):
                        yield item
            except NotFound:  # it went from live to archived just now
                if not looks_left:
                    return
                if self._tail is not None:
                    await self.seek_lines(self._tail)
            else:
                return

    async def follow(self) -> AsyncGenerator[Text | Note | End]:
        """Yield what is written, as it is written, until the life is over; broken sessions are begun anew."""
        while True:
            view = await self._look()
            drained = True
            try:
                async for item in self._news(view, follow=True):
                    yield item
            except (Unavailable, NotFound) as error:
                drained = False
                yield Note(error.message)
            if view.over and drained:
                yield view.end
                return
            async for note in self._until_changed(view, drained):
                yield note

    async def _until_changed(self, view: View, drained: bool) -> AsyncGenerator[Note]:
        while True:
            yield Note(self._last.words)  # a session may have lasted since `view`
            await asyncio.sleep(POLL_S)
            now = await self._look()
            if not drained or now.phase != view.phase:
                return

    async def _look(self) -> View:
        try:
            found = await self._store.look(self._address)
        except NebulousError:
            if self._last.status:  # Temporal is away: what was true may still be
                return self._last
            raise
        if found is None or not found.open or found.row.metadata.id != self._archive.life:
            same = found is not None and found.row.metadata.id == self._archive.life
            self._last = View(found.row.status if found and same else self._last.status, gone=True)
        else:
            self._last = view_of(found.row)
        return self._last

    async def _kept(self, view: View) -> dict[int, int]:
        """What is archived; an archive that is away holds up nobody who reads what is live."""
        try:
            return await self._archive.attempts()
        except Unavailable:
            if view.rental and view.attempt == max(FIRST, self.place.attempt):
                return {}
            raise

    async def _news(self, view: View, follow: bool) -> AsyncGenerator[Text | Note]:
        """What is there beyond the current place, archived first, then live."""
        kept = await self._kept(view)
        for attempt in _attempts(view, kept):
            if attempt < self.place.attempt:
                continue
            if attempt > self.place.attempt:
                self.place = Place(attempt)
            if attempt in kept:
                async with aclosing(self._archive.read(attempt, self.place.offset)) as archived:
                    async for data in archived:
                        yield self._advance(data)
            else:
                async for item in self._live(view, follow):
                    yield item

    async def _live(self, view: View, follow: bool) -> AsyncGenerator[Text | Note]:
        request = SessionRequest(key=str(view.rental), follow=follow, offset=self.place.offset, tail=self._tail)
        async with self._session(view, request) as session:
            async for chunk in session.chunks():
                if chunk.data:
                    yield self._advance(chunk.data)
                    continue
                if not view.began:  # what is rented boots, pulls, starts; once it runs only the output is news
                    view = await self._look()
                yield Note(view.words)

    async def _measure(self, view: View, attempt: int, size: int | None, count: int, follow: bool) -> LastLines:
        """Where the last lines begin, of an attempt that is archived with this size, or else live."""
        if size is not None:
            return await self._archive.last_lines(attempt, size, count)
        request = SessionRequest(kind="tail", key=str(view.rental), tail=count, follow=follow)
        async with self._session(view, request) as session:
            return LastLines(session.hello.offset, session.hello.lines)

    def _session(self, view: View, request: SessionRequest) -> Session:
        return Session(self._redis, ids.platform_queue(view.account), request)

    def _advance(self, data: bytes) -> Text:
        self.place = Place(self.place.attempt, self.place.offset + len(data))
        return Text(data, self.place)


def _attempts(view: View, kept: Iterable[int]) -> list[int]:
    """Those whose output is somewhere, in order."""
    return sorted({*kept, view.attempt} if view.rental else kept)


def view_of(row: Row) -> View:
    """Of what is rented, the instance that the status names, else the latest that answered."""
    answered = {key: rental for key, rental in row.rentals.items() if rental.get("instance_id")}
    current = row.status.get("instance_id")
    keys = sorted(answered, key=lambda key: (answered[key]["instance_id"] == current, str(answered[key].get("since"))))
    if not keys:
        return View(row.status)
    return View(row.status, keys[-1], str(answered[keys[-1]].get("account") or row.status.get("account") or ""))
