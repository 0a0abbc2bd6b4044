"""Work that blocks, done beside the event loop; where nothing is awaited it is simply done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """Do it in a thread of its own."""
    return await asyncio.to_thread(work)
