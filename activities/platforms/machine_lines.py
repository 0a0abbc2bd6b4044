"""The lines of one account: which machines are spoken to, how many at once, and when a silent one is tried again."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

from activities.platforms.base import Progress
from activities.platforms.machine_line import ADMIT_EVERY_S, Line
from nebulous.errors import NebulousError
from nebulous.models.platforms import Instance, InstanceState
from nebulous.tasks import end

HELD_AT_MOST = 500  # lines a process; machines beyond that are asked in turn
DIALLED_AT_ONCE = 50
SOONEST_S, SLOWEST_S = 1.0, 60.0  # between two tries of one that does not answer
ASK_AGAIN_S = 60.0  # one that has no line of its own; its guard wants to hear of somebody
GOODBYE_S = 5.0
FILES_A_LINE = 8
FILES_BESIDE = 1024


class Lines:
    """Every machine of ours that runs has one; they are kept by tasks of their own."""

    _held: ClassVar[int] = 0  # over all accounts of this process

    def __init__(
        self, dial: Callable[[Instance, Callable[[Line], None]], Line], admit: Callable[[Instance], Awaitable[None]]
    ):
        """None yet.

        Args:
            dial: Makes the line to a machine.
            admit: Lets this worker in to a machine.
        """
        self._dial = dial
        self._admit = admit
        self._lines: dict[str, Line] = {}
        self._dialling = asyncio.Semaphore(DIALLED_AT_ONCE)
        self._urgent = asyncio.Semaphore(DIALLED_AT_ONCE)  # machines that are away hold up nobody's start
        self._listeners: set[asyncio.Queue[Instance]] = set()
        self._admitted: dict[str, float] = {}  # region -> when
        self._asides: set[asyncio.Task[None]] = set()
        _allow_files()

    def of(self, key: str) -> Line | None:
        """The line of a rental, if there is one."""
        return self._lines.get(key)

    def hold(self, machine: Instance) -> Line:
        """The line to a machine that runs, made if need be, and kept."""
        line = self._lines.get(machine.key)
        if line and (line.machine.id, line.machine.ip) != (machine.id, machine.ip):
            self.drop(machine.key)
            line = None
        if line is None:
            line = self._lines[machine.key] = self._dial(machine, self._tell)
        line.machine = machine
        if line.keeper is None or line.keeper.done():
            line.keeper = asyncio.create_task(self._keep(line), name=f"line to {machine.id}")
        return line

    async def reach(self, line: Line, progress: Progress, patience_s: float) -> None:
        """Wait until one can be spoken to; see `Line.reach`."""
        await line.reach(progress, patience_s, self._urgent, lambda: self.admit(line.machine))

    def only(self, keys: Iterable[str]) -> None:
        """Let go of all others, but for those in use: the list may be older than they are."""
        wanted = set(keys)
        for key in [key for key, line in self._lines.items() if key not in wanted and not line.users]:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Let go of one."""
        if line := self._lines.pop(key, None):
            self._aside(line.close())

    async def answers(self, lines: Iterable[Line], patience_s: float) -> None:
        """Wait until each was looked at once, but no longer than this in all."""
        waiting = [asyncio.create_task(line.answered.wait()) for line in lines if not line.answered.is_set()]
        if waiting:
            await asyncio.wait(waiting, timeout=patience_s)
            await end(*waiting)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[asyncio.Queue[Instance]]:
        """A queue of every change, for the block."""
        queue: asyncio.Queue[Instance] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def admit(self, machine: Instance) -> None:
        """Have this worker let in, in the background; one call does for all machines of a region."""
        now = time.monotonic()
        if now - self._admitted.get(machine.region, -ADMIT_EVERY_S) >= ADMIT_EVERY_S:
            self._admitted[machine.region] = now
            self._aside(self._admit(machine))

    async def close(self) -> None:
        """Hang up everywhere."""
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(line.close() for line in lines))
        if self._asides:
            await asyncio.wait(self._asides, timeout=GOODBYE_S)
        await end(*self._asides)

    async def _keep(self, line: Line) -> None:
        pause = SOONEST_S
        while True:
            try:
                async with self._dialling:
                    await line.tunnel.ready()
                    await line.look()
                pause = SOONEST_S
                await self._follow(line)
                await asyncio.sleep(ASK_AGAIN_S)
            except NebulousError as error:
                line.in_trouble(error, lambda: self.admit(line.machine))
                await asyncio.sleep(pause)
                pause = min(SLOWEST_S, pause * 2)

    async def _follow(self, line: Line) -> None:
        """Stay on the line until it breaks; if there are too many, only leave word."""
        if Lines._held >= HELD_AT_MOST:
            await line.touch()
            if not line.users:
                await line.tunnel.hang_up()
            return
        Lines._held += 1
        try:
            await line.follow()
        finally:
            Lines._held -= 1

    def _tell(self, line: Line) -> None:
        for queue in self._listeners:
            queue.put_nowait(line.instance)

    def _aside(self, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            with suppress(NebulousError):
                await work

        task = asyncio.create_task(quietly())
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)


def _allow_files() -> None:
    """As many open files as the lines need, as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HELD_AT_MOST * FILES_A_LINE + FILES_BESIDE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def runs(machine: Instance, install: str) -> bool:
    """True for a machine of this install that can be spoken to."""
    return machine.state == InstanceState.READY and machine.install == install and bool(machine.ip)
