"""The worker's end of the session plane: takes the requests of one platform's queue and relays.

What is done for each kind of request: `session_logs.py`, `session_exec.py`, `session_files.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from activities.blocks import Blocks
from activities.platforms.base import Platform
from nebulous.errors import Conflict, NebulousError, NotFound, RateLimited, Unavailable
from nebulous.models.platforms import Instance
from nebulous.sessions import CHUNK_BYTES, Hello, Relay, SessionRequest, requests_key
from nebulous.tasks import end
from worker import attendance, session_exec, session_files, session_logs
from worker.answers import ANSWERS
from worker.session_task import Task

log = logging.getLogger(__name__)

POP_S = 2
REDIS_PAUSE_S = 0.5
CHECK_S = 1.0  # between two looks whether somebody still reads
SESSIONS_AT_ONCE = 256

#: What to do for a request, by its kind; gives a command's exit code, if there is one.
KINDS: dict[str, Callable[[Task], Awaitable[int | None]]] = {
    "logs": session_logs.relay,
    "tail": session_logs.measure,
    "exec": session_exec.relay,
    "stat": session_files.stat,
    "read": session_files.read,
    "write": session_files.write,
}

#: Needs the machine itself; a log may be read from what was archived of it.
ON_THE_MACHINE = frozenset({"exec", "stat", "read", "write", "stats"})


class SessionRelay:
    """Serves the sessions of one platform account, many at once, for as long as `run` runs."""

    def __init__(self, redis: Redis, queue: str, platform: Platform, blocks: Blocks | None = None) -> None:
        self._redis = redis
        self._blocks = blocks or Blocks(platform.account)
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
            await end(*self._running)

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
        wanted = asyncio.create_task(self._while_wanted(relay, request))
        try:
            await asyncio.wait({work, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(work, wanted)
            results = await asyncio.gather(work, wanted, return_exceptions=True)
            with contextlib.suppress(RedisError):
                await self._redis.delete(request.alive)  # a reader that got no `end` looks for us
        for result in results:
            if isinstance(result, RedisError):
                log.info("session %s ended with Redis: %s", request.id, result)
            elif isinstance(result, Exception):
                log.error("session %s failed", request.id, exc_info=result)

    async def _while_wanted(self, relay: Relay, request: SessionRequest) -> None:
        while await relay.wanted():
            await attendance.renew(self._redis, request.kind, request.key)
            await asyncio.sleep(CHECK_S)

    async def _answer(self, relay: Relay, request: SessionRequest) -> None:
        try:
            if len(self._running) > SESSIONS_AT_ONCE:
                raise RateLimited(f"{SESSIONS_AT_ONCE} sessions are open on this worker", "close some, or try again")
            exit_code = await self._relay(relay, request)
        except NebulousError as error:
            await relay.fail(error)
        except (RedisError, asyncio.CancelledError):
            raise
        except Exception as error:
            await relay.fail(Unavailable(f"the worker could not do this ({request.kind}): {error}", "see its log"))
            raise
        else:
            await relay.end(exit_code)

    async def _relay(self, relay: Relay, request: SessionRequest) -> int | None:
        try:
            if request.kind in ANSWERS:
                return await self._relay_answer(relay, request)
            return await KINDS[request.kind](Task(self._platform, await self._instance(request.key), relay, request))
        except NotFound as error:
            if request.kind not in ON_THE_MACHINE or await self._platform.find(request.key):
                raise
            # the container's row may show it for a moment more
            raise Conflict("the machine of this container was given back meanwhile", "start it again") from error

    async def _relay_answer(self, relay: Relay, request: SessionRequest) -> None:
        """Greet first, so that a platform may take longer than a worker may to show that it is there."""
        await relay.hello(Hello(0))
        said = json.dumps(await ANSWERS[request.kind](self._platform, request, self._blocks)).encode()
        for at in range(0, len(said), CHUNK_BYTES):
            await relay.send(said[at : at + CHUNK_BYTES])

    async def _instance(self, key: str) -> Instance:
        found = await self._platform.find(key)
        if not found:
            raise NotFound(f"nothing is rented under {key!r} any more")
        return found[0]
