"""The line to one rented machine, and what is known through it of the command that it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager, suppress

from activities.platforms.base import Command, Progress
from activities.platforms.machine_docker import MachineDocker
from activities.runtimes.tunnel import RentedKeys, Tunnel
from nebulous import ids
from nebulous.errors import AuthFailed, NebulousError, NotReady, Unavailable
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, InstanceState
from nebulous.tasks import end

LOOK_EVERY_S = 0.5  # at a machine that is on its way
SAY_EVERY_S = 1.0
CONTACT_S = 60.0  # how often the machine's guard is told that somebody is there
ANSWER_S = 10.0  # how long a look may take
DOUBT_S = 5.0  # how long a command that was killed by nobody we know may belong to a machine that goes down
SHUT_DOWN = frozenset({128 + 9, 128 + 15})  # exit codes of what a system ends on its way down
BLOCKED_AFTER_S = 180.0  # a machine that runs, and whose SSH port answers nobody
ADMIT_EVERY_S = 60.0

#: What the Engine says of the container, as what a platform says of an instance; a dead one is no end of the machine.
STATES = {
    InstanceState.READY: InstanceState.READY,
    InstanceState.RUNNING: InstanceState.RUNNING,
    InstanceState.EXITED: InstanceState.EXITED,
}


class Line:
    """One machine; `machine` is what its cloud said of it last."""

    def __init__(
        self,
        machine: Instance,
        docker: MachineDocker,
        tunnel: Tunnel,
        keys: RentedKeys,
        stays: Callable[[], Awaitable[bool]],
        tell: Callable[[Line], None],
    ) -> None:
        """Nothing is connected yet.

        Args:
            machine: As its cloud describes it.
            docker: Its Engine, reached through the tunnel.
            tunnel: To it.
            keys: That both sides show.
            stays: Asks the cloud whether the machine runs and is to go on running.
            tell: Called when the command's state has changed.
        """
        self.machine = machine
        self.docker = docker
        self.tunnel = tunnel
        self.answered = asyncio.Event()  # once it was looked at, in vain or not
        self.keeper: asyncio.Task[None] | None = None
        self.starting = asyncio.Lock()
        self.users = 0  # who would miss the connection
        self.stopping = False  # by us: no death is a surprise then
        self._keys = keys
        self._stays = stays
        self._tell = tell
        self._seen: Instance | None = None  # its container
        self._looked = False
        self._trouble = ""
        self._silent_since: float | None = None
        self._preempted: dict[str, str] = {}  # run -> the words of the notice that ended it, "" when none did
        self._pull: asyncio.Task[str] | None = None
        self._pulling = ""

    @property
    def key(self) -> str:
        """Of the rental."""
        return self.machine.key

    @property
    def inner(self) -> Instance:
        """The container, as the machine's Engine is asked about it: by its name."""
        return Instance(key=self.key, id=self.key, account=self.docker.account, run=self._seen and self._seen.run)

    @property
    def instance(self) -> Instance:
        """Machine and command in one, as last seen."""
        if self.machine.state != InstanceState.READY:
            return self.machine
        if not self._looked:
            words = self._trouble or f"waiting for SSH at {self.machine.ip}"
            return self.machine.model_copy(update={"state": InstanceState.BOOTING, "message": words})
        if self._seen is None:
            return self.machine.model_copy(update={"message": self._trouble})
        seen = self._seen
        notice = self._preempted.get(seen.run or "", "")
        return self.machine.model_copy(
            update={
                "state": InstanceState.PREEMPTED if notice else STATES.get(seen.state, InstanceState.UNKNOWN),
                "run": seen.run,
                "exit": None if notice else seen.exit,  # an end by the cloud is no outcome
                "public_ports": seen.public_ports,
                "message": notice or self._trouble or seen.message,
            }
        )

    @contextmanager
    def used(self) -> Generator[None]:
        """Keep the connection for the block, as far as that is ours to decide."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    async def reach(
        self, progress: Progress, patience_s: float, gate: asyncio.Semaphore, admit: Callable[[], object]
    ) -> None:
        """Wait until machine, SSH and Docker are there.

        Raises:
            AuthFailed: It is not the machine that it should be.
            Unavailable: It was not reached within the patience; the message says what was waited for.
        """
        until = time.monotonic() + patience_s
        while True:
            try:
                async with gate:
                    await self.tunnel.ready()
            except NebulousError as error:
                self.in_trouble(error, admit)
                if self._final or time.monotonic() >= until:
                    raise self.waiting(error) from error
            else:
                self._silent_since = None
                return
            progress(self._trouble)
            await asyncio.sleep(LOOK_EVERY_S)

    def waiting(self, error: NebulousError) -> NebulousError:
        """What people are told about a machine that is not reached."""
        if self._final:
            return error
        silent = time.monotonic() - (self._silent_since or time.monotonic())
        if silent < BLOCKED_AFTER_S or isinstance(error, NotReady):
            return NotReady(self._trouble)
        return Unavailable(
            f"the machine runs, and SSH at {self.machine.ip} has not answered for {silent:.0f} s: {error.message}",
            f"is port 22 of {self.machine.ip} blocked from here? See a firewall in between, ssh_from of the account, "
            "network ACLs and routes of its subnet; and the machine's console",
        )

    def in_trouble(self, error: NebulousError, admit: Callable[[], object]) -> None:
        """Note why it is not reached, and have this worker's address let in if it stays silent."""
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if isinstance(error, NotReady) or self._final:  # it spoke
            self._silent_since, self._trouble = now, error.message
        elif isinstance(error, AuthFailed):
            self._trouble = f"waiting for SSH at {self.machine.ip}: it does not let us in yet"
        elif self._looked:
            self._trouble = f"unreachable: {error.message}"
        else:
            self._trouble = f"waiting for SSH at {self.machine.ip}"
        if now - self._silent_since >= ADMIT_EVERY_S:
            admit()
        self.answered.set()

    @property
    def _final(self) -> bool:
        """True when another try will hardly find anything else."""
        return self._keys.refused or self._keys.failed

    async def look(self) -> Instance:
        """Ask the Engine now.

        Raises:
            Unavailable: The line does not stand, or breaks.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._take(await self.docker.look(self.key))
        except TimeoutError as error:
            raise Unavailable(f"{self.tunnel.name} does not answer in time") from error
        return self.instance

    async def follow(self) -> None:
        """Take in what happens to the container, and tell the guard that somebody is there, until the line breaks."""
        contact = asyncio.create_task(self._keep_contact())
        try:
            async with aclosing(self.docker.changes(self.key)) as changes:
                async for seen in changes:
                    await self._take(seen)
        finally:
            await end(contact)

    async def touch(self) -> None:
        """Tell the guard that somebody is there."""
        await self.tunnel.ask("sh", "-c", f"echo {ids.new_id()} >/run/nebulous/contact")

    async def image(self, launch: Launch, command: Command, progress: Progress, patience_s: float) -> str:
        """Wait for the image; the pull goes on when this ends.

        Raises:
            NotReady: It takes longer than the patience.
        """
        if self._pull is None:
            self._pulling = f"pulling {launch.container.image}"
            bring = self.docker.bring(launch, command, self.machine.account.partition(":")[0], self._heard)
            self._pull = asyncio.create_task(bring, name=f"pull for {self.key}")
        pull, until = self._pull, time.monotonic() + patience_s
        while not pull.done():
            progress(self._pulling)
            left = until - time.monotonic()
            if left <= 0:
                raise NotReady(self._pulling)
            await asyncio.wait({pull}, timeout=min(SAY_EVERY_S, left))
        if self._pull is pull:
            self._pull = None
        return pull.result()

    async def close(self) -> None:
        """Hang up."""
        await end(*(task for task in (self.keeper, self._pull) if task))
        with suppress(NebulousError):
            await self.docker.close()

    def _heard(self, words: str) -> None:
        self._pulling = words

    async def _keep_contact(self) -> None:
        with suppress(NebulousError):  # then the events break off too
            while True:
                await self.touch()
                await asyncio.sleep(CONTACT_S)

    async def _take(self, seen: Instance | None) -> None:
        """Note what the Engine says; an end that the cloud had announced is no end of the command's own."""
        notice = None
        if seen and seen.run and seen.state == InstanceState.EXITED and seen.run not in self._preempted:
            notice = await self._notice(seen.run)
            if not notice and not self.stopping and seen.exit and seen.exit.code in SHUT_DOWN and not seen.exit.oom:
                notice = await self._shut_down(seen.run)
        before = self.instance if self._looked else None
        if seen and seen.run and notice is not None:
            self._preempted[seen.run] = notice
        if seen is None and self._seen and self._seen.run:
            self._preempted[self._seen.run] = "its container was removed from the machine"
        else:
            self._seen = seen
        self._looked, self._trouble, self._silent_since = True, "", None
        self.answered.set()
        now = self.instance
        if before is None or (before.state, before.run) != (now.state, now.run):
            self._tell(self)

    async def _shut_down(self, run: str) -> str:
        """Why a command was killed that nobody stopped: the machine may be going down, guard and all; "" if it stays.

        Raises:
            Unavailable: The machine does not answer any more, or the cloud does not: nobody knows yet.
        """
        await asyncio.sleep(DOUBT_S)
        if notice := await self._notice(run):
            return notice
        return "" if await self._stays() else "the machine was shut down while the command ran"

    async def _notice(self, run: str) -> str:
        """What the guard knows of a notice by which it ended this run; "" when there was none.

        Raises:
            Unavailable: It cannot be asked.
        """
        said = await self.tunnel.ask("sh", "-c", "cd /run/nebulous && cat preempted notice 2>/dev/null; echo .")
        if not said.endswith(".\n"):
            raise Unavailable(f"{self.tunnel.name} does not say whether its cloud takes it back")
        stopped, _, words = said.removesuffix(".\n").partition("\n")
        return f"the cloud takes the machine back: {' '.join(words.split())}" if stopped == run else ""
