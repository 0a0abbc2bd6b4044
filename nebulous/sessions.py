"""The session plane: live traffic between a reader and something that runs, through Redis, outbound only.

The reader (the API) pushes a `SessionRequest` onto the list of the platform's queue and renews a lease; the
worker of that queue (`worker/sessions.py`) relays into a stream of the session: first `hello` with where it
begins, then chunks with their byte offsets, then `end` or `failed`. What the reader says goes the other way through
a second stream: chunks, terminal sizes, the end of input. Each stream holds `WINDOW` entries at most: a slow side
slows the other and fills no memory. Every key expires, so that whoever dies leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nebulous import ids
from nebulous.errors import BY_TYPE, NebulousError, Unavailable
from nebulous.models.base import Record
from nebulous.tasks import end
from nebulous.windows import STREAM_S, Entry, Inlet, Outlet

CHUNK_BYTES = 64 * 1024
LEASE_S = 15
LEASE_RENEWAL_S = 4.0
ALIVE_S = 6  # the relay's sign of life, renewed every second
TAKEN_WITHIN_S = 5.0  # else no worker serves the queue
REQUESTS_KEPT = 1000
REQUESTS_S = 60
CONNECTIONS = 2000
NOWHERE = -1  # the offset of a hello that does not tell it


def connect(url: str) -> Redis:
    """A client for sessions and streams: bytes in, bytes out, with room for blocking reads."""
    return Redis.from_url(url, protocol=2, max_connections=CONNECTIONS, socket_timeout=10, socket_connect_timeout=3)


class SessionRequest(Record):
    """What a reader asks of the worker that serves a platform's queue."""

    id: str = Field(default_factory=ids.new_id)
    #: tail: only say, in `hello`, how many last lines there are, and where they begin, which without `follow` may be
    #: left out; stat: one chunk, JSON; read, write: a tar archive;
    #: offers, stats, load, diagnosis: one answer, as JSON
    kind: Literal["logs", "tail", "exec", "stat", "read", "write", "offers", "stats", "load", "diagnosis"] = "logs"
    key: str = ""  # the rental's; what is about a whole platform has none
    ask: dict[str, Any] = {}  # of offers: what they must satisfy
    follow: bool = False
    offset: int = 0  # bytes to leave out
    tail: int | None = None  # lines
    argv: list[str] = []  # of exec
    terminal: tuple[int, int] | None = None  # rows and columns; None: none, and stderr apart
    path: str = ""  # of stat, read, write
    expires_at: float = Field(default_factory=lambda: time.time() + TAKEN_WITHIN_S)  # nobody waits after this

    @property
    def stream(self) -> str:
        """What the relay writes."""
        return f"session:{self.id}"

    @property
    def inbox(self) -> str:
        """What the reader writes."""
        return f"session:{self.id}:in"

    @property
    def lease(self) -> str:
        """There while somebody reads."""
        return f"session:{self.id}:lease"

    @property
    def alive(self) -> str:
        """There while somebody relays."""
        return f"session:{self.id}:alive"


def requests_key(queue: str) -> str:
    """The list on which requests for a queue's worker wait."""
    return f"sessions:{queue}"


class SessionLost(Unavailable):
    """The other end or Redis went away in the middle; open another session where this one ended."""

    @property
    def type(self) -> str:
        """On the wire an unavailability like any other."""
        return "Unavailable"


@dataclass(frozen=True)
class Hello:
    """The relay has begun: at this byte offset, `lines` lines before the end of what there was."""

    offset: int
    lines: int = 0


@dataclass(frozen=True)
class Chunk:
    """Bytes and where they begin; empty as a sign of life."""

    offset: int
    data: bytes
    channel: int = 1  # of exec: 1 stdout, 2 stderr


@dataclass(frozen=True)
class Input:
    """What the reader says: bytes, the end of all bytes, or a terminal's new rows and columns."""

    data: bytes = b""
    end: bool = False
    terminal: tuple[int, int] | None = None


_leaving: set[asyncio.Task[None]] = set()  # the event loop itself keeps only weak references


