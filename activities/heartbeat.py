"""A heartbeat each second while an activity works, with the words that `describe` shows.

One that is done within a second sends none: each is a request to the engine, and an action.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from temporalio import activity

BEAT_S = 1.0


@asynccontextmanager
async def beating() -> AsyncGenerator[Callable[[str], None]]:
    """Heartbeat each second until the block ends; the yielded function sets what the heartbeats say."""
    words = ""

    def say(text: str) -> None:
        nonlocal words
        words = text

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            activity.heartbeat(words)

    task = asyncio.create_task(beat())
    try:
        yield say
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
