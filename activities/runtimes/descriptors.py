"""Reading and writing pipes and terminals from the event loop, with nothing gathered in memory on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

CHUNK_BYTES = 64 * 1024


class Descriptor:
    """A file descriptor that is ours to close. A slow reader makes the kernel's own buffer the limit."""

    def __init__(self, number: int) -> None:
        self.number = number
        os.set_blocking(number, False)
        self._open = True

    async def read(self) -> bytes:
        """What is there, as soon as something is; empty at the end."""
        while self._open:
            try:
                return os.read(self.number, CHUNK_BYTES)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError:  # a terminal that its last program has left says EIO
                break
        return b""

    async def write(self, data: bytes) -> None:
        """Write it all, at the reader's pace.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """
        rest = memoryview(data)
        while rest:
            if not self._open:
                raise BrokenPipeError
            try:
                rest = rest[os.write(self.number, rest) :]
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError as error:
                raise BrokenPipeError(str(error)) from error

    def close(self) -> None:
        """Let go of it; reading and writing end."""
        if self._open:
            self._open = False
            os.close(self.number)

    async def _ready(self, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool]) -> None:
        ready = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(self.number, wake)
        try:
            await ready
        finally:
            with contextlib.suppress(ValueError, OSError):
                remove(self.number)
