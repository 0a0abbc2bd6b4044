"""Further commands on this host, each under a keeper (`exec_keeper.py`) that ends it with its session.

They get what the container's own command has: its environment, from the kernel's record of it, and its folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from activities.platforms.base import STDERR, STDOUT, Size
from activities.runtimes.descriptors import Descriptor
from nebulous.errors import Unavailable

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from activities.runtimes.exec_keeper import main; main({})"
BEGIN_S = 20.0
END_S = 15.0  # longer than a keeper takes to kill what it keeps
END_OF_TRANSMISSION = b"\x04"
PIECES_AHEAD = 2


@dataclass(frozen=True)
class Wanted:
    """What to run, where and as whose companion."""

    argv: list[str]
    cwd: str
    run: Path  # of the container's own command
    pid: int  # of the container's own command
    size: Size | None = None

    def order(self) -> dict[str, Any]:
        """The same in the keeper's words.

        Raises:
            Unavailable: The container's own command ends just now.
        """
        try:
            env = psutil.Process(self.pid).environ()
        except (psutil.Error, OSError) as error:
            raise Unavailable(f"the environment of process {self.pid} cannot be read: {error}", "try again") from error
        if self.size:
            env = {"TERM": "xterm", **env}
        return {"argv": self.argv, "env": env, "cwd": self.cwd, "tty": bool(self.size), "run": str(self.run)}


class LocalExecution:
    """A running companion; implements `Execution`."""

    def __init__(self, keeper: subprocess.Popen[bytes], line: socket.socket, streams: dict[int, Descriptor]) -> None:
        self._keeper = keeper
        self._line = line
        self._streams = streams
        self.terminal = len(streams) == 1

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what it writes until all who may write are gone."""
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(PIECES_AHEAD)
        channels = [STDOUT] if self.terminal else [STDOUT, STDERR]
        readers = [asyncio.create_task(self._read(channel, pieces)) for channel in channels]
        try:
            for _ in channels:
                while (piece := await pieces.get())[1]:
                    yield piece
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Give it input, as long as it takes some."""
        with suppress(BrokenPipeError):
            await self._streams[0].write(data)

    async def end_input(self) -> None:
        """Close its input; on a terminal, type what means that."""
        if self.terminal:
            await self.write(END_OF_TRANSMISSION)
        else:
            self._streams[0].close()

    async def resize(self, size: Size) -> None:
        """Give its terminal another size; the kernel tells it."""
        if self.terminal:
            with suppress(OSError):
                _set_size(self._streams[0].number, size)

    async def exit_code(self) -> int:
        """Wait for the keeper's word.

        Raises:
            Unavailable: The keeper was killed.
        """
        loop, word = asyncio.get_running_loop(), b""
        while not word.endswith(b"\n"):
            try:
                piece = await loop.sock_recv(self._line, 4096)
            except OSError:
                piece = b""
            if not piece:
                raise Unavailable("the command's keeper was killed; its exit code is unknown", "run it again")
            word += piece
        return int(json.loads(word)["code"])

    async def end(self) -> None:
        """End the command if it still runs, and wait until nothing of it is left."""
        await asyncio.shield(asyncio.to_thread(self.close))

    async def _read(self, channel: int, pieces: asyncio.Queue[tuple[int, bytes]]) -> None:
        stream = self._streams[0 if self.terminal else channel]
        while data := await stream.read():
            await pieces.put((channel, data))
        await pieces.put((channel, b""))

    def close(self) -> None:
        """The same. Blocking."""
        self._line.close()
        for stream in self._streams.values():
            stream.close()
        try:
            self._keeper.wait(END_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()


@asynccontextmanager
async def executing(wanted: Wanted) -> AsyncGenerator[LocalExecution]:
    """Run a command for the block; leaving it ends the command."""
    execution = await asyncio.to_thread(_begin, wanted)
    try:
        yield execution
    finally:
        await execution.end()


def _begin(wanted: Wanted) -> LocalExecution:
    order = json.dumps(wanted.order()).encode() + b"\n"
    ours, theirs = socket.socketpair()
    streams, passed = _terminal(wanted.size) if wanted.size else _pipes()
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", PROGRAM.format(theirs.fileno()), str(ROOT)],
            stdin=passed[0],
            stdout=passed[1],
            stderr=passed[2],
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError as error:
        for stream in streams.values():
            stream.close()
        ours.close()
        raise Unavailable(f"cannot start a command: {error}", "is memory short?") from error
    finally:
        theirs.close()
        for descriptor in set(passed):
            os.close(descriptor)
    execution = LocalExecution(keeper, ours, streams)
    ours.settimeout(BEGIN_S)
    try:
        ours.sendall(order)
        begun = ours.recv(1)
    except OSError:  # a time-out too
        begun = b""
    if not begun:
        execution.close()
        raise Unavailable("the command's keeper did not start", "is memory short?")
    ours.setblocking(False)
    return execution


def _pipes() -> tuple[dict[int, Descriptor], list[int]]:
    """Three pipes: our ends by channel, and theirs."""
    inner, outer = os.pipe()
    streams, passed = {0: Descriptor(outer)}, [inner]
    for channel in (STDOUT, STDERR):
        outer, inner = os.pipe()
        streams[channel] = Descriptor(outer)
        passed.append(inner)
    return streams, passed


def _terminal(size: Size) -> tuple[dict[int, Descriptor], list[int]]:
    """A pseudo-terminal: our end, and theirs as all three streams."""
    outer, inner = os.openpty()
    _set_size(outer, size)
    return {0: Descriptor(outer)}, [inner, inner, inner]


def _set_size(terminal: int, size: Size) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))
