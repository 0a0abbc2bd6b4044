"""One direction of a session: a Redis stream that holds a few entries, expires, and makes a fast writer wait.

`sessions.py` says what the entries mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

WINDOW = 32  # entries not yet read; of 64 kB each
STREAM_S = 60  # a stream outlives its last writer or reader by this much
READ_BLOCK_MS = 1000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.2

Entry = tuple[bytes, dict[bytes, bytes]]


class Outlet:
    """Where entries are written."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._key = key
        self._unread = 0

    async def room(self) -> None:
        """Wait until the reader has taken enough."""
        pause_s = FIRST_PAUSE_S
        while self._unread >= WINDOW:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._unread = int(await self._redis.xlen(self._key))

    async def add(self, fields: dict[Any, Any]) -> None:
        """Write one, however many there are; the stream lives on for a while."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._key, fields)
            pipe.expire(self._key, STREAM_S)
            pipe.xlen(self._key)
            *_, self._unread = await pipe.execute()


class Inlet:
    """Where they are read, each once and in order."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._key = key
        self._last: bytes | str = "0"

    async def fetch(self, count: int = WINDOW) -> list[Entry]:
        """What has come; nothing after a second without news."""
        streams: dict[Any, Any] = {self._key: self._last}
        reply: Any = await self._redis.xread(streams, count=count, block=READ_BLOCK_MS)
        entries: list[Entry] = reply[0][1] if reply else []
        if entries:
            self._last = entries[-1][0]
        return entries

    async def forget(self, entries: list[Entry]) -> None:
        """Make room for the writer: what our own reader has taken is gone."""
        if entries:
            with contextlib.suppress(RedisError):
                await self._redis.xdel(self._key, *(entry for entry, _ in entries))
