"""Who is attached to what is rented: a mark in Redis that every session renews, and that outlives it by a minute."""

from __future__ import annotations

import contextlib

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nebulous.errors import Unavailable

KEPT_S = 60  # longer than the pause between two looks: no session is missed
WORKING = frozenset({"exec", "read", "write"})  # who reads a log only looks


def _mark(key: str) -> str:
    return f"attached:{key}"


async def renew(redis: Redis, kind: str, key: str) -> None:
    """Say that a session of this kind is there, if that is work."""
    if kind in WORKING and key:
        with contextlib.suppress(RedisError):  # the session itself ends if Redis stays away
            await redis.set(_mark(key), 1, ex=KEPT_S)


class Attendance:
    """Answers for the prober; implements `Attached`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def __call__(self, key: str) -> bool:
        """True when somebody is attached, or was within the last minute.

        Raises:
            Unavailable: Redis does not answer.
        """
        try:
            return bool(await self._redis.exists(_mark(key)))
        except RedisError as error:
            raise Unavailable(f"who is attached is not known: {error}") from error
