"""Further commands in a pod, by the SSH server that our entry starts where the image has one.

Both keys are derived (`runpod_keys.py`), so the pod is known before it is seen. A command gets the environment and the
folder of the container's own, which the entry wrote down; leaving it ends all that carries its mark, as on Docker.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from activities.platforms.base import STDERR, STDOUT, Size
from activities.platforms.runpod_keys import PodKeys
from activities.runtimes.docker_exec import KILLER, MARK
from nebulous import ids
from nebulous.errors import AuthFailed, Unavailable

if TYPE_CHECKING:
    import asyncssh

FOLDER = "/tmp/.nebulous"  # noqa: S108 - in the pod; `runpod_entry.sh` makes it, for nobody else to read
CONNECT_S = 10.0
KILL_S = 15.0
PIECE_BYTES = 1 << 16
BEGIN, BEGUN = "printf '\\001'; ", b"\x01"  # what a command on a terminal begins with, for us
KEEPALIVE_S, MISSED = 15, 3


class PodExecution:
    """A running command; implements `Execution`."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], terminal: bool) -> None:
        self._process = process
        self._terminal = terminal
        self._first = b""
        self.ended = False

    async def begin(self) -> None:
        """Wait until the command has its terminal: before that, Ctrl-C would reach nobody."""
        import asyncssh

        with suppress(asyncssh.Error, OSError):
            async with asyncio.timeout(CONNECT_S):
                self._first = (await self._process.stdout.read(PIECE_BYTES)).removeprefix(BEGUN)

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what it writes until both streams end."""
        import asyncssh

        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(2)
        streams = {STDOUT: self._process.stdout} | ({} if self._terminal else {STDERR: self._process.stderr})

        async def read(channel: int) -> None:
            try:
                while data := await streams[channel].read(PIECE_BYTES):
                    await pieces.put((channel, data))
            except (asyncssh.Error, OSError):
                pass  # `exit_code` says that the line broke
            await pieces.put((channel, b""))

        if self._first:
            yield STDOUT, self._first
        readers = [asyncio.create_task(read(channel)) for channel in streams]
        try:
            for _ in streams:
                while (piece := await pieces.get())[1]:
                    yield piece
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Give it input, at its pace."""
        import asyncssh

        with suppress(OSError, asyncssh.Error):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def end_input(self) -> None:
        """Let it read the end; on a terminal that is typed."""
        if self._terminal:
            await self.write(b"\x04")
        else:
            with suppress(OSError):
                self._process.stdin.write_eof()

    async def resize(self, size: Size) -> None:
        """Tell its terminal."""
        if self._terminal:
            with suppress(OSError):
                self._process.change_terminal_size(size.cols, size.rows)

    async def exit_code(self) -> int:
        """Wait for how it ended.

        Raises:
            Unavailable: The line broke, and with it the command.
        """
        await self._process.wait_closed()
        if name := self._process.exit_signal:
            self.ended = True
            number = getattr(signal, f"SIG{name[0]}", None)
            return 128 + int(number) if number else 255
        code = self._process.exit_status
        if code is None or code < 0:
            raise Unavailable("the line to the pod broke, and with it the command", "run it again")
        self.ended = True
        return code


class PodLine:
    """One connection to one pod, made on first use and again when it is lost."""

    def __init__(self, host: str, port: int, keys: PodKeys) -> None:
        self.where = (host, port)
        self._keys = keys
        self._line: asyncssh.SSHClientConnection | None = None
        self._dialling = asyncio.Lock()

    async def ready(self) -> asyncssh.SSHClientConnection:
        """Connect, unless the line stands.

        Raises:
            Unavailable: Nothing answers. AuthFailed: something else than our pod does.
        """
        import asyncssh

        async with self._dialling:
            if self._line is not None and not self._line.is_closed():
                return self._line
            name = f"{self.where[0]}:{self.where[1]}"
            known = [asyncssh.import_public_key(self._keys.host_public)]
            try:
                async with asyncio.timeout(CONNECT_S):
                    self._line = await asyncssh.connect(
                        *self.where,
                        username="root",
                        client_keys=[asyncssh.import_private_key(self._keys.client_private)],
                        known_hosts=(known, [], []),
                        config=None,
                        agent_path=None,
                        keepalive_interval=KEEPALIVE_S,
                        keepalive_count_max=MISSED,
                    )
            except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied) as error:
                raise AuthFailed(
                    f"what answers at {name} is not the SSH server of our pod: {error.reason}",
                    "does the image start one of its own at port 22?",
                ) from error
            except (asyncssh.Error, OSError) as error:  # a time-out is an OSError
                raise Unavailable(f"the pod's SSH server at {name} does not answer: {error or 'in time'}") from error
            return self._line

    @asynccontextmanager
    async def executing(self, argv: list[str], size: Size | None) -> AsyncGenerator[PodExecution]:
        """Run a command for the block; leaving it ends the command."""
        mark = f"{MARK}={ids.new_id()}"
        script = (
            f'. {FOLDER}/env; cd "$(cat {FOLDER}/cwd)" 2>/dev/null; export {mark}; '
            f"TERM=${{TERM:-xterm}}; {BEGIN if size else ''}exec {shlex.join(argv)}"
        )
        process = await self._process(script, size)
        execution = PodExecution(process, size is not None)
        try:
            if size:
                await execution.begin()
            yield execution
        finally:
            process.close()
            if not execution.ended:
                await asyncio.shield(asyncio.ensure_future(self._end(mark)))

    async def stop(self, grace_s: float) -> None:
        """Tell our entry to end its command, which stays with the pod."""
        script = f"echo {max(0, round(grace_s))} >{FOLDER}/stop && kill -s TERM 1"
        process = await self._process(script, None)
        async with asyncio.timeout(CONNECT_S):
            await process.wait_closed()
        if process.exit_status != 0:
            raise Unavailable("the pod's entry could not be told to stop the command")

    async def close(self) -> None:
        """Hang up."""
        line, self._line = self._line, None
        if line:
            line.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await line.wait_closed()

    async def _process(self, script: str, size: Size | None) -> asyncssh.SSHClientProcess[bytes]:
        import asyncssh

        options: dict[str, Any] = {"encoding": None}
        if size:
            options |= {"term_type": "xterm", "term_size": (size.cols, size.rows)}
        line = await self.ready()
        try:
            async with asyncio.timeout(CONNECT_S):
                return await line.create_process(f"exec /bin/sh -c {shlex.quote(script)}", **options)
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"the line to the pod broke: {error or 'no answer in time'}") from error

    async def _end(self, mark: str) -> None:
        with suppress(Unavailable, AuthFailed, TimeoutError):
            async with asyncio.timeout(KILL_S):
                process = await self._process(f"set -- {mark}\n{KILLER}", None)
                await process.wait_closed()
