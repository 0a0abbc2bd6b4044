"""Sessions that read what a container's command wrote."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

from nebulous.sessions import CHUNK_BYTES, Hello, Relay, last_lines
from nebulous.tasks import end
from worker.session_task import Task

READ_AHEAD = 64  # pieces from the platform that wait to be sent

#: What was read, then how it ended: None or the error.
Pieces = asyncio.Queue[bytes | Exception | None]


async def measure(task: Task) -> None:
    """Say where the last lines begin."""
    await task.relay.hello(await last_lines(task.platform.logs(task.instance), task.request.tail))


async def relay(task: Task) -> None:
    """Send the output from an offset on."""
    await task.relay.hello(Hello(task.request.offset))
    pieces: Pieces = asyncio.Queue(READ_AHEAD)
    reading = asyncio.create_task(_read_ahead(task, pieces))
    try:
        await _forward(pieces, task.relay)
    finally:
        await end(reading)


async def _read_ahead(task: Task, pieces: Pieces) -> None:
    """Read the output from where it is wanted on (platforms stream it whole); put how it ended last."""
    source = cast(AsyncGenerator[bytes], task.platform.logs(task.instance, follow=task.request.follow))
    try:
        async with contextlib.aclosing(source):
            async for data in _without(source, task.request.offset):
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
