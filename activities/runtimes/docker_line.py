"""A connection that an Engine has handed over: from here on raw bytes both ways, for a command's input and output.

The parser that aiohttp is given here is ours, so that reading is held back when nobody takes what came, and so
that the input can be ended without ending the output; aiodocker's (0.27) does neither.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from nebulous.errors import Unavailable

HELD_BYTES = 64 * 1024
#: stream, three zeros, length: docs.docker.com/engine/api, ContainerAttach
FRAME = struct.Struct(">BxxxL")


class Line:
    """The raw connection behind a 101."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Take the connection over.

        Raises:
            Unavailable: There is none any more.
        """
        connection = response.connection
        if response.status != 101 or connection is None or connection.protocol is None:
            raise Unavailable(f"the Engine did not hand over the connection (HTTP {response.status})", "try again")
        self._protocol = connection.protocol
        self._reader = aiohttp.StreamReader(self._protocol, HELD_BYTES, loop=asyncio.get_running_loop())
        self._protocol.set_parser(_Parser(self._reader), self._reader)

    @property
    def broke(self) -> bool:
        """True once it was reset; false where the other side closed, or died without a word."""
        return isinstance(self._protocol.exception(), OSError)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield what comes, until the other side closes or the connection breaks: `broke` tells which, if it can."""
        while piece := await self._reader.readany():
            yield piece

    async def frames(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield (channel, data), in pieces as large as they arrive.

        Raises:
            Unavailable: It ended in the middle of a frame.
        """
        waiting, channel, length = bytearray(), 0, 0
        async for piece in self.pieces():
            waiting += piece
            while waiting:
                if not length:
                    if len(waiting) < FRAME.size:
                        break
                    channel, length = FRAME.unpack_from(waiting)
                    del waiting[: FRAME.size]
                    continue
                data = bytes(waiting[:length])
                del waiting[: len(data)]
                length -= len(data)
                yield channel, data
        if waiting or length:
            raise Unavailable("the connection to the Engine broke in the middle of the output")

    async def write(self, data: bytes) -> None:
        """Send, at the other side's pace; what nobody takes any more is dropped."""
        transport = self._protocol.transport
        if transport and not transport.is_closing():
            transport.write(data)
            try:
                await self._protocol._drain_helper()  # pyright: ignore[reportPrivateUsage] - as aiodocker does
            except (aiohttp.ClientError, OSError):
                return

    def end(self) -> None:
        """Send no more; what comes is still read. TLS has no such half, and then nothing happens."""
        transport = self._protocol.transport
        if transport and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()


class _Parser:
    """What aiohttp wants of a parser: bytes go on as they are."""

    def __init__(self, reader: aiohttp.StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if data:
            self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> Any:  # noqa: ANN401 - aiohttp ignores it
        self._reader.feed_eof()
