"""Further commands in a container, by the Engine's exec API.

The Engine cannot end one: closing the connection leaves it running. So each carries a variable that names its
session, and a small shell script ends whatever has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from activities.platforms.base import NO_PROGRAM, STDERR, STDOUT, Size
from activities.runtimes.docker_engine import Engine
from activities.runtimes.docker_line import Line
from nebulous import ids
from nebulous.errors import Conflict, NebulousError, NotFound, Unavailable

log = logging.getLogger(__name__)

MARK = "NEBU_SESSION"
ENDED_WITHIN_S = 10.0  # after its output has ended
BROKEN_WITHIN_S = 1.0  # after its connection was reset: it may have ended just then
LOOK_S, SLOWEST_LOOK_S = 0.02, 0.5
SIZE_TRIES = 20
CREATE_S = 60.0
KILL_S = 15.0
KILL_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # between tries, while the Engine does not answer
REFUSED = b"OCI runtime exec failed"  # the Engine's word on stdout for a program that it could not start
ABSENT = (b"executable file not found", b"no such file or directory")  # Engine 20.10 with runc 1.1 calls it 126

_ending: set[asyncio.Task[None]] = set()  # a task that nobody holds may be collected

#: $1 is the mark. Only the shell's own words, cat, sleep and kill: a small image has no more.
KILLER = """
for signal in HUP KILL; do
  found=
  for environ in /proc/[0-9]*/environ; do
    case "$(cat "$environ" 2>/dev/null)" in *"$1"*)
      pid=${environ#/proc/}
      kill -$signal "${pid%/environ}" 2>/dev/null && found=1
    esac
  done
  [ -n "$found" ] || exit 0
  [ $signal = KILL ] || sleep 1
done
"""


class DockerExecution:
    """A running exec; implements `Execution`."""

    def __init__(self, engine: Engine, exec_id: str, line: Line, terminal: bool) -> None:
        self._engine = engine
        self._id = exec_id
        self._line = line
        self._terminal = terminal
        self._refusal = b""
        self.ended = False

    async def output(self) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield what it writes until the stream ends.

        Raises:
            Unavailable: The connection broke.
        """
        first = True
        async for channel, data in self._written():
            if first and data.startswith(REFUSED):
                self._refusal = data
            first = False
            yield (STDERR if self._refusal and not self._terminal else channel), data

    async def _written(self) -> AsyncGenerator[tuple[int, bytes]]:
        if not self._terminal:
            async for frame in self._line.frames():
                yield frame
            return
        async for data in self._line.pieces():
            yield STDOUT, data

    async def write(self, data: bytes) -> None:
        """Give it input."""
        await self._line.write(data)

    async def end_input(self) -> None:
        """Let it read the end; a terminal has none, so that is typed."""
        if self._terminal:
            await self._line.write(b"\x04")
        else:
            self._line.end()

    async def resize(self, size: Size) -> None:
        """Tell the Engine the terminal's size."""
        if self._terminal:
            with suppress(NotFound, Conflict, Unavailable):  # it has just ended, or not quite begun
                await self._engine.post(f"exec/{self._id}/resize", {"h": size.rows, "w": size.cols})

    async def exit_code(self) -> int:
        """Ask the Engine how it ended: the end of the stream alone may be a broken connection.

        Raises:
            Unavailable: It has not ended, or nobody knows.
        """
        pause, waited = LOOK_S, 0.0
        while waited < (BROKEN_WITHIN_S if self._line.broke else ENDED_WITHIN_S):
            seen = await self._look()
            if not seen["Running"] and seen["ExitCode"] is not None:
                self.ended = True
                absent = any(words in self._refusal for words in ABSENT)
                return NO_PROGRAM if absent else int(seen["ExitCode"])
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, SLOWEST_LOOK_S)
        raise Unavailable("the line to the Engine broke, and with it the command", "run it again")

    async def settle(self, size: Size) -> None:
        """Give the terminal its first size, which the Engine refuses until the command has begun."""
        for _ in range(SIZE_TRIES):
            try:
                await self._engine.post(f"exec/{self._id}/resize", {"h": size.rows, "w": size.cols})
            except NebulousError:
                await asyncio.sleep(LOOK_S)
            else:
                return

    async def _look(self) -> Mapping[str, Any]:
        try:
            return await self._engine.get(f"exec/{self._id}/json")
        except NotFound as error:
            raise Unavailable("the Engine forgot the command: it was restarted, or the container is gone") from error


@asynccontextmanager
async def executing(
    engine: Engine, container: str, argv: list[str], size: Size | None
) -> AsyncGenerator[DockerExecution]:
    """Run a command in a container for the block; leaving it ends the command.

    Raises:
        Conflict: The container does not run. NotFound: it is gone.
    """
    mark = f"{MARK}={ids.new_id()}"
    exec_id = await _made(engine, container, argv, [mark], size is not None)
    execution: DockerExecution | None = None
    try:
        async with engine.upgraded(f"exec/{exec_id}/start", {"Detach": False, "Tty": size is not None}) as line:
            execution = DockerExecution(engine, exec_id, line, size is not None)
            if size:
                await execution.settle(size)
            yield execution
    finally:
        if execution is None or not execution.ended:
            await asyncio.shield(asyncio.ensure_future(_end(engine, container, mark)))


async def _made(engine: Engine, container: str, argv: list[str], env: list[str], terminal: bool) -> str:
    body = {
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": terminal,
        "Cmd": argv,
        "Env": env,
    }
    made = await engine.post(f"containers/{container}/exec", body=body, timeout_s=CREATE_S)
    return str(made["Id"])


async def _end(engine: Engine, container: str, mark: str) -> None:
    """End what has the mark; where the Engine does not answer, its reader need not wait for the next try."""
    try:
        await _kill(engine, container, mark)
    except (NebulousError, TimeoutError):
        trying = asyncio.create_task(_end_later(engine, container, mark))
        _ending.add(trying)
        trying.add_done_callback(_ending.discard)


async def _end_later(engine: Engine, container: str, mark: str) -> None:
    failure: Exception | None = None
    for pause in KILL_PAUSES_S:
        await asyncio.sleep(pause)
        try:
            return await _kill(engine, container, mark)
        except (NebulousError, TimeoutError) as error:
            failure = error
    log.warning("a command that nobody reads any more could not be ended in %s: %s", container[:12], failure)
    return None


async def _kill(engine: Engine, container: str, mark: str) -> None:
    """Nothing to do where nothing runs any more; without a shell there, nothing can be done."""
    argv = ["/bin/sh", "-c", KILLER, "sh", mark]
    with suppress(NotFound, Conflict):
        async with asyncio.timeout(KILL_S):
            exec_id = await _made(engine, container, argv, [], terminal=False)
            async with engine.upgraded(f"exec/{exec_id}/start", {"Detach": False, "Tty": False}) as line:
                async for _ in line.pieces():
                    pass
