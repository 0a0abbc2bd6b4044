"""A proxy on TCP that cuts connections when a test says so, and remembers what the server sent through each."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Passes bytes on between its own port and a server; `sent` has the server's side of each connection."""

    target: str
    url: str = ""
    sent: list[bytearray] = field(default_factory=list[bytearray])
    refuse: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def cut(self) -> None:
        """Reset every connection, in the middle of whatever it carries."""
        for writer in self._open:
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # else it is a polite end
            writer.transport.abort()
        self._open.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        back, forth = await self._connect()
        self._open |= {writer, forth}
        self.sent.append(bytearray())
        await asyncio.gather(_pass(reader, forth), _pass(back, writer, self.sent[-1]))
        self._open -= {writer, forth}
        for each in (writer, forth):
            each.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(self.target)
        if where.scheme == "unix":
            return await asyncio.open_unix_connection(where.path)
        return await asyncio.open_connection(where.hostname, where.port)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray | None = None) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            if copy is not None:
                copy += data
            writer.write(data)
            await writer.drain()
        writer.write_eof()  # the other direction may go on


@asynccontextmanager
async def cutting_proxy(target: str) -> AsyncIterator[Proxy]:
    """Listen for a server (http://…, tcp://… or unix://…) on a port of its own until the block ends."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
