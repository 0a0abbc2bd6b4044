"""GET /v1/watch: server-sent events, first of what there is, then of what changes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse

from api.auth import Reader
from api.changes import MARGIN, Sight, Watcher
from api.filters import Filters
from api.lists import Wanted
from api.marks import Mark
from api.resources import Surface, shown_all
from api.services import Services, Uses
from api.views import Told, View
from nebulous import temporal
from nebulous.errors import RateLimited
from nebulous.models import kinds
from nebulous.tokens import Role

PING_S = 5.0
WATCHERS_AT_ONCE = 500  # through one API process
#: A watch ends after this, and its reader comes back with a cursor: so that a token that has expired ends it for good.
LONGEST_S = 3600.0


class Asked:
    """What somebody wants to watch, and from where on."""

    def __init__(
        self,
        kind: str = "container",
        namespace: str | None = None,
        label: Annotated[list[str] | None, Query(description="k=v; repeatable")] = None,
        name: str | None = None,
        cursor: Annotated[str | None, Query(max_length=4096, description="The `id` of the last event seen.")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> None:
        self.kind = kinds.find(kind)
        self.cursor = cursor or last_event_id
        self.filters = Filters(namespace=namespace, label=label, name=name)


@dataclass(frozen=True)
class Watch:
    """One watch, ready to begin."""

    uses: Services
    surface: Surface
    organization: str
    role: Role
    wanted: Wanted
    cursor: str | None

    async def events(self) -> AsyncGenerator[bytes]:
        """Everything, from the first row on; ends when the reader is too slow, or the server stops.

        Raises:
            Unavailable: Temporal does not answer; only before the first event.
        """
        changes, kind = self.uses.changes, self.surface.kind.id
        async with changes.watcher(kind, self.organization) as watcher:
            now = changes.now()
            mark = Mark.read(self.cursor, self._key, self._about, now) if self.cursor else None
            view = View(self.organization, self.wanted, changes, mark or Mark(now))
            present = await changes.look(temporal.open_query(kind, self.organization, *self.wanted.clauses()))
            told = view.resume(present, await self._closed_since(mark)) if mark else view.begin(present)
            if self.cursor and not mark:
                yield _event("reset", {})
            for chunk in self._written(told, view if mark else None):
                yield chunk
            view.mark.advance(now)
            yield _event("synced", {}, self._id(view))
            async for chunk in self._follow(watcher, view):
                yield chunk

    async def _closed_since(self, mark: Mark) -> list[Sight]:
        closed = ["ExecutionStatus != 'Running'", *self.wanted.clauses()]
        query = temporal.changed_query([self.surface.kind.id], mark.at - MARGIN, self.organization, *closed)
        return await self.uses.changes.look(query)

    async def _follow(self, watcher: Watcher, view: View) -> AsyncGenerator[bytes]:
        spoke = begun = time.monotonic()
        while not watcher.ended and time.monotonic() - begun < LONGEST_S:
            sights, read_to = await watcher.take(PING_S)
            if watcher.dropped:
                yield _event("dropped", {"message": "you read too slowly; come back with the last id"})
                return
            written = list(self._written(view.follow(sights), view))
            for chunk in written:
                yield chunk
            if read_to:
                view.mark.advance(read_to)
            if written or time.monotonic() - spoke >= PING_S:
                spoke = time.monotonic()
                yield f"{self._id(view)}: ping\n\n".encode()  # an id by itself: what was sent is behind the reader

    def _written(self, told: Iterable[Told], view: View | None) -> Iterator[bytes]:
        """As events; without a view they have no ids, for half a snapshot is nothing to go on from."""
        for word, row in told:
            for resource in shown_all(self.surface, [row], self.role):
                yield _event(word, resource, self._id(view) if view else "")

    def _id(self, view: View) -> str:
        return f"id: {view.mark.cursor(self._key, self._about)}\n"

    @property
    def _key(self) -> bytes:
        return self.uses.store.lists.cursor_key

    @property
    def _about(self) -> str:
        """What is watched, as text; a cursor is good for the same alone."""
        return "\n".join(
            [self.surface.kind.id, self.organization.lower(), *sorted(self.wanted.clauses()), str(self.wanted.labels)]
        )


def _event(name: str, data: dict[str, Any], id_line: str = "") -> bytes:
    return f"{id_line}event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def router(surfaces: Sequence[Surface]) -> APIRouter:
    """The one route, for every kind."""
    routes = APIRouter(prefix="/v1", tags=["watch"])
    by_kind = {surface.kind.id: surface for surface in surfaces}

    @routes.get("/watch", name="watch", response_class=StreamingResponse)
    async def watch(uses: Uses, access: Reader, asked: Annotated[Asked, Depends()]) -> StreamingResponse:
        """What there is as `added`, then `synced`, then each change as `added`, `modified` or `deleted`."""
        surface = by_kind[asked.kind.id]
        role = access.role_in(access.organization) or "viewer"
        wanted = asked.filters.wanted(asked.kind, surface.statuses)
        if len(uses.changes) >= WATCHERS_AT_ONCE:
            raise RateLimited(f"{WATCHERS_AT_ONCE} watches go on through this API", "try again")
        events = Watch(uses, surface, access.organization, role, wanted, asked.cursor).events()
        first = await anext(events)  # what fails, fails before the reply begins
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_all(first, events), media_type="text/event-stream", headers=headers)

    return routes


async def _all(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
