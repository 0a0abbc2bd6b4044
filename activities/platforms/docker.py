"""The platform `docker`: the Docker Engine of this machine (or of `docker_host`), one container per rental.

The container's name is the rental's key, so the Engine itself refuses to rent twice. How an Engine is spoken to
stands in `activities/runtimes/docker.py`; namespaces in `docker_networks.py`; GPUs in `docker_gpus.py`.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from activities.platforms.base import Ask, Command, Load, Progress, Size, Verdict, unheard
from activities.runtimes import docker_config, docker_exec, docker_files, docker_gpus, docker_usage, driver, gpu_usage
from activities.runtimes.docker import DockerRuntime, Login
from activities.runtimes.docker_engine import Engine, part
from activities.runtimes.docker_exec import DockerExecution
from activities.runtimes.docker_networks import Locks, Networks
from activities.runtimes.docker_probes import DockerProbes
from activities.runtimes.tunnel import Tunnel
from nebulous.errors import (
    AuthFailed,
    Conflict,
    ImageNotFound,
    NebulousError,
    NotFound,
    Rejected,
    Unavailable,
)
from nebulous.ids import TAG_GPUS, TAG_ID, TAG_INSTALL, TAG_KEY
from nebulous.models.container_fields import HealthCheck
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, InstanceState, Offer, PathStat, Usage

#: How long a listing believes that an exited container has not been started and ended again unseen.
ENDED_FRESH_S = 60.0
#: A watch begins with the events of the last moments, so that nothing falls between a listing and the stream.
REPLAY_S = 2.0
INSPECTIONS_AT_ONCE = 20
TIDY_S = 2.0  # at the end of a worker, which nobody wants to wait for
EVENTS = ("start", "die", "destroy")  # an `oom` that ends the command is followed by `die`


@dataclass(frozen=True)
class _Ended:
    """An exited container as it was inspected at some time of our own monotonic clock."""

    instance: Instance
    at: float


class DockerPlatform:
    """The containers of one Engine, free of charge; implements `Platform` and every extra of `base.py`."""

    type = "docker"
    features = frozenset({Feature.PULL_FIRST, Feature.LOGS, Feature.WATCH, Feature.EXEC, Feature.FILES, Feature.STATS})
    simulated = False
    busy_interval = 5.0  # exits are pushed; listing is the safety net, and cheap
    idle_interval = 30.0

    def __init__(
        self,
        host: str,
        install: str,
        docker_host: str | None = None,
        subnets: str = "10.213.0.0/16",
        data_dir: Path | None = None,
        tunnel: Tunnel | None = None,
    ) -> None:
        """Connects on first use.

        Args:
            host: Short id of the Engine's machine; names the account.
            install: Whose networks are made and tidied here.
            docker_host: Address of the Engine; default DOCKER_HOST, else Docker's context, else its socket.
            subnets: The pool of the namespaces' networks.
            data_dir: Where the lock files of this machine lie; default the system's temporary folder.
            tunnel: To the machine whose Engine it is, instead of `docker_host`; closed with this.
        """
        self.account = f"{self.type}:{host}"
        self._tunnel = tunnel
        self._region = host if tunnel else ""  # of all Engines these are the ones that people have given a name
        self._driver = tunnel.driver if tunnel else driver.here
        self._runtime = DockerRuntime(Engine(docker_host, tunnel))
        self._probes = DockerProbes(self._runtime.engine)
        folder = data_dir or Path(tempfile.gettempdir()) / f"nebulous-{os.getuid()}"
        self._locks = Locks(folder / (f"docker-{host}" if tunnel else "docker"))
        self._networks = Networks(self._runtime, install, subnets, self._locks)
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ended: dict[str, _Ended] = {}

    async def identity(self) -> str:
        """The Engine's own id; it moves with the Engine's data directory."""
        return str((await self._runtime.info())["ID"])

    async def offers(self, ask: Ask) -> list[Offer]:
        """Offer this machine, at no price; with accelerators, only those that it has.

        Raises:
            Rejected: A region is asked for, or accelerators that are not here.
        """
        if ask.spot or ask.disk:
            what = "spot machines" if ask.spot else "disk to reserve"
            raise Rejected(f"docker has no {what}", f"leave {'spot' if ask.spot else 'disk'}: out")
        if ask.regions and self._region not in ask.regions:
            raise Rejected(f"docker has no regions, so none of {', '.join(ask.regions)}", "leave regions: out")
        # An Engine that does not answer offers nothing.
        info, image = await asyncio.gather(self._runtime.info(), self._there(ask.image, ask.image_digest))
        if not ask.accelerators:
            return [self._offer(image)]
        found = docker_gpus.fitting(ask.accelerators, await docker_gpus.inventory(self._driver), info)
        return [self._offer(image, rank, count, name) for rank, count, name in found]

    async def accelerators(self) -> list[str]:
        """What the Engine can give to containers, as "COUNT:NAME"."""
        if "nvidia" not in (part(await self._runtime.info(), "Runtimes")):
            return []
        there = Counter(await docker_gpus.inventory(self._driver))
        return [f"{count}:{name}" for name, count in sorted(there.items())]

    async def load(self) -> Load:
        """How busy the Engine's machine is; its load average only where it is this one, or is reached by SSH."""
        info, gpus, holders = await asyncio.gather(
            self._runtime.info(), docker_gpus.inventory(self._driver), self._runtime.list(TAG_GPUS)
        )
        held = {index for each in holders for index in str(each["Labels"][TAG_GPUS]).split(",")}
        return Load(
            processors=int(info["NCPU"]),
            average=await self._load_average(),
            containers=int(info["ContainersRunning"]),
            accelerators=len(gpus),
            accelerators_held=len(held),
        )

    async def _load_average(self) -> float | None:
        if self._tunnel:
            said = (await self._tunnel.ask("cat", "/proc/loadavg")).split()
            return float(said[0]) if said else None
        return os.getloadavg()[0] if self._runtime.engine.is_here else None

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """Pull the image unless the Engine has it; its digest, or its id where it never was in a registry.

        Raises:
            OutOfCapacity: The machine is smaller than `resources` asks for.
        """
        image = docker_config.image_of(launch)
        self.check_size(launch, docker_config.Machine.of(await self._runtime.info()))
        login = None
        if command.registry_username is not None:
            login = Login(command.registry_username, command.registry_password or "")
        return (await self._runtime.bring(image, login, progress, launch.image_digest)).digest

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Make the container, not started, in its namespace's network; adopt it where it exists already.

        Raises:
            Conflict: A container that is not ours has this name.
        """
        if count != 1:
            raise Rejected(f"docker rents one container at a time, not {count}", "create them one by one")
        async with self._networks.of(docker_config.namespace_of(launch)) as network:
            made = await self._adopted(launch) or await self._made(launch, offer, command, network)
        return [made]

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Start the command unless it was started since `instance.run`."""
        async with self._starting.setdefault(instance.id, asyncio.Lock()):
            seen = await self._inspect(instance)
            if docker_config.run_of(seen) == instance.run:
                self._ended.pop(instance.id, None)
                await self._runtime.start(instance.id, seen)
                seen = await self._inspect(instance)
            return self._instance(seen, instance.identity or await self.identity())

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """End the command by its stop signal (SIGTERM, unless the image's own command runs and says otherwise)."""
        seen = await self._inspect(instance)
        if seen["State"]["Running"]:
            await self._runtime.stop(instance.id, grace_s)
            seen = await self._inspect(instance)
        return self._instance(seen, instance.identity or await self.identity())

    async def find(self, key: str) -> list[Instance]:
        """Look up what carries the key's label; the Engine's list is complete."""
        listed, identity = await asyncio.gather(self._runtime.list(f"{TAG_KEY}={key}"), self.identity())
        return await self._inspected([container["Id"] for container in listed], identity)

    async def delete(self, key: str) -> None:
        """Remove the key's container with its anonymous volumes; the sweep removes networks that stay empty."""
        for container in await self._runtime.list(f"{TAG_KEY}={key}"):
            self._ended.pop(container["Id"], None)
            await self._runtime.remove(container["Id"])

    async def owned(self) -> list[Instance]:
        """List everything with our tags in one call; what the list does not tell (run, exit) is inspected."""
        await self._networks.tidy()
        listed, identity = await asyncio.gather(self._runtime.list(TAG_INSTALL), self.identity())
        self._ended = {
            container["Id"]: known
            for container in listed
            if container["State"] == "exited" and (known := self._known(container["Id"], identity))
        }
        known = [ended.instance for ended in self._ended.values()]
        rest = [container["Id"] for container in listed if container["Id"] not in self._ended]
        inspected = await self._inspected(rest, identity)
        now = time.monotonic()
        for instance in inspected:
            if instance.state == InstanceState.EXITED:
                self._ended[instance.id] = _Ended(instance, now)
        return known + inspected

    async def watch(self) -> AsyncIterator[Instance]:
        """Yield containers of ours as they start, end and are removed (DELETING: `find` proves it).

        Raises:
            Unavailable: The stream broke.
        """
        identity = await self.identity()
        async with aclosing(self._runtime.events(TAG_INSTALL, time.time() - REPLAY_S, *EVENTS)) as events:
            async for event in events:
                container, tags = event["Actor"]["ID"], event["Actor"]["Attributes"]
                self._ended.pop(container, None)
                if event["Action"] == "destroy":
                    yield docker_config.vanished(container, tags, self.account, identity)
                    continue
                for instance in await self._inspected([container], identity):
                    yield instance

    def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncGenerator[bytes]:
        """Stream both outputs, over all runs of the command, in the order in which the Engine got them."""
        return self._runtime.logs(instance.id, follow, tail)

    @asynccontextmanager
    async def execute(
        self, instance: Instance, argv: list[str], size: Size | None = None
    ) -> AsyncGenerator[DockerExecution]:
        """Run a further command in the container."""
        await self._inspect(instance)  # what is not there must not be so because this is another Engine
        async with docker_exec.executing(self._runtime.engine, instance.id, argv, size) as execution:
            yield execution

    async def stat(self, instance: Instance, path: str) -> PathStat:
        """Look at a path in the container."""
        return await docker_files.stat(self._runtime.engine, instance.id, await self._path(instance, path))

    async def read_files(self, instance: Instance, path: str) -> AsyncGenerator[bytes]:
        """Stream an archive out of the container."""
        source = docker_files.read(self._runtime.engine, instance.id, await self._path(instance, path))
        async with aclosing(source):
            async for data in source:
                yield data

    async def write_files(self, instance: Instance, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack an archive in the container."""
        await docker_files.write(self._runtime.engine, instance.id, await self._path(instance, path), archive)

    async def probe(self, instance: Instance, check: HealthCheck, command: Command) -> Verdict:
        """Check once; a command runs in the container and with its environment."""
        return await self._probes.probe(await self._inspect(instance), check)

    async def usage(self, instance: Instance) -> Usage:
        """Read the Engine's numbers, and the driver's about the GPUs that the container holds."""
        seen = await self._inspect(instance)
        used = docker_usage.read(await self._runtime.stats(instance.id)) if seen["State"]["Running"] else None
        if used is None:
            raise Conflict(f"no command runs in {instance.id[:12]!r}")
        held = str(part(seen["Config"], "Labels").get(TAG_GPUS) or "")
        indexes = {int(index) for index in held.split(",") if index}
        return used.model_copy(update={"accelerators": await gpu_usage.with_indexes(indexes, self._driver)})

    def check_size(self, launch: Launch, machine: docker_config.Machine) -> None:
        """Let pass what fits.

        Raises:
            OutOfCapacity: The machine is smaller than `resources` asks for.
        """
        docker_config.check_size(launch.container, machine)

    async def close(self) -> None:
        """Remove the networks that are empty, as far as the Engine answers, and let go of connections."""
        with suppress(NebulousError, TimeoutError):
            async with asyncio.timeout(TIDY_S):
                await self._networks.tidy(linger_s=0)
        await self._runtime.engine.close()
        if self._tunnel:
            await self._tunnel.close()

    async def _there(self, image: str, digest: str) -> str:
        """The digest of an image that the Engine has already; "" when it has to be pulled, or is not asked for."""
        try:
            found = await self._runtime.known(image, digest) if image else None
        except Rejected:  # no name of an image: `prepare` says so
            return ""
        return found.digest if found else ""

    def _offer(self, image_digest: str, rank: int = 0, count: int = 0, accelerator: str | None = None) -> Offer:
        return Offer(
            platform=self.type,
            account=self.account,
            region=self._region,
            accelerator=accelerator,
            accelerator_count=count,
            rank=rank,
            usd_per_hour=0.0,
            price_source="own machine",
            features=self.features - ({Feature.PULL_FIRST} if image_digest else set()),
            image_digest=image_digest,
        )

    async def _adopted(self, launch: Launch) -> Instance | None:
        """The container of the launch's key, if there is one.

        Raises:
            Conflict: One has its name and is not of this key, life and install.
        """
        try:
            seen = await self._runtime.inspect(launch.key)
        except NotFound:
            return None
        wanted = {TAG_KEY: launch.key, TAG_ID: launch.metadata.id, TAG_INSTALL: launch.install}
        tags = part(seen["Config"], "Labels")
        if any(tags.get(tag) != value for tag, value in wanted.items()):
            message = f"a container named {launch.key!r} exists already and was not made for this"
            raise Conflict(message, f"remove it: docker rm -f {launch.key}")
        return self._instance(seen, await self.identity())

    async def _made(self, launch: Launch, offer: Offer, command: Command, network: str) -> Instance:
        name = docker_config.image_of(launch)
        info, image = await asyncio.gather(self._runtime.info(), self._runtime.known(name, launch.image_digest))
        machine = docker_config.Machine.of(info)
        self.check_size(launch, machine)
        if image is None:
            raise ImageNotFound(f"image {name!r} is not on the Engine any more", "create it again")
        async with self._picked(offer) as gpus:
            body = docker_config.container(launch, command, network, machine, gpus, image)
            try:
                container = await self._runtime.create(launch.key, body)
            except Conflict as error:  # an earlier request of ours is still at work in the Engine
                raise Unavailable(f"container {launch.key!r} is just being made: {error.message}") from error
        return self._instance(await self._runtime.inspect(container), str(info["ID"]))

    @asynccontextmanager
    async def _picked(self, offer: Offer) -> AsyncGenerator[list[int]]:
        """The GPUs for an offer; nobody else picks until the block ends and its container holds them."""
        if not offer.accelerator:
            yield []
            return
        async with self._locks.hold("gpus"):
            here, holders = await asyncio.gather(docker_gpus.inventory(self._driver), self._runtime.list(TAG_GPUS))
            yield docker_gpus.pick(offer.accelerator_count, offer.accelerator, here, holders)

    async def _path(self, instance: Instance, path: str) -> str:
        """Relative paths begin where the command does."""
        seen = await self._inspect(instance)
        return posixpath.join(seen["Config"].get("WorkingDir") or "/", path)

    async def _inspect(self, instance: Instance) -> Mapping[str, Any]:
        """Inspect, and let "not found" stand only if this is the Engine that it was rented from."""
        try:
            return await self._runtime.inspect(instance.id)
        except NotFound:
            identity = await self.identity()
            if instance.identity not in ("", identity):
                message = f"{instance.id[:12]} was rented from Engine {instance.identity}; this is {identity}"
                raise AuthFailed(message, "set NEBU_DOCKER_HOST to the Engine it was rented from") from None
            raise

    async def _inspected(self, containers: list[str], identity: str) -> list[Instance]:
        """Inspect several, leaving out what is gone meanwhile."""
        gate = asyncio.Semaphore(INSPECTIONS_AT_ONCE)

        async def one(container: str) -> Instance | None:
            async with gate:
                try:
                    return self._instance(await self._runtime.inspect(container), identity)
                except NotFound:
                    return None

        return [instance for instance in await asyncio.gather(*map(one, containers)) if instance]

    def _known(self, container: str, identity: str) -> _Ended | None:
        ended = self._ended.get(container)
        fresh = ended and ended.instance.identity == identity and time.monotonic() - ended.at < ENDED_FRESH_S
        return ended if fresh else None

    def _instance(self, seen: Mapping[str, Any], identity: str) -> Instance:
        return docker_config.instance(seen, self.account, identity, self._runtime.engine.machine)
