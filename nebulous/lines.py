"""Where the last lines of something begin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class LastLines:
    """Where they begin, and how many there are."""

    offset: int
    count: int = 0


async def last_lines(read: Callable[[int, int], Awaitable[bytes]], size: int, count: int) -> LastLines:
    """Find the last lines, or as many as there are, by reading blocks from the end; keeps one block.

    Args:
        read: Gives the bytes from one place up to another.
        size: Bytes in all. The last line need not end.
        count: How many lines are wanted.
    """
    found, at = 0, size
    while found < count and at > 0:
        start = max(0, at - BLOCK_BYTES)
        block = await read(start, at)
        limit = min(len(block), size - 1 - start)  # a line begins behind each newline but the last byte's
        if (here := block.count(b"\n", 0, limit)) < count - found:
            found += here
        else:
            for _ in range(count - found):
                limit = block.rfind(b"\n", 0, limit)
            return LastLines(start + limit + 1, count)
        at = start
    return LastLines(0, found + 1) if count and size else LastLines(size)
