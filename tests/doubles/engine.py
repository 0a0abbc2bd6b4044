"""A Docker Engine's socket that answers by script, byte for byte: for what a real one cannot be made to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

VERSION = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}


class ScriptedEngine:
    """Answers `GET /version` properly, and else, raw: the first of `answers` whose key is in the path, or `answer`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.version: dict[str, str] = VERSION
        self.answer = response(200, b"{}")
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[ScriptedEngine]:
        server = await asyncio.start_unix_server(self._serve, self.socket)
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).decode():
                line = request.splitlines()[0]
                self.requests.append(line)
                if " /version " in line:
                    writer.write(response(200, json.dumps(self.version).encode()))
                    continue
                writer.write(next((raw for part, raw in self.answers.items() if part in line), self.answer))
                await writer.drain()
                break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


def response(status: int, body: bytes, media_type: str = "application/json") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def broken_off(*chunks: bytes) -> bytes:
    """A stream that stops in the middle: chunks, and no last one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def whole(*chunks: bytes) -> bytes:
    """A stream that ends as it should."""
    return broken_off(*chunks) + b"0\r\n\r\n"
