"""An SSH server on standard input and output whose sessions are commands in a container: what a ProxyCommand is.

Whoever started this process may use the container already, so nobody is asked who they are. Channels to ports
(`ssh -L`, editors) go through `nebulous/relay.py`. There is no SFTP: `rsync`, `scp -O` and `nebu cp` copy files.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import asyncssh

from nebulous import relay
from nebulous.cli import ssh_config
from nebulous.cli.ssh import LINE, SHELL
from nebulous.client import Api, Place
from nebulous.errors import NebulousError, Unavailable
from nebulous.remote import STDERR, RemoteExecution, execute

PIECE_BYTES = 32 * 1024
THREADS = 1024
FAILED = 255  # as ssh has it: not the command's own

Write = Callable[[int, bytes], Coroutine[Any, Any, None]]


def serve(api: Api, place: Place) -> int:
    """Speak SSH until the other side hangs up."""
    try:
        asyncio.run(_serve(api, place))
    except asyncssh.Error as error:
        raise Unavailable(f"whoever speaks SSH to us went away: {error.reason}") from error
    return 0


async def _serve(api: Api, place: Place) -> None:
    # Each session keeps a thread while it lasts; with the few of the default, idle ones would hold up all others.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    ours, theirs = socket.socketpair()
    sessions = Sessions(api, place)
    threading.Thread(target=_carry_in, args=(ours,), daemon=True).start()
    out = threading.Thread(target=_carry_out, args=(ours,), daemon=True)
    out.start()
    line = await asyncssh.run_server(
        theirs,
        server_factory=lambda: Door(sessions),
        server_host_keys=[str(ssh_config.host_key())],
        process_factory=sessions.command,
        encoding=None,
        line_editor=False,
        login_timeout=30,
    )
    await line.wait_closed()
    await asyncio.to_thread(out.join, 5)


def _carry_in(line: socket.socket) -> None:
    with suppress(OSError):
        while data := os.read(0, PIECE_BYTES):
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)


def _carry_out(line: socket.socket) -> None:
    with suppress(OSError):
        while data := line.recv(PIECE_BYTES):
            while data:
                data = data[os.write(1, data) :]


class Door(asyncssh.SSHServer):
    """Lets its one visitor in, and to the ports of the container."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def begin_auth(self, username: str) -> bool:
        """Nobody has to say who they are."""
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:  # noqa: ANN401 - asyncssh takes a handler
        """Connect to a port, as seen from inside of the container."""

        async def handler(reader: Any, writer: Any) -> None:  # noqa: ANN401 - asyncssh's streams
            await self._sessions.connection(dest_host, dest_port, reader, writer)

        return handler


class Sessions:
    """What happens in the container."""

    def __init__(self, api: Api, place: Place) -> None:
        self._api = api
        self._place = place

    async def command(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command, or a shell."""
        argv = [*LINE, process.command] if process.command else SHELL
        size = None
        if process.term_type:
            columns, rows = process.term_size[:2]
            size = (rows or 24, columns or 80)

        async def write(channel: int, data: bytes) -> None:
            stream = process.stderr if channel == STDERR else process.stdout
            stream.write(data)
            await stream.drain()

        try:
            code = await self._run(argv, size, process.stdin, write, process.channel)
        except NebulousError as error:
            process.stderr.write(f"nebu: {error.message}\r\n".encode())
            code = FAILED
        process.exit(code)

    async def connection(self, host: str, port: int, reader: Any, writer: Any) -> None:  # noqa: ANN401 - asyncssh's streams
        """One connection to a port."""

        async def write(channel: int, data: bytes) -> None:
            if channel != STDERR:
                writer.write(data)
                await writer.drain()

        with suppress(NebulousError):
            await self._run(relay.command(host, port), None, reader, write, writer.channel)
        writer.close()

    async def _run(
        self,
        argv: list[str],
        size: tuple[int, int] | None,
        reader: Any,  # noqa: ANN401 - asyncssh's stream
        write: Write,
        channel: Any,  # noqa: ANN401 - asyncssh's
    ) -> int:
        """Run a command with this input and output, as long as the channel is open; its exit code.

        Raises:
            NebulousError: It could not be started, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        execution = await asyncio.to_thread(execute, self._api, self._place, argv, size)

        def read_all() -> int:
            for channel, data in execution.output():
                asyncio.run_coroutine_threadsafe(write(channel, data), loop).result()
            return execution.exit_code or 0

        feeding = asyncio.create_task(_feed(execution, reader))
        reading = asyncio.create_task(asyncio.to_thread(read_all))
        closing = asyncio.create_task(channel.wait_closed())
        left = False
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            left = not reading.done()
            await asyncio.to_thread(execution.close)  # which ends what still runs, and with it the reading
            return await reading
        except (asyncssh.Error, OSError):
            return FAILED
        except NebulousError:
            if not left:
                raise
            return FAILED
        finally:
            for task in (feeding, closing):
                task.cancel()


async def _feed(execution: RemoteExecution, reader: Any) -> None:  # noqa: ANN401 - asyncssh's stream
    """Pass input on, and a terminal's size, until its end."""
    while True:
        try:
            data = await reader.read(PIECE_BYTES)
        except asyncssh.TerminalSizeChanged as changed:
            await asyncio.to_thread(execution.resize, changed.height, changed.width)
            continue
        except (asyncssh.SignalReceived, asyncssh.BreakReceived):
            continue
        except (asyncssh.Error, OSError):
            data = b""
        if not data:
            await asyncio.to_thread(execution.end_input)
            return
        await asyncio.to_thread(execution.send, data)
