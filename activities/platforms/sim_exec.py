"""What the simulated cloud pretends when a further command is asked for: enough to try a terminal with, and no more.

`echo`, `cat`, `true`, `false`, `exit N` and `sleep N` behave; `stty size` tells the terminal's. Everything else says
what would run, and succeeds. Nothing is executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from activities.platforms.base import NO_PROGRAM, STDERR, STDOUT, Size

LONGEST_SHOWN = 300
PIECES_AHEAD = 32
INTERRUPT, END_OF_TRANSMISSION = b"\x03", b"\x04"
INTERRUPTED = 130
SLOWEST_S = 24 * 3600.0


class SimExecution:
    """A pretended command; implements `Execution`."""

    def __init__(self, argv: list[str], size: Size | None) -> None:
        self._argv = argv
        self._size = size
        self._input: asyncio.Queue[bytes] = asyncio.Queue(PIECES_AHEAD)
        self._interrupted = asyncio.Event()
        self._reads = argv == ["cat"]
        self._ended = False
        self._code = 0

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what it would say."""
        program, words = self._argv[0], self._argv[1:]
        if self._reads:
            async for data in self._copied():
                yield STDOUT, data
        elif program == "sleep" and words:
            await self._sleep(words[0])
        elif said := self._said(program, words):
            channel, text = said
            yield (STDOUT if self._size else channel), self._line(text)

    async def write(self, data: bytes) -> None:
        """Take input; a terminal's Ctrl-C and Ctrl-D mean what they mean."""
        if self._size and INTERRUPT in data:
            self._code = INTERRUPTED
            self._interrupted.set()
            await self.end_input()
        elif self._size and END_OF_TRANSMISSION in data:
            await self.end_input()
        elif data and self._reads and not self._ended:
            await self._input.put(data)

    async def end_input(self) -> None:
        """Let it read the end."""
        if self._reads and not self._ended:
            self._ended = True
            await self._input.put(b"")

    async def resize(self, size: Size) -> None:
        """Remember the terminal's size."""
        self._size = size if self._size else None

    async def exit_code(self) -> int:
        """How it would end."""
        return self._code

    async def _copied(self) -> AsyncGenerator[bytes]:
        while data := await self._input.get():
            yield data.replace(b"\r", b"\r\n") if self._size else data

    async def _sleep(self, text: str) -> None:
        try:
            seconds = min(float(text), SLOWEST_S)
        except ValueError:
            self._code = 1
            return
        try:
            async with asyncio.timeout(seconds):
                await self._interrupted.wait()
        except TimeoutError:
            return

    def _said(self, program: str, words: list[str]) -> tuple[int, str] | None:
        match program:
            case "echo":
                return STDOUT, " ".join(words)
            case "true":
                return None
            case "false":
                self._code = 1
                return None
            case "exit" if len(words) == 1 and words[0].isdecimal():
                self._code = int(words[0]) % 256
                return None
            case "stty" if words == ["size"] and self._size:
                return STDOUT, f"{self._size.rows} {self._size.cols}"
            case "":
                self._code = NO_PROGRAM
                return STDERR, "cannot run '': no such program"
            case _:
                return STDOUT, f"simulated: would run {' '.join(self._argv)}"[:LONGEST_SHOWN]

    def _line(self, text: str) -> bytes:
        return text.encode("utf-8", "replace") + (b"\r\n" if self._size else b"\n")