class Session:
    """The reader's end: `async with Session(…) as session: async for chunk in session.chunks(): …`."""

    def __init__(self, redis: Redis, queue: str, request: SessionRequest) -> None:
        self._redis = redis
        self._queue = queue
        self._request = request
        self._renewal: asyncio.Task[None] | None = None
        self._inlet = Inlet(redis, request.stream)
        self._outlet = Outlet(redis, request.inbox)
        self._sent = 0
        self.hello = Hello(0)
        self.exit_code: int | None = None  # of exec, once `chunks` has ended

    async def __aenter__(self) -> Self:
        """Ask, and wait until a worker answers.

        Raises:
            Unavailable: No worker took the request in time, or Redis does not answer.
            NebulousError: The platform refused.
        """
        try:
            await self._ask()
            self._renewal = asyncio.create_task(self._renew())
            await self._greeted()
        except RedisError as error:
            await self._close()
            raise _redis_gone(error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """Yield what comes, in order and without gaps, and an empty chunk about every second without news.

        Raises:
            SessionLost: The relay or Redis went away, or something was lost on the way.
            NebulousError: What the platform said.
        """
        offset = self.hello.offset
        while True:
            entries = await self._read()
            if not entries:
                yield Chunk(offset, b"")
            for _, fields in entries:
                if b"end" in fields:
                    self.exit_code = int(fields[b"exit"]) if b"exit" in fields else None
                    return
                chunk = _chunk(fields)
                if chunk.offset != offset:
                    raise SessionLost(f"bytes {offset} to {chunk.offset} were lost on the way")
                yield chunk
                offset += len(chunk.data)
            await self._inlet.forget(entries)

    async def send(self, data: bytes) -> None:
        """Give the other end bytes, once it has taken enough of those before."""
        for at in range(0, len(data), CHUNK_BYTES):
            piece = data[at : at + CHUNK_BYTES]
            await self._say({"at": self._sent, "data": piece})
            self._sent += len(piece)

    async def end_input(self) -> None:
        """Say that there are no more bytes."""
        await self._say({"end": 1})

    async def resize(self, rows: int, cols: int) -> None:
        """Say that the terminal has another size."""
        await self._say({"terminal": f"{rows},{cols}"})

    async def _say(self, fields: dict[str, Any]) -> None:
        try:
            await self._outlet.room()
            await self._outlet.add(fields)
        except RedisError as error:
            raise _redis_gone(error) from error

    async def _ask(self) -> None:
        waiting = requests_key(self._queue)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._request.lease, b"1", ex=LEASE_S)
            pipe.lpush(waiting, self._request.model_dump_json())
            pipe.ltrim(waiting, 0, REQUESTS_KEPT - 1)
            pipe.expire(waiting, REQUESTS_S)
            await pipe.execute()

    async def _greeted(self) -> None:
        while time.time() < self._request.expires_at or await self._redis.exists(self._request.alive):
            for _, fields in await self._inlet.fetch(count=1):
                _raise_failure(fields)
                self.hello = Hello(int(fields[b"hello"]), int(fields[b"lines"]))
                return
        raise Unavailable(f"no worker answers on queue {self._queue!r}", "start one: nebu worker")

    async def _renew(self) -> None:
        """Keep the lease and the stream while we read, also when our own reader is slow."""
        while True:
            await asyncio.sleep(LEASE_RENEWAL_S)
            with contextlib.suppress(RedisError):
                async with self._redis.pipeline(transaction=False) as pipe:
                    pipe.set(self._request.lease, b"1", ex=LEASE_S)
                    pipe.expire(self._request.stream, STREAM_S)
                    pipe.expire(self._request.inbox, STREAM_S)
                    await pipe.execute()

    async def _read(self) -> list[Entry]:
        try:
            entries = await self._inlet.fetch()
            if not entries and not await self._redis.exists(self._request.alive):
                entries = await self._inlet.fetch()  # it may have ended in between
                if not entries:
                    gone = f"the worker of queue {self._queue!r} went away"
                    raise SessionLost(gone, "try again once one is there: nebu get platforms")
        except RedisError as error:
            raise _redis_gone(error) from error
        return entries

    async def _close(self) -> None:
        """Let the relay know that nobody reads; a task of its own, because we may be in the midst of a cancel."""
        leaving = asyncio.create_task(self._leave())
        _leaving.add(leaving)
        leaving.add_done_callback(_leaving.discard)
        await asyncio.shield(leaving)

    async def _leave(self) -> None:
        if self._renewal:
            await end(self._renewal)
        with contextlib.suppress(RedisError):
            await self._redis.delete(self._request.lease, self._request.stream, self._request.inbox)


