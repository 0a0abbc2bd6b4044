"""One network per (install, organization, namespace) in an Engine: made for its first container, gone after its last.

The Engine lets two networks share a name and removes one that a stopped container needs, so networks are found by
label, attached by id, and made and removed only under a lock that all worker processes of this machine share.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from activities.runtimes.docker import DockerRuntime
from activities.runtimes.docker_engine import filters, part
from nebulous.errors import NebulousError, OutOfCapacity, Rejected
from nebulous.ids import TAG_INSTALL, TAG_NAMESPACE, dns_label

SUBNET_BITS = 24
LONGEST_NAME = 128
LOCK_POLL_S = 0.01
#: An empty network waits this long for its next container: an Engine takes 100 ms to make one, and 180 to remove it.
LINGER_S = 60.0
POOL_ADVICE = "write one like 10.213.0.0/16"


class Locks:
    """Named locks, held against other tasks of this process and against other processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tasks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncGenerator[None]:
        """Hold the lock for the block; a process that dies lets go of it."""
        task_lock = self._tasks.setdefault(name, asyncio.Lock())
        async with task_lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._folder / f"{name}.lock", flags, 0o600)
            try:
                while not _locked(descriptor):  # noqa: ASYNC110 - a thread that waits in flock cannot be cancelled
                    await asyncio.sleep(LOCK_POLL_S)
                yield
            finally:
                os.close(descriptor)


class Networks:
    """The namespaces' networks in one Engine."""

    def __init__(self, runtime: DockerRuntime, install: str, pool: str, locks: Locks) -> None:
        """Take /24 networks out of a pool such as 10.213.0.0/16.

        Raises:
            Rejected: The pool is no network of at least 256 addresses.
        """
        self._runtime = runtime
        self._engine = runtime.engine
        self._install = install
        self._pool = _pool(pool)
        self._locks = locks
        self._empty_since: dict[str, float] = {}

    @asynccontextmanager
    async def of(self, namespace: str) -> AsyncGenerator[str]:
        """Give the id of the namespace's network, made if need be, and keep it in being for the block.

        Args:
            namespace: `organization/namespace`.

        Raises:
            OutOfCapacity: The pool is used up.
        """
        async with self._locks.hold(self.name(namespace)):
            found = await self._find(namespace)
            network = found[0]["Id"] if found else await self._make(namespace)
            try:
                yield network
            except NebulousError as error:
                if not found and not error.transient:  # else a container of ours may still appear in it
                    await self._engine.delete(f"networks/{network}")
                raise

    async def tidy(self, linger_s: float = LINGER_S) -> None:
        """Remove the networks of this install that for so long had no container, running or not."""
        residents, networks = await asyncio.gather(self._residents(), self._find())
        inhabited = {container["Labels"].get(TAG_NAMESPACE) for container in residents}
        empty = {each["Id"]: each["Labels"][TAG_NAMESPACE] for each in networks}
        empty = {network: namespace for network, namespace in empty.items() if namespace not in inhabited}
        now = monotonic()
        self._empty_since = {network: self._empty_since.get(network, now) for network in empty}
        for network, namespace in empty.items():
            if now - self._empty_since[network] >= linger_s:
                await self._remove(network, namespace)

    async def _remove(self, network: str, namespace: str) -> None:
        async with self._locks.hold(self.name(namespace)):
            if not await self._residents(namespace):
                with suppress(NebulousError):  # somebody else's container sits in it; the next delete looks again
                    await self._engine.delete(f"networks/{network}")

    def name(self, namespace: str) -> str:
        """For people who look at `docker network ls`; programs go by the labels."""
        return f"nebu-{self._install[:6]}-{dns_label(namespace.replace('/', '-'))}"[:LONGEST_NAME]

    async def _residents(self, namespace: str | None = None) -> list[Mapping[str, Any]]:
        return await self._runtime.list(*self._labels(namespace))

    async def _find(self, namespace: str | None = None) -> list[Mapping[str, Any]]:
        """The networks, the oldest first; more than one for a namespace only if somebody meddled."""
        wanted = {"filters": filters(label=self._labels(namespace))}
        found: list[Mapping[str, Any]] = await self._engine.get("networks", wanted)
        return sorted(found, key=lambda network: (network["Created"], network["Id"]))

    def _labels(self, namespace: str | None) -> list[str]:
        """The filter for one namespace of this install, or for all of them."""
        return [
            f"{TAG_INSTALL}={self._install}",
            TAG_NAMESPACE if namespace is None else f"{TAG_NAMESPACE}={namespace}",
        ]

    async def _make(self, namespace: str) -> str:
        taken = [subnet for network in await self._engine.get("networks") for subnet in _subnets(network)]
        for subnet in self._pool.subnets(new_prefix=SUBNET_BITS):
            if any(subnet.overlaps(other) for other in taken):
                continue
            try:
                made = await self._engine.post("networks/create", body=self._body(namespace, subnet))
            except NebulousError as error:
                if "overlap" not in error.message:  # taken by another install in this moment
                    raise
            else:
                return str(made["Id"])
        raise OutOfCapacity(
            f"all /{SUBNET_BITS} networks of {self._pool} are taken",
            "empty some namespaces, or set NEBU_DOCKER_SUBNETS to a larger pool",
        )

    def _body(self, namespace: str, subnet: IPv4Network) -> dict[str, Any]:
        return {
            "Name": self.name(namespace),
            "Driver": "bridge",
            "IPAM": {"Config": [{"Subnet": str(subnet)}]},
            "Labels": {TAG_INSTALL: self._install, TAG_NAMESPACE: namespace},
        }


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pool(text: str) -> IPv4Network:
    try:
        pool = IPv4Network(text, strict=False)
    except ValueError as error:
        raise Rejected(f"NEBU_DOCKER_SUBNETS: {text!r} is no network: {error}", POOL_ADVICE) from error
    if pool.prefixlen > SUBNET_BITS:
        raise Rejected(f"NEBU_DOCKER_SUBNETS: {text!r} has no room for a /{SUBNET_BITS}", POOL_ADVICE)
    return pool


def _subnets(network: Mapping[str, Any]) -> Iterator[IPv4Network]:
    configs: list[dict[str, str]] = part(network, "IPAM").get("Config") or []
    for config in configs:
        subnet = ip_network(config["Subnet"], strict=False) if "Subnet" in config else None
        if isinstance(subnet, IPv4Network):
            yield subnet
