"""The Engine as a guest sees it: a socket of its own to the Engine of the tests, which remembers what it made."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.doubles.guest_root import DOCKER_GROUP

LOOK_S = 0.02
PIECE = 1 << 16
MADE = re.compile(rb"POST /v[\d.]+/containers/create\?name=([\w.-]+) HTTP")


class Doors:
    """Sockets to one Engine, served by a thread of their own."""

    def __init__(self, docker_host: str) -> None:
        self._docker_host = docker_host
        self.answers: dict[bytes, bytes] = {}  # how a request begins -> what is answered instead of the Engine
        self._loop = asyncio.new_event_loop()
        self._watches: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()  # the loop itself holds them only weakly
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, path: Path) -> set[str]:
        """Serve the Engine at this path to root and the group docker; returns the names of what is made through it."""
        made: set[str] = set()

        async def serve() -> None:
            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.create_task(self._serve(reader, writer, made))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)

            await asyncio.start_unix_server(connected, path)

        asyncio.run_coroutine_threadsafe(serve(), self._loop).result()
        os.chown(path, 0, DOCKER_GROUP)
        path.chmod(0o660)
        return made

    def when_over(self, process: subprocess.Popen[bytes], then: Callable[[], None]) -> None:
        """Call this, in a thread, once the process has ended."""

        async def watch() -> None:
            while process.poll() is None:  # noqa: ASYNC110 - nobody tells of the end of a process
                await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(then)

        async def begin() -> None:
            self._watches.append(asyncio.create_task(watch()))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result()

    def close(self) -> None:
        """Finish what is to be done about processes that have ended, and stop."""

        async def finish() -> None:
            await asyncio.gather(*self._watches)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, made: set[str]) -> None:
        def remember(data: bytes) -> None:
            made.update(name.decode() for name in MADE.findall(data))

        try:
            first = await reader.read(PIECE)
            for beginning, answer in self.answers.items():
                if first.startswith(beginning):
                    writer.write(answer)
                    return
            above, below = await self._connect()
            remember(first)
            below.write(first)
            await asyncio.gather(_pass(reader, below, remember), _pass(above, writer, None))
            below.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(self._docker_host)
        if where.scheme == "unix":
            return await asyncio.open_unix_connection(where.path)
        return await asyncio.open_connection(where.hostname, where.port)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], None] | None
) -> None:
    """Hand on what comes, and its end: one half of a connection may be closed before the other."""
    with suppress(ConnectionError):
        while data := await reader.read(PIECE):
            if look:
                look(data)
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
