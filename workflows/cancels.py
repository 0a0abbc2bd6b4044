"""A cancel from outside reaches no step of a workflow: what it means is decided beside the steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def untouched(steps: Coroutine[Any, Any, None], cancelled: Callable[[], None] | None = None) -> None:
    """Run the steps to their end, whoever cancels the workflow; `cancelled` says what that means, else nothing does.

    The steps run in a task of their own, which a cancel of the workflow does not reach: no activity is ever
    cut off between acting and being recorded (research: half of all cancels get lost otherwise).
    """
    main = asyncio.create_task(steps)
    while True:
        try:
            return await asyncio.shield(main)
        except asyncio.CancelledError:
            if main.done():  # evicted from the cache, not cancelled
                raise
            if cancelled:
                cancelled()
