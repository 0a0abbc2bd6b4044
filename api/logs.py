"""GET …/logs: plain text of what was written so far, or server-sent events that follow it."""

import codecs
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import Response, StreamingResponse

from api.auth import Access, Reader
from api.containers import KIND
from api.output import End, Note, Output, Place, Text
from api.resources import Target, locators
from api.services import Services, Uses
from nebulous.errors import NotFound, RateLimited, Rejected
from nebulous.ids import Address

PING_S = 5.0
FOLLOWERS_AT_ONCE = 500  # through one API process; each holds a connection to Redis
MOST_LINES = 1_000_000


class Wanted:
    """Which part of the log, and whether to wait for more."""

    def __init__(
        self,
        follow: bool = False,
        tail: Annotated[int | None, Query(ge=0, le=MOST_LINES, description="The last lines only.")] = None,
        offset: Annotated[int | None, Query(ge=0, lt=2**63, description="From the `id` of an event on.")] = None,
        since: Annotated[str | None, Query(description="Not in this release.")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> None:
        if since is not None:
            raise Rejected("`since` is not available in this release: lines carry no time", "use tail=LINES")
        if offset is None and last_event_id and last_event_id.isdecimal() and len(last_event_id) < 19:
            offset = int(last_event_id)
        self.follow = follow
        self.tail = tail if offset is None else None
        self.offset = offset


def router() -> APIRouter:
    """Logs by name, and by id also after everything else is gone."""
    routes = APIRouter(prefix=f"/v1/{KIND.plural}", tags=[KIND.plural])
    find_row, by_name = locators(KIND)

    @routes.get("/{id}/logs", name="logs", response_class=Response)
    async def logs_by_id(uses: Uses, access: Reader, id: str, wanted: Annotated[Wanted, Depends()]) -> Response:  # noqa: A002 - the path's word
        """What it wrote; live, archived, or archived after its deletion."""
        try:
            address = (await find_row(uses, access, id)).address
        except NotFound:
            address = await _buried(uses, access, id)
        return await _answer(uses, _output(uses, id.lower(), address), wanted)

    @routes.get("/{namespace}/{name}/logs", name="logs", response_class=Response)
    async def logs_by_name(
        uses: Uses, target: Annotated[Target, Depends(by_name)], wanted: Annotated[Wanted, Depends()]
    ) -> Response:
        """What it wrote, earlier attempts first; with `follow=true` as server-sent events."""
        return await _answer(uses, _output(uses, target.row.metadata.id, target.address), wanted)

    return routes


def _output(uses: Services, life: str, address: Address) -> Output:
    return Output(uses.store, uses.redis, uses.archive.of(life), address)


async def _buried(uses: Services, access: Access, life: str) -> Address:
    """Where a deleted container was, if its archived logs are the caller's to read.

    Raises:
        NotFound: There are none, or they are somebody else's.
    """
    whose = await uses.archive.of(life).whose()
    wanted = access.organizations()
    theirs = whose and (wanted is None or whose.owner.lower() in {name.lower() for name in wanted})
    if not whose or not theirs or access.role_in(whose.owner) is None:
        raise NotFound(f"there is no container with id {life[:60]!r}, and no archived log of one")
    return Address(KIND.id, whose.owner, whose.namespace, whose.name)


async def _answer(uses: Services, output: Output, wanted: Wanted) -> Response:
    if wanted.offset is not None:
        output.place = Place.of(wanted.offset)
    elif wanted.tail is not None:
        await output.seek_lines(wanted.tail, wanted.follow)
    if wanted.follow:
        if len(uses.followers) >= FOLLOWERS_AT_ONCE:
            raise RateLimited(f"{FOLLOWERS_AT_ONCE} logs are being followed through this API", "try again")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(uses, output), media_type="text/event-stream", headers=headers)
    pieces = output.read()
    first = await anext(pieces, None)  # what fails, fails before the reply begins
    return StreamingResponse(_plain(first, pieces), media_type="text/plain")


async def _plain(first: Text | None, rest: AsyncGenerator[Text]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        if first:
            yield first.data
        async for piece in rest:
            yield piece.data


async def _events(uses: Services, output: Output) -> AsyncIterator[bytes]:
    """Server-sent events: `log` with text, `end` with the outcome, comments while there is nothing to read."""
    follower = object()
    uses.followers.add(follower)
    writer = _Writer(output.place)
    items = output.follow()
    try:
        async with contextlib.aclosing(items):
            async for item in items:
                for event in writer.events(item):
                    yield event
    finally:
        uses.followers.discard(follower)


class _Writer:
    """Turns output into events; a character is never cut, and its id is the place after its last byte."""

    def __init__(self, place: Place) -> None:
        # bytes that are no UTF-8 travel as lone surrogates, and become bytes again at the client
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._place = place
        self._words = ""
        self._spoke = time.monotonic()

    def events(self, item: Text | Note | End) -> list[bytes]:
        if isinstance(item, Note):
            return self._note(item)
        self._spoke = time.monotonic()
        if isinstance(item, End):
            about = {"status": item.status, "reason": item.reason, "exit_code": item.exit_code}
            return [*self._rest(), f"event: end\ndata: {json.dumps(about)}\n\n".encode()]
        before = self._rest() if item.after.attempt != self._place.attempt else []
        self._place = item.after
        return [*before, *self._log(self._decoder.decode(item.data))]

    def _note(self, note: Note) -> list[bytes]:
        due = time.monotonic() - self._spoke >= PING_S
        news: bool = note.words not in ("", self._words)
        if not due and not news:
            return []
        self._spoke, self._words = time.monotonic(), note.words or self._words
        plain = (note.words if news else "ping").encode("utf-8", "replace").replace(b"\r", b" ")
        return [b": " + plain.replace(b"\n", b" ") + b"\n\n"]

    def _rest(self) -> list[bytes]:
        """The bytes of a character that never came whole."""
        return self._log(self._decoder.decode(b"", final=True))

    def _log(self, text: str) -> list[bytes]:
        if not text:
            return []
        waiting = len(self._decoder.getstate()[0])
        place = Place(self._place.attempt, self._place.offset - waiting)
        return [f"id: {place.id}\nevent: log\ndata: {json.dumps({'text': text})}\n\n".encode()]
