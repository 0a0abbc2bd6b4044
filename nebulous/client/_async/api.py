"""The client of the REST API: plain dicts in and out, one method for each thing the API does.

It imports no model, so that a command starts fast; the typed client builds on it. A write carries an
`Idempotency-Key`, so every request may be repeated after a broken connection. What the API refuses is raised
as the class of `nebulous.errors` that its `error.type` names.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Self

import httpx

from nebulous import contexts
from nebulous.client import wire
from nebulous.client._async.follow import PATIENCE, SILENCE, AsyncLogFollow, AsyncWatch
from nebulous.client.wire import Created, Json, Place

WATCHES_AT_ONCE = 10
OUTCOME, NOTICE = "X-Nebu-Outcome", "X-Nebu-Notice"


class AsyncApi:
    """A connection to one server as one caller; a context manager."""

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        notice: Callable[[str], None] | None = None,
        patience: timedelta = PATIENCE,
        timeout: timedelta = wire.READ_TIMEOUT,
    ) -> None:
        self.server = contexts.server_url(server)
        self.patience, self.timeout = patience, timeout
        #: What the server had to say beside its answers, unless `notice` took it.
        self.notices: list[str] = []
        #: How many waits may listen at once; each has a connection to itself, and the others do without.
        self.watches = threading.Semaphore(WATCHES_AT_ONCE)
        self._notice = notice or self.notices.append
        self._http = httpx.AsyncClient(**wire.settings(self.server, token, timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._http.aclose()

    @property
    def headers(self) -> httpx.Headers:
        """What every request carries, the token included."""
        return self._http.headers

    async def read(self, path: str, /, **query: Any) -> Any:  # noqa: ANN401 - any JSON
        """GET a path of the API, such as `/v1/platforms`; parameters that are None are left out."""
        return wire.decoded(await self._send("GET", path, query))

    async def rows(self, plural: str, **filters: Any) -> AsyncGenerator[Json]:  # noqa: ANN401 - query parameters
        """The resources of a kind, newest first, a page at a time.

        Filters are namespace, owner, status, label, queue and name; `limit` is the size of a page.
        """
        cursor: str | None = None
        while True:
            page: Json = await self.read(f"/v1/{plural}", **filters, cursor=cursor)
            for row in page[plural]:
                yield row
            cursor = page.get("cursor")
            if not cursor:
                return

    async def list(self, plural: str, **filters: Any) -> list[Json]:  # noqa: ANN401 - query parameters
        """All resources of a kind; the filters of `rows`."""
        return [row async for row in self.rows(plural, **filters)]

    async def get(self, place: Place, **query: Any) -> Json:  # noqa: ANN401 - query parameters
        """One resource.

        Raises:
            NotFound: It does not exist (any more).
        """
        return await self.read(place.path, owner=place.owner, **query)

    async def create(self, plural: str, document: Json, owner: str | None = None, key: str | None = None) -> Created:
        """Create a resource; the same document again gives the same one, and so does the same key.

        Args:
            plural: The kind.
            document: As in a file.
            owner: Organization; None is the token's own.
            key: Idempotency key; default one of this call's own, kept over its repetitions.
        """
        return _created(await self._send("POST", f"/v1/{plural}", {"owner": owner}, document, key))

    async def apply(self, place: Place, document: Json, *, replace: bool = False, key: str | None = None) -> Created:
        """Make the resource what the document says: create it, or change in place what can change.

        Raises:
            Conflict: It would need a new life, and `replace` is not true; or it changed since it was read.
        """
        query = {"owner": place.owner, "replace": replace or None}
        return _created(await self._send("PUT", place.path, query, document, key))

    async def patch(self, place: Place, document: Json, *, key: str | None = None) -> Created:
        """Change the fields of the document in place (JSON merge patch); `metadata.resource_version` guards it.

        Raises:
            Conflict: One of them needs a new life, or it changed since.
        """
        return _created(await self._send("PATCH", place.path, {"owner": place.owner}, document, key))

    async def plan(self, place: Place, document: Json, *, assume: Sequence[str] = ()) -> Json:
        """What `apply` would do: `outcome`, `changes` of `{field, from, to, in_place}`, and the `resource_version`.

        `assume` names what to take for existing, as KIND/NAMESPACE/NAME.
        """
        query = {"owner": place.owner, "dry_run": True, "assume": [*assume] or None}
        return wire.decoded(await self._send("PUT", place.path, query, document))

    async def foresee(self, plural: str, document: Json, owner: str | None = None) -> Json:
        """What creating the document would come to: `outcome`, and for containers `offers` and what is `out`.

        Raises:
            NebulousError: What creating would raise.
        """
        return wire.decoded(await self._send("POST", f"/v1/{plural}", {"owner": owner, "dry_run": True}, document))

    async def delete(self, place: Place) -> Json:
        """Ask for the end of a resource, and return at once; it is gone when `get` raises NotFound."""
        return wire.decoded(await self._send("DELETE", place.path, {"owner": place.owner}))

    async def act(self, place: Place, action: str) -> Json:
        """Ask for `stop`, `start` or `restart`, and return at once."""
        return (await self.ask(place, action)).resource

    async def ask(self, place: Place, action: str) -> Created:
        """Like `act`, with the outcome: `accepted`, or `same` when it is so already."""
        return _created(await self._send("POST", f"{place.path}/{action}", {"owner": place.owner}))

    async def history(self, place: Place) -> Json:
        """What happened to a resource: `events` and `attempts`, oldest first."""
        return await self.read(f"{place.path}/events", owner=place.owner)

    async def stats(self, place: Place) -> Json:
        """What a running container uses.

        Raises:
            Conflict: Nothing runs.
        """
        return await self.read(f"{place.path}/stats", owner=place.owner)

    async def glance(self, path: str, limit_s: float, /, **query: Any) -> Any:  # noqa: ANN401 - any JSON
        """GET a path once, with no patience: for what nobody should wait for.

        Raises:
            NebulousError: There is no answer within the limit, or a refusal.
        """
        try:
            reply = await self._http.get(path, params=wire.given(query), timeout=limit_s)
        except httpx.TransportError as error:
            raise wire.unreachable(self.server, error) from error
        return wire.decoded(self._checked(reply))

    async def stat(self, place: Place, path: str) -> Json:
        """What is at a path in a container: kind (file, folder, other, dangling), link, size, mode, modified_at.

        Raises:
            NotFound: Nothing, or there is no such container.
        """
        return await self.read(f"{place.path}/files", owner=place.owner, path=path, stat=True)

    def read_files(self, place: Place, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A tar archive of what is at a path in a container, as it comes; its first entry has the path's last name."""
        return self._stream(f"{place.path}/files", {"owner": place.owner, "path": path}, wire.FILES_TIMEOUT)

    async def write_files(self, place: Place, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack a tar archive in a folder of a container; never repeated by itself.

        Raises:
            NotFound: There is no such folder. Rejected: something does not fit, or no space is left.
        """
        query = wire.given({"owner": place.owner, "path": path})
        kind, limits = {"Content-Type": "application/x-tar"}, wire.limits(wire.FILES_TIMEOUT)
        try:
            url = f"{place.path}/files"
            reply = await self._http.put(url, params=query, content=archive, headers=kind, timeout=limits)
        except httpx.TransportError as error:
            raise wire.unreachable(self.server, error) from error
        self._checked(reply)

    async def logs(self, place: Place, *, tail: int | None = None) -> AsyncGenerator[bytes]:
        """What the command wrote so far, as it comes."""
        query = {"owner": place.owner, "tail": tail}
        async with self._stream(f"{place.path}/logs", query, self.timeout) as chunks:
            async for chunk in chunks:
                yield chunk

    def follow(
        self, place: Place, life: str | None = None, *, tail: int | None = None, offset: int | None = None
    ) -> AsyncLogFollow:
        """What the command writes, until it ends; survives broken connections.

        Args:
            place: The container.
            life: Its `metadata.id`; after a cut this life is followed on, and no later one of the same name.
            tail: Begin with this many last lines; default with everything.
            offset: Begin there, as another `AsyncLogFollow` counted.
        """
        again = Place(place.plural, life, owner=place.owner) if life else place

        def connect(last: str | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
            start = {"tail": tail, "offset": offset} if last is None else {"offset": last}
            path = (place if last is None else again).path
            return self._stream(f"{path}/logs", {"follow": True, "owner": place.owner, **start}, SILENCE)

        return AsyncLogFollow(connect, offset, self.patience)

    def watch(self, kind: str = "container", cursor: str | None = None, **filters: Any) -> AsyncWatch:  # noqa: ANN401 - query
        """What is there, then every change, for ever; survives broken connections and misses nothing.

        Args:
            kind: Any word for it.
            cursor: Of an earlier watch: only what changed since is told.
            filters: namespace, owner, label, name.
        """

        def connect(last: str | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
            return self._stream("/v1/watch", {"kind": kind, **filters, "cursor": last}, SILENCE)

        return AsyncWatch(connect, cursor, self.patience)

    async def _send(
        self, method: str, path: str, query: Json, body: Json | None = None, key: str | None = None
    ) -> httpx.Response:
        """One request, repeated with the same key while the server is out of reach or says 503.

        Raises:
            Unreachable: No answer, after all repetitions.
            NebulousError: What the API refused, as the class that it named.
        """
        headers = {} if method == "GET" else {"Idempotency-Key": key or str(uuid.uuid4())}
        for pause in (*wire.PAUSES, None):
            try:
                reply = await self._http.request(method, path, params=wire.given(query), json=body, headers=headers)
            except httpx.TransportError as error:
                if pause is None or wire.is_final(error):
                    raise wire.unreachable(self.server, error) from error
                await asyncio.sleep(pause)
                continue
            wanted = wire.pause_asked(reply, pause)
            if wanted is None:
                return self._checked(reply)
            await asyncio.sleep(wanted)
        raise AssertionError("the last repetition returns or raises")

    def _checked(self, reply: httpx.Response) -> httpx.Response:
        for notice in reply.headers.get_list(NOTICE):
            self._notice(notice)
        if reply.is_success:
            return reply
        raise wire.failure(reply)

    @asynccontextmanager
    async def _stream(self, path: str, query: Json, silence: timedelta) -> AsyncGenerator[AsyncIterator[bytes]]:
        """A reply as it comes, closed whatever happens; a break is Unreachable, here and in the middle."""
        try:
            async with self._http.stream("GET", path, params=wire.given(query), timeout=wire.limits(silence)) as reply:
                if not reply.is_success:
                    await reply.aread()
                yield self._checked(reply).aiter_bytes()
        except httpx.TransportError as error:
            raise wire.unreachable(self.server, error) from error


def _created(reply: httpx.Response) -> Created:
    return Created(wire.decoded(reply), reply.headers.get(OUTCOME, "new"))
