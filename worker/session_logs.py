"""Sessions that read what a container's command wrote."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import cast

from activities.platforms.base import KeepsLogs
from nebulous.sessions import CHUNK_BYTES, NOWHERE, Hello, Relay, last_lines
from nebulous.tasks import end
from worker.session_task import Task

READ_AHEAD = 64  # pieces from the platform that wait to be sent

#: What was read, then how it ended: None or the error.
Pieces = asyncio.Queue[bytes | Exception | None]


async def measure(task: Task) -> None:
    """Say where the last lines begin; only how many there are, where the place is not asked for and would cost much."""
    platform, request = task.platform, task.request
    if isinstance(platform, KeepsLogs):
        found = await platform.last_lines(task.instance, request.tail or 0)
        await task.relay.hello(Hello(found.offset, found.count))
    elif request.follow:
        await task.relay.hello(await last_lines(platform.logs(task.instance), request.tail or 0))
    else:
        ended = platform.logs(task.instance, tail=request.tail)
        await task.relay.hello(replace(await last_lines(ended, request.tail or 0), offset=NOWHERE))


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
    """Read the output from where it is wanted on; put how it ended last."""
    try:
        async with contextlib.aclosing(_output(task)) as source:
            async for data in source:
                await pieces.put(data)
    except Exception as error:
        await pieces.put(error)
    else:
        await pieces.put(None)


async def _output(task: Task) -> AsyncGenerator[bytes]:
    """The output; most platforms can only stream it from its beginning, or its last lines."""
    platform, request = task.platform, task.request
    if isinstance(platform, KeepsLogs) and request.tail is None:
        stream, skip = platform.logs_from(task.instance, request.offset, request.follow), 0
    else:
        stream, skip = platform.logs(task.instance, request.follow, request.tail), request.offset
    async with contextlib.aclosing(cast(AsyncGenerator[bytes], stream)) as source:
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
