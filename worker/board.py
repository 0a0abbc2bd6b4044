"""Where the worker processes of a platform account share what it refused: a hash in Redis that expires by itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from activities.blocks import NO_ACCESS, QUOTA, SOLD_OUT, Block
from nebulous.errors import Unavailable

PATIENCE_S = 1.0  # a machine is waited for
KEPT = max(SOLD_OUT, QUOTA, NO_ACCESS)


class RedisBoard:
    """The board of one account; implements `Board`."""

    def __init__(self, account: str, redis: Redis) -> None:
        self._redis = cast(Any, redis)
        self._key = f"blocked:{account}"

    async def post(self, block: Block) -> None:
        """Tell the others."""
        async with _patiently():
            await self._redis.hset(self._key, block.scope, json.dumps(asdict(block)))
            await self._redis.expire(self._key, KEPT)

    async def read(self) -> list[Block]:
        """What is there; tidies up what is outdated."""
        async with _patiently():
            rows: dict[bytes, bytes] = await self._redis.hgetall(self._key)
            blocks = {scope: Block(**json.loads(row)) for scope, row in rows.items()}
            if over := [scope for scope, block in blocks.items() if block.until < time.time() - KEPT.total_seconds()]:
                await self._redis.hdel(self._key, *over)
        return list(blocks.values())


@asynccontextmanager
async def _patiently() -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except (RedisError, TimeoutError) as error:
        raise Unavailable(f"Redis: {error or 'no answer'}") from error