async def answer(redis: Redis, queue: str, request: SessionRequest) -> Any:  # noqa: ANN401 - any JSON
    """Ask a queue's worker something that has one answer.

    Raises:
        Unavailable: No worker took the request in time, or Redis does not answer.
        NebulousError: What the platform said.
    """
    async with Session(redis, queue, request) as session:
        return json.loads(b"".join([chunk.data async for chunk in session.chunks()]))


def _chunk(fields: dict[bytes, bytes]) -> Chunk:
    _raise_failure(fields)
    return Chunk(int(fields[b"at"]), fields[b"data"], int(fields.get(b"channel", 1)))


def _raise_failure(fields: dict[bytes, bytes]) -> None:
    if b"failed" in fields:
        failure = json.loads(fields[b"failed"])
        kind = BY_TYPE.get(failure["type"], Unavailable)
        raise kind(failure["message"], failure["hint"])


def _redis_gone(error: RedisError) -> SessionLost:
    return SessionLost(f"Redis does not answer: {error}", "check NEBU_REDIS_URL, or start `nebu serve`")


class Relay:
    """The worker's end of one session: writes what it is given, at the reader's pace."""

    def __init__(self, redis: Redis, request: SessionRequest) -> None:
        self._redis = redis
        self._request = request
        self._outlet = Outlet(redis, request.stream)
        self._inlet = Inlet(redis, request.inbox)
        self._offset = 0

    async def wanted(self) -> bool:
        """True while somebody reads; also shows the reader that we are alive."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._request.alive, b"1", ex=ALIVE_S)
            pipe.exists(self._request.lease)
            _, leased = await pipe.execute()
        return bool(leased)

    async def hello(self, hello: Hello) -> None:
        """Begin at this offset."""
        self._offset = hello.offset
        await self._outlet.add({"hello": hello.offset, "lines": hello.lines})

    async def send(self, data: bytes, channel: int = 1) -> None:
        """Write a chunk once there is room for it."""
        await self._outlet.room()
        await self._outlet.add({"at": self._offset, "data": data, "channel": channel})
        self._offset += len(data)

    async def end(self, exit_code: int | None = None) -> None:
        """Say that there is no more, and how the command ended if there was one."""
        await self._outlet.add({"end": 1} if exit_code is None else {"end": 1, "exit": exit_code})

    async def fail(self, error: NebulousError) -> None:
        """Hand the reader the platform's words."""
        about = {"type": error.type, "message": error.message, "hint": error.hint}
        await self._outlet.add({"failed": json.dumps(about)})

    async def inputs(self) -> AsyncGenerator[Input]:
        """Yield what the reader says, in order and without gaps; never ends by itself.

        Raises:
            SessionLost: Something was lost on the way.
        """
        received = 0
        while True:
            entries = await self._inlet.fetch()
            for _, fields in entries:
                if b"terminal" in fields:
                    rows, _, cols = fields[b"terminal"].partition(b",")
                    yield Input(terminal=(int(rows), int(cols)))
                elif b"end" in fields:
                    yield Input(end=True)
                elif int(fields[b"at"]) != received:
                    raise SessionLost(f"bytes {received} to {int(fields[b'at'])} were lost on the way")
                else:
                    received += len(fields[b"data"])
                    yield Input(fields[b"data"])
            await self._inlet.forget(entries)


async def last_lines(source: AsyncIterator[bytes], count: int) -> Hello:
    """Find where the last `count` lines of an output begin, and how many there are; reads all, keeps none."""
    starts: deque[int] = deque(maxlen=count)
    size, fresh = 0, True
    async for data in source:
        at = 0
        while at < len(data):
            if fresh:
                starts.append(size + at)
            newline = data.find(b"\n", at)
            fresh = newline >= 0
            at = newline + 1 if fresh else len(data)
        size += len(data)
    return Hello(starts[0] if starts else size, len(starts))
