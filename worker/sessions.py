"""The worker's end of the session plane: takes the requests of one platform's queue and relays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from activities.platforms.base import Platform
from nebulous.errors import NebulousError, NotFound, RateLimited, Unavailable
from nebulous.models.platforms import Instance
from nebulous.sessions import CHUNK_BYTES, Hello, Relay, SessionRequest, last_lines, requests_key
from worker.answers import ANSWERS

log = logging.getLogger(__name__)

POP_S = 2
REDIS_PAUSE_S = 0.5
CHECK_S = 1.0  # between two looks whether somebody still reads
SESSIONS_AT_ONCE = 256
READ_AHEAD = 64  # pieces from the platform that wait to be sent

#: What was read, then how it ended: None or the error.
Pieces = asyncio.Queue[bytes | Exception | None]


class SessionRelay:
    """Serves the sessions of one platform account, many at once, for as long as `run` runs."""

    def __init__(self, redis: Redis, queue: str, platform: Platform) -> None:
        self._redis = redis
        self._requests = requests_key(queue)
        self._platform = platform
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take and serve requests until cancelled; Redis may come and go meanwhile."""
        try:
            while True:
                if request := await self._next():
                    task = asyncio.create_task(self._serve(request), name=f"session {request.id}")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _next(self) -> SessionRequest | None:
        try:
            popped: Any = await cast(Any, self._redis).brpop([self._requests], timeout=POP_S)
        except RedisError as error:
            log.debug("sessions wait for Redis: %s", error)
            await asyncio.sleep(REDIS_PAUSE_S)
            return None
        try:
            request = SessionRequest.model_validate_json(popped[1]) if popped else None
        except ValidationError as error:
            log.warning("dropped a session request that cannot be read: %s", error)
            return None
        return request if request and request.expires_at > time.time() else None

    async def _serve(self, request: SessionRequest) -> None:
        """Relay until the output ends or nobody reads; failures go to the reader and never end the worker."""
        relay = Relay(self._redis, request)
        work = asyncio.create_task(self._answer(relay, request))
        wanted = asyncio.create_task(self._while_wanted(relay))
        try:
            await asyncio.wait({work, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            wanted.cancel()
            results = await asyncio.gather(work, wanted, return_exceptions=True)
            with contextlib.suppress(RedisError):
                await self._redis.delete(request.alive)  # a reader that got no `end` looks for us
        for result in results:
            if isinstance(result, RedisError):
                log.info("session %s ended with Redis: %s", request.id, result)
            elif isinstance(result, Exception):
                log.error("session %s failed", request.id, exc_info=result)

    async def _while_wanted(self, relay: Relay) -> None:
        while await relay.wanted():  # noqa: ASYNC110 - the lease is in Redis, there is no event to wait for
            await asyncio.sleep(CHECK_S)

    async def _answer(self, relay: Relay, request: SessionRequest) -> None:
        try:
            if len(self._running) > SESSIONS_AT_ONCE:
                raise RateLimited(f"{SESSIONS_AT_ONCE} sessions are open on this worker", "close some, or try again")
            if request.kind in ANSWERS:
                await self._relay_answer(relay, request)
            else:
                await self._relay_logs(relay, request)
        except NebulousError as error:
            await relay.fail(error)
        except (RedisError, asyncio.CancelledError):
            raise
        except Exception as error:
            what = f"the worker could not answer ({request.kind}): {error}"
            await relay.fail(Unavailable(what, "its own log says more"))
            raise
        else:
            await relay.end()

    async def _relay_answer(self, relay: Relay, request: SessionRequest) -> None:
        """Greet first, so that a platform may take longer than a worker may to show that it is there."""
        await relay.hello(Hello(0))
        said = json.dumps(await ANSWERS[request.kind](self._platform, request)).encode()
        for at in range(0, len(said), CHUNK_BYTES):
            await relay.send(said[at : at + CHUNK_BYTES])

    async def _relay_logs(self, relay: Relay, request: SessionRequest) -> None:
        instance = await self._instance(request.key)
        if request.kind == "tail":
            return await relay.hello(await last_lines(self._platform.logs(instance), request.tail))
        await relay.hello(Hello(request.offset))
        pieces: Pieces = asyncio.Queue(READ_AHEAD)
        reading = asyncio.create_task(self._read_ahead(instance, request.follow, request.offset, pieces))
        try:
            await _forward(pieces, relay)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _instance(self, key: str) -> Instance:
        found = await self._platform.find(key)
        if not found:
            raise NotFound(f"nothing is rented under {key!r} any more")
        return found[0]

    async def _read_ahead(self, instance: Instance, follow: bool, skip: int, pieces: Pieces) -> None:
        """Read the output from byte `skip` on (platforms stream it whole); put how it ended last."""
        source = cast(AsyncGenerator[bytes], self._platform.logs(instance, follow=follow))
        try:
            async with contextlib.aclosing(source):
                async for data in _without(source, skip):
                    await pieces.put(data)
        except Exception as error:
            await pieces.put(error)
        else:
            await pieces.put(None)


async def _without(source: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for data in source:
        kept, skip = data[skip:], max(0, skip - len(data))
        if kept:
            yield kept


async def _forward(pieces: Pieces, relay: Relay) -> None:
    """Send what has come; small writes gather by themselves while Redis or the reader is slower."""
    piece = await pieces.get()
    while isinstance(piece, bytes):
        batch = bytearray(piece)
        piece = b""
        while isinstance(piece, bytes) and len(batch) < CHUNK_BYTES and not pieces.empty():
            piece = pieces.get_nowait()
            batch += piece if isinstance(piece, bytes) else b""
        for at in range(0, len(batch), CHUNK_BYTES):
            await relay.send(bytes(batch[at : at + CHUNK_BYTES]))
        if isinstance(piece, bytes):
            piece = await pieces.get()
    if piece is not None:
        raise piece
