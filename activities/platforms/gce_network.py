"""Who reaches a machine on Google Compute Engine: its network, and the firewall rules of this install.

One rule lets this install's workers in to SSH, one for each public port lets in everybody. A rule holds for machines
that carry its name as a network tag. They are made before the first machine that needs them and removed after the last.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from activities.platforms.gce_api import GceApi
from activities.platforms.gce_operations import finished
from activities.platforms.machine_cloud import SSH_PORT
from activities.platforms.origin import Origin
from nebulous.errors import AuthFailed, Conflict, NebulousError, NotFound, OutOfCapacity
from nebulous.models.container_fields import Port, PublicPort

if TYPE_CHECKING:
    from google.cloud import compute_v1

log = logging.getLogger(__name__)

WORLD = "0.0.0.0/0"
RULES_FRESH_S = 60.0
NETWORK_FRESH_S = 3600.0
#: A rule that was needed here so lately is not removed: its machine may not be listed yet.
IN_USE_S = 300.0
#: Workers come from more than one address, and move; the oldest ranges go.
MOST_RANGES = 4


class GceNetwork:
    """Network and firewall of one account."""

    def __init__(self, api: GceApi, install: str, network: str, origin: Origin) -> None:
        """Nothing is asked yet."""
        self._api, self._name, self._origin, self._install = api, network, origin, install
        self.ssh_door = "nebu-" + hashlib.sha256(f"{install}\x1f{network}".encode()).hexdigest()[:12]
        self._port = re.compile(rf"{self.ssh_door}-(tcp|udp)-(\d+)")
        self._changing = asyncio.Lock()
        self._needed: dict[str, float] = {}  # when a door was last made sure of
        self._found: tuple[float, compute_v1.Network] | None = None

    def doors(self, ports: Iterable[Port]) -> list[str]:
        """The tags, and rules, of a machine with these public ports."""
        return [self.ssh_door, *dict.fromkeys(f"{self.ssh_door}-{port.transport}-{port.port}" for port in ports)]

    def ports(self, tags: Iterable[str]) -> list[PublicPort]:
        """The public ports that a machine's tags tell of."""
        found = filter(None, map(self._port.fullmatch, tags))
        return [PublicPort(port=int(match[2]), protocol=match[1]) for match in found]

    async def interface(self, region: str) -> dict[str, str]:
        """Where to put a machine: the network, and the subnetwork where it makes none by itself.

        Raises:
            AuthFailed: The project has no such network. OutOfCapacity: it does not reach into the region.
        """
        network = await self._network()
        chosen = {"network": f"global/networks/{self._name}"}
        if network.auto_create_subnetworks or not network.subnetworks:
            return chosen
        for subnet in network.subnetworks:
            if f"/regions/{region}/" in subnet:
                return {**chosen, "subnetwork": subnet[subnet.index("projects/") :]}
        raise OutOfCapacity(
            f"the network {self._name!r} has no subnet in {region}", f"make one there, or leave {region} out"
        )

    async def _network(self) -> compute_v1.Network:
        if self._found is None or time.monotonic() - self._found[0] > NETWORK_FRESH_S:
            try:
                found = await self._api.read(
                    lambda clients: clients.networks.get(
                        request={"project": clients.project, "network": self._name}, **clients.reads
                    )
                )
            except NotFound as error:
                where = self._api.where.account
                raise AuthFailed(
                    f"the project of {where} has no network {self._name!r}",
                    f"set network for {where} to one that it has",
                ) from error
            self._found = (time.monotonic(), found)
        return self._found[1]

    async def open(self, doors: list[str], *, anew: bool = False) -> None:
        """See to it that there are rules for the doors, and that this worker is let in.

        Args:
            doors: As `doors` names them.
            anew: Look although they were there a moment ago.

        Raises:
            AuthFailed: We may not. Unavailable: no answer.
        """
        async with self._changing:
            now = time.monotonic()
            if not anew and all(now - self._needed.get(door, -RULES_FRESH_S) < RULES_FRESH_S for door in doors):
                return
            source = await self._origin.range()
            rules = await self._rules()
            for door in doors:
                await self._open(door, rules.get(door), source)
                self._needed[door] = time.monotonic()

    async def admit(self) -> None:
        """Let in the address that this worker has now."""
        source = await self._origin.range(anew=True)
        async with self._changing:
            await self._open(self.ssh_door, (await self._rules()).get(self.ssh_door), source)

    async def _open(self, door: str, there: compute_v1.Firewall | None, source: str) -> None:
        if there is None:
            try:
                await self._make(door, source)
            except Conflict:  # another worker made it a moment ago, for its own address
                there = (await self._rules()).get(door)
        if there is not None and door == self.ssh_door and source not in there.source_ranges:
            await self._patch(door, [source, *there.source_ranges][:MOST_RANGES])

    async def _rules(self) -> dict[str, compute_v1.Firewall]:
        """The rules of this install, found by what their names begin with."""
        listed = await self._api.read(
            lambda clients: list(
                clients.firewalls.list(
                    request={"project": clients.project, "filter": f"name eq {self.ssh_door}.*"}, **clients.reads
                )
            )
        )
        return {rule.name: rule for rule in listed}

    async def _make(self, door: str, source: str) -> None:
        rule = self._rule(door, source)
        made = await self._api.write(
            lambda clients: clients.firewalls.insert_unary(
                request={"project": clients.project, "firewall_resource": rule}, **clients.writes
            )
        )
        await finished(self._api, made)

    def _rule(self, door: str, source: str) -> compute_v1.Firewall:
        from google.cloud import compute_v1

        match = self._port.fullmatch(door)
        protocol, port = (match[1], match[2]) if match else ("tcp", str(SSH_PORT))
        words = f"lets the world in to {protocol} {port}" if match else "lets its workers in to SSH"
        return compute_v1.Firewall(
            name=door,
            description=f"Nebulous, install {self._install}: {words}. Removed when no machine needs it.",
            network=f"global/networks/{self._name}",
            direction="INGRESS",
            source_ranges=[WORLD if match else source],
            target_tags=[door],
            allowed=[compute_v1.Allowed(I_p_protocol=protocol, ports=[port])],
        )

    async def _patch(self, door: str, ranges: list[str]) -> None:
        from google.cloud import compute_v1

        change = compute_v1.Firewall(source_ranges=ranges)
        made = await self._api.write(
            lambda clients: clients.firewalls.patch_unary(
                request={"project": clients.project, "firewall": door, "firewall_resource": change}, **clients.writes
            )
        )
        await finished(self._api, made)

    async def tidy(self, in_use: set[str]) -> None:
        """Remove rules that no machine carries the tag of; `rent` looks again afterwards, so that none goes missing."""
        async with self._changing:
            now = time.monotonic()
            try:
                for door in set(await self._rules()) - in_use:
                    if now - self._needed.get(door, -IN_USE_S) >= IN_USE_S:
                        await self._remove(door)
            except NebulousError as error:  # it opens nothing: the next departure tries again
                log.warning("firewall rules of %s are not tidied: %s", self._api.where.account, error)

    async def _remove(self, door: str) -> None:
        self._needed.pop(door, None)
        try:
            made = await self._api.write(
                lambda clients: clients.firewalls.delete_unary(
                    request={"project": clients.project, "firewall": door}, **clients.writes
                )
            )
        except NotFound:
            return
        await finished(self._api, made)
