"""Ending tasks of an event loop for certain."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.1


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they are done, whatever they end with.

    Once is not enough: a cancellation that arrives just as a time-out or an awaited result does may be lost (Python
    3.11, bpo-37658; redis-py waits in that way), and such a task would go on for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
