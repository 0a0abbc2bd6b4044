"""A platform of a cloud that rents bare machines: each runs one container, in a Docker Engine reached by SSH.

The cloud says what is rented (`machine_cloud.py`), the Engine on each machine what becomes of its command. A machine
that cannot be reached is not gone: only the cloud's word counts for that. `machine_lines.py` keeps the lines,
`machine_line.py` is one, `activities/runtimes/boot.py` has what a machine runs at its first boot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from math import ceil
from pathlib import Path

from activities.platforms import diagnosis
from activities.platforms.base import Ask, Check, Command, Execution, Progress, Size, Verdict, unheard
from activities.platforms.machine_cloud import MachineCloud, Order
from activities.platforms.machine_docker import MachineDocker
from activities.platforms.machine_line import Line
from activities.platforms.machine_lines import Lines, runs
from activities.runtimes import boot, docker_config, machine_keys
from activities.runtimes.tunnel import RentedKeys, Tunnel
from nebulous.errors import Conflict, NebulousError, NotFound, NotReady, Rejected, Unavailable
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.machines import Way
from nebulous.models.container_fields import HealthCheck
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, InstanceState, Offer, PathStat, Usage

TRY_S = 90.0  # how long one try of a start waits; an activity's own time is two minutes
LOOK_EVERY_S = 1.0  # at the cloud, while a machine boots
REACH_S = 15.0  # how long others wait for a line
FIRST_ANSWERS_S = 5.0  # how long a listing waits for machines that nobody has spoken to yet
REDIAL_S = 0.5
DISK_GIB, DISK_GIB_ACCELERATED = 30, 100  # room for an image with CUDA, and for what it writes
LIFETIME_MARGIN = timedelta(hours=2)
TICK_S, QUICK_TICK_S = 5, 1  # how often the guard looks for a notice; Google's, of 30 s, leaves no time for more

FEATURES = frozenset({Feature.LOGS, Feature.WATCH, Feature.EXEC, Feature.FILES, Feature.STATS})

SPOT = frozenset({Feature.SPOT})


class MachinePlatform:
    """Machines of one account of a cloud; implements `Platform` and every extra of `base.py` that is not of a host."""

    simulated = False

    def __init__(self, cloud: MachineCloud, install: str, secret_key: bytes, data_dir: Path, subnets: str) -> None:
        """Nothing is asked yet.

        Args:
            cloud: Who rents; closed with this.
            install: Whose machines are spoken to.
            secret_key: Of the install; the machines' key pairs are derived from it.
            data_dir: Its `ssh/known_hosts` has the host keys that machines were seen with first.
            subnets: The pool of the networks on each machine.
        """
        self.type = cloud.type
        self.account = cloud.account
        self.features = FEATURES | SPOT if cloud.sells_spot else FEATURES
        self.busy_interval = cloud.busy_interval
        self.idle_interval = cloud.idle_interval
        self._cloud = cloud
        self._install = install
        self._secret_key = secret_key
        self._pins = data_dir / "ssh" / "known_hosts"
        self._subnets = subnets
        self._lines = Lines(self._dial, cloud.admit)

    async def identity(self) -> str:
        """The cloud's name for the account."""
        return await self._cloud.identity()

    async def offers(self, ask: Ask) -> list[Offer]:
        """What the cloud rents out."""
        told: dict[str, object] = {"features": self.features, "settle_s": self._cloud.settle_s}
        return [offer.model_copy(update=told) for offer in await self._cloud.offers(ask)]

    async def diagnose(self) -> list[Check]:
        """What the account may do, and how much of it."""
        missing, quotas, imageless = await asyncio.gather(
            self._cloud.missing_permissions(), self._cloud.quotas(), self._cloud.images()
        )
        told = diagnosis.quotas(quotas)
        images = Check("images", not imageless, imageless or "machines find what they boot from")
        return [diagnosis.permissions(missing), *([told] if told else []), images]

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """There is no machine to bring an image to yet."""
        return ""

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Rent one machine; nothing of the command's environment goes with it."""
        if count != 1:
            raise Rejected(f"{self.type} rents one machine at a time, not {count}", "create them one by one")
        docker_config.image_of(launch, self.type)  # before it costs anything
        return [await self._cloud.rent(self.order(launch), offer)]

    def order(self, launch: Launch) -> Order:
        """What is rented for a launch: the same to the byte whenever it is asked for."""
        spec = launch.container
        timeout = spec.timeout_span
        watch = boot.Watch(
            key=launch.key,
            cloud=self.type,
            timeout_s=ceil(timeout.total_seconds()) if timeout else 0,
            grace_s=ceil(spec.stop_grace_span.total_seconds()),
            tick_s=QUICK_TICK_S if self.type == "gce" else TICK_S,
        )
        # A command without a timeout may run for months: only the guard can tell whether anybody still wants it.
        rest = spec.provision_span + timedelta(seconds=watch.keep_s) + LIFETIME_MARGIN
        tags = {
            TAG_INSTALL: launch.install,
            TAG_WORKFLOW: launch.workflow,
            TAG_ID: launch.metadata.id,
            TAG_KEY: launch.key,
        }
        return Order(
            launch=launch,
            tags=tags,
            user_data=boot.script(watch, machine_keys.public(self._secret_key, launch.key)),
            disk_gib=ceil(spec.disk or (DISK_GIB_ACCELERATED if spec.accelerators else DISK_GIB)),
            lifetime_s=ceil((timeout + rest).total_seconds()) if timeout else None,
            ports=[port for port in spec.ports or [] if port.public],
        )

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Wait for machine, SSH, Docker and image, then start the command unless that was done since `instance.run`."""
        until = time.monotonic() + TRY_S
        line = await self._booted(instance, progress, until)
        with line.used():
            await self._lines.reach(line, progress, until - time.monotonic())
            return await self._started(line, instance, launch, command, progress, until)

    async def _started(
        self, line: Line, instance: Instance, launch: Launch, command: Command, progress: Progress, until: float
    ) -> Instance:
        async with line.starting:
            digest = ""
            if await line.docker.look(line.key) is None:
                digest = await line.image(launch, command, progress, until - time.monotonic())
                progress("creating the container")
                await line.docker.make(launch, command)
            known = line.inner.model_copy(update={"run": instance.run})
            await line.docker.start(known, launch, command)
            started = await line.look()
        return started.model_copy(update={"image_digest": digest})

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """End the command; a machine that runs none has nothing to end."""
        try:
            line = await self._reached(instance)
        except Unavailable:
            if instance.run is None:  # as far as anybody knows, nothing was ever started
                return instance
            raise
        with line.used():
            if await line.docker.look(line.key) is None:
                return line.instance
            line.stopping = True
            await line.docker.stop(line.inner, grace_s)
            return await line.look()

    async def find(self, key: str) -> list[Instance]:
        """What the cloud has under the key, with what the Engines there say now, or said last."""
        return [await self._asked(machine) for machine in await self._cloud.find(key)]

    async def delete(self, key: str) -> None:
        """Ask the cloud for the end of the machine, whatever runs on it."""
        await self._cloud.delete(key)
        self._lines.drop(key)

    async def owned(self) -> list[Instance]:
        """The cloud's list, with what the Engines said last; those nobody has spoken to yet are given a moment."""
        machines = await self._cloud.owned()
        lines = {machine.id: self._lines.hold(machine) for machine in machines if runs(machine, self._install)}
        self._lines.only(line.key for line in lines.values())
        await self._lines.answers(lines.values(), FIRST_ANSWERS_S)
        return [lines[machine.id].instance if machine.id in lines else machine for machine in machines]

    async def watch(self) -> AsyncIterator[Instance]:
        """Yield machines whose command starts, ends or is removed, as the Engines there tell."""
        async with self._lines.listening() as changes:
            while True:
                yield await changes.get()

    async def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncGenerator[bytes]:
        """Stream what the command wrote; nothing before it was first started."""
        async with self._spoken(instance) as line:
            if await line.docker.look(line.key) is None:
                return
            async with aclosing(line.docker.logs(line.inner, follow, tail)) as source:
                async for data in source:
                    yield data

    @asynccontextmanager
    async def execute(self, instance: Instance, argv: list[str], size: Size | None = None) -> AsyncGenerator[Execution]:
        """Run a further command in the container."""
        async with self._running(instance) as line, line.docker.execute(line.inner, argv, size) as execution:
            yield execution

    async def stat(self, instance: Instance, path: str) -> PathStat:
        """Look at a path in the container."""
        async with self._spoken(instance) as line:
            return await line.docker.stat(line.inner, path)

    async def read_files(self, instance: Instance, path: str) -> AsyncGenerator[bytes]:
        """Stream an archive out of the container."""
        async with self._spoken(instance) as line, aclosing(line.docker.read_files(line.inner, path)) as source:
            async for data in source:
                yield data

    async def write_files(self, instance: Instance, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack an archive in the container."""
        async with self._spoken(instance) as line:
            await line.docker.write_files(line.inner, path, archive)

    async def probe(self, instance: Instance, check: HealthCheck, command: Command) -> Verdict:
        """Check once, on the machine."""
        async with self._spoken(instance) as line:
            return await line.docker.probe(line.inner, check, command)

    async def usage(self, instance: Instance) -> Usage:
        """Read the numbers of the machine's Engine, and of its driver."""
        async with self._running(instance) as line:
            return await line.docker.usage(line.inner)

    async def close(self) -> None:
        """Hang up; the machines run on."""
        await self._lines.close()
        await self._cloud.close()

    def _dial(self, machine: Instance, tell: Callable[[Line], None]) -> Line:
        """The line to a machine; whoever runs this has no say in it, but the install's key and the cloud's word."""

        async def announced() -> list[str]:
            return await self._cloud.announced(machine)

        async def stays() -> bool:
            return any(
                seen.id == machine.id and runs(seen, self._install) for seen in await self._cloud.find(machine.key)
            )

        assert machine.ip, "only machines with an address are spoken to"
        alias = f"{self.account.replace(':', '-')}.{machine.identity}.{machine.id}"
        keys = RentedKeys(alias, machine_keys.private(self._secret_key, machine.key), self._pins, announced)
        tunnel = Tunnel(Way(machine.ip, boot.USER), keys, REDIAL_S)
        docker = MachineDocker(machine.id, self._install, self._subnets, tunnel)
        return Line(machine, docker, tunnel, keys, stays, tell)

    async def _machine(self, instance: Instance) -> Instance:
        """The instance's machine as the cloud sees it now.

        Raises:
            NotFound: It is gone, or going.
        """
        for machine in await self._cloud.find(instance.key):
            if machine.id != instance.id:
                continue
            if machine.state in (InstanceState.PREEMPTED, InstanceState.DELETING):
                raise NotFound(f"{instance.id} is {machine.state.value}: {machine.message}".rstrip(": "))
            return machine
        raise NotFound(f"{instance.id} is gone from {self.account}")

    async def _booted(self, instance: Instance, progress: Progress, until: float) -> Line:
        """The line to the instance's machine, once the cloud says that it runs.

        Raises:
            NotReady: It did not by then.
        """
        line = self._lines.of(instance.key)
        if line and line.machine.id == instance.id and line.tunnel.stands:
            return line
        while not runs(machine := await self._machine(instance), instance.install or self._install):
            words = f"{machine.state.value}" + (f": {machine.message}" if machine.message else "")
            progress(words)
            if time.monotonic() >= until:
                raise NotReady(words)
            await asyncio.sleep(LOOK_EVERY_S)
        return self._lines.hold(machine)

    async def _asked(self, machine: Instance) -> Instance:
        """A machine with what its Engine says now; as last seen where it cannot be asked."""
        if not runs(machine, self._install):
            return machine
        line = self._lines.hold(machine)
        if line.tunnel.stands:
            try:
                with line.used():
                    return await line.look()
            except NebulousError as error:
                line.in_trouble(error, lambda: None)
        await self._lines.answers([line], FIRST_ANSWERS_S)
        return line.instance

    async def _reached(self, instance: Instance) -> Line:
        """A line that stands, to the instance's machine.

        Raises:
            NotFound: The machine is gone. Unavailable: it does not answer.
        """
        line = self._lines.of(instance.key)
        if line and line.machine.id == instance.id and line.tunnel.stands:
            return line
        machine = await self._machine(instance)
        if not runs(machine, self._install):
            raise NotReady(f"{machine.id} is {machine.state.value}")
        line = self._lines.hold(machine)
        with line.used():
            await self._lines.reach(line, unheard, REACH_S)
        return line

    @asynccontextmanager
    async def _spoken(self, instance: Instance) -> AsyncGenerator[Line]:
        """The same, kept for the block."""
        line = await self._reached(instance)
        with line.used():
            yield line

    @asynccontextmanager
    async def _running(self, instance: Instance) -> AsyncGenerator[Line]:
        """The same, where a container is, too.

        Raises:
            Conflict: No command was ever started in it.
        """
        async with self._spoken(instance) as line:
            if await line.docker.look(line.key) is None:
                raise Conflict(f"no command runs in {instance.id!r}")
            yield line
