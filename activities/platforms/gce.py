"""The cloud `gce`: machines of Google Compute Engine, one project for each account; it only rents (`machine_cloud.py`).

The machine's name is the rental's key, so that Google itself refuses to rent twice in a zone. What it says and means
stands in the files beside: `gce_api.py` how it is asked, `gce_machine.py` the request, `gce_errors.py` its refusals,
`gce_operations.py` waiting, `gce_network.py` the firewall, `gce_goods.py` and `gce_shapes.py` what it has.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from activities.platforms import gce_doctor, gce_machine, gce_operations, shelf
from activities.platforms.base import Ask, in_time
from activities.platforms.doubt import maybe_rented
from activities.platforms.gce_api import Clients, GceApi
from activities.platforms.gce_errors import Where
from activities.platforms.gce_goods import GceGoods
from activities.platforms.gce_images import GceImages
from activities.platforms.gce_network import GceNetwork
from activities.platforms.machine_cloud import Order
from activities.platforms.origin import Origin
from nebulous.accounts import GceAccount
from nebulous.errors import AuthFailed, Conflict, NotFound, OutOfCapacity, Rejected, Unavailable
from nebulous.ids import TAG_INSTALL, TAG_KEY
from nebulous.models.platforms import Instance, InstanceState, Offer

if TYPE_CHECKING:
    from google.cloud import compute_v1

SETTLE_S = 60.0
PAGE = 500
LIVES = 4  # of one key; workflows ask for one, with a new key for the next


class GceCloud:
    """One project; implements `MachineCloud`."""

    type = "gce"
    settle_s = SETTLE_S
    sells_spot = True
    busy_interval = 10.0
    idle_interval = 120.0

    def __init__(self, name: str, install: str, account: GceAccount, origin: Origin) -> None:
        """Nothing is asked, and Google's SDK not loaded, before the first use.

        Args:
            name: The account is `gce:NAME`.
            install: Whose firewall rules are made and tidied here.
            account: Credentials, project, regions and network.
            origin: From where machines see this worker.
        """
        self.account = f"{self.type}:{name}"
        self._regions = account.regions
        self._install = install
        self._api = GceApi(self.account, account)
        self._network = GceNetwork(self._api, install, account.network, origin)
        self._goods, self._images = GceGoods(self._api), GceImages(self._api)
        self._identity = ""
        self._zones: dict[str, str] = {}  # of the keys rented here: asking one zone is quicker than asking all
        self._listed: dict[str, list[Instance]] | None = None  # by zone, for one that does not answer
        self._preempted: set[str] = set()  # ids of machines that Google is known to have taken back

    async def identity(self) -> str:
        """The project's number, as Compute Engine has it: it does not come back with a new project of the same name."""
        try:
            project = await self._api.read(
                lambda clients: clients.projects.get(request={"project": clients.project}, **clients.reads)
            )
        except NotFound as error:
            raise AuthFailed(error.message, f"set project for {self.account} to the id of one that there is") from error
        self._identity = str(project.id)
        return self._identity

    async def offers(self, ask: Ask) -> list[Offer]:
        """Every zone that lists a fitting type, at bundled prices; that there is room in it nobody tells before.

        Raises:
            Rejected: This cloud can never satisfy it. OutOfCapacity: all of it costs too much.
        """
        goods = await self._goods.of(shelf.wanted(self.type, ask, self._regions), ask.spot)
        return shelf.offers(self.type, self.account, ask, goods, SETTLE_S)

    async def rent(self, order: Order, offer: Offer) -> Instance:
        """Insert the machine and wait until it is decided whether there is room for it.

        Raises:
            OutOfCapacity, QuotaExceeded, AuthFailed, Rejected: nothing was rented.
            Unavailable: it may have been rented; the same again is safe.
        """
        key, region = order.launch.key, gce_machine.region_of(offer.zone)
        where = Where(self.account, region=region, zone=offer.zone, thing=offer.instance_type)
        doors = self._network.doors(order.ports)
        identity = await self._known()
        family = await self._images.booting(offer, order.disk_gib)
        body = gce_machine.body(order, offer, family, await self._network.interface(region), doors)
        await self._network.open(doors)
        self._zones[key] = offer.zone  # before it is sent: where it may be when no answer comes
        machine = await self._made(body, key, where)
        with maybe_rented(body.name):
            await self._network.open(doors, anew=True)  # another worker may have tidied them away before it was seen
        return self._read(machine, identity)

    async def _made(self, body: compute_v1.Instance, key: str, where: Where) -> compute_v1.Instance:
        """The machine of the request; for a request that Google has done before, the one that it made then."""
        request = gce_machine.request_id(key)
        for _ in range(LIVES):
            try:
                operation = await self._insert(body, request, where)
            except Conflict:  # this key was sent before, longer ago than Google remembers requests
                return await self._adopted(key, body.name, where)
            done_before = cast("str", operation.status.name) == "DONE"
            await gce_operations.rented(self._api, operation, body.name, where)
            with maybe_rented(body.name):
                if machine := await self._get(body.name, where):
                    return machine
                ended = await gce_operations.ended(self._api, where.zone, operation.target_id)
            words = f"{where}: the machine was made and is gone"
            if not ended:
                raise Unavailable(words)  # made a moment ago, and not to be seen yet
            if not done_before:
                raise OutOfCapacity(words)
            request = gce_machine.request_id(f"{request} {operation.name}")  # what was given back is rented anew
        raise Unavailable(f"{where}: {key} was rented and given back {LIVES} times")

    async def _insert(self, body: compute_v1.Instance, request: str, where: Where) -> compute_v1.Operation:
        fields = {"zone": where.zone, "instance_resource": body, "request_id": request}
        in_time()  # here: threads do not know of the deadline
        try:
            return await self._api.write(
                lambda clients: clients.instances.insert_unary(
                    request={"project": clients.project, **fields}, **clients.writes
                ),
                where,
            )
        except NotFound as error:  # of what the request names, not of a machine
            raise Rejected(error.message, error.hint) from error

    async def _adopted(self, key: str, name: str, where: Where) -> compute_v1.Instance:
        with maybe_rented(name):
            machine = await self._get(name, where)
        if machine is None:
            raise Unavailable(f"{where}: the name {name} is taken by a machine that is not there any more")
        if gce_machine.carried(machine)[TAG_KEY] != key:
            raise Rejected(f"{where}: somebody else's machine is called {name}", "rename or delete that machine")
        return machine

    async def find(self, key: str) -> list[Instance]:
        """What is rented under the key: by name where its zone is known here, else, and before it is gone, by label.

        Raises:
            Unavailable: A zone does not answer, and what is asked for may be there.
        """
        identity = await self._known()
        name = gce_machine.name_of(key)
        zone = self._zones.get(key)
        if zone:
            machine = await self._get(name, Where(self.account, region=gce_machine.region_of(zone), zone=zone))
            if machine and gce_machine.carried(machine)[TAG_KEY] == key:
                return await self._judged([machine], identity)
        found, silent = await self._list(f'labels.{TAG_KEY} = "{gce_machine.label(key)}"')
        ours = [each for each in found if gce_machine.carried(each)[TAG_KEY] == key]
        if not ours and (silent & {zone} if zone else silent):
            raise Unavailable(f"no answer about {', '.join(sorted(silent))}, where {name} may be")
        self._zones.pop(key, None)
        if ours:
            self._zones[key] = ours[0].zone.rpartition("/")[2]
        return await self._judged(ours, identity)

    async def delete(self, key: str) -> None:
        """Ask for the end of everything rented under the key; disks go with their machines."""
        name = gce_machine.name_of(key)
        await asyncio.gather(*(self._delete(name, each.zone) for each in await self.find(key)))

    async def _delete(self, name: str, zone: str) -> None:
        """Without a request id: Google would ignore a second try after a first one that failed later on."""
        where = Where(self.account, region=gce_machine.region_of(zone), zone=zone)
        try:
            await self._api.write(
                lambda clients: clients.instances.delete_unary(
                    request={"project": clients.project, "zone": zone, "instance": name}, **clients.writes
                ),
                where,
            )
        except NotFound:
            return
        except (Conflict, OutOfCapacity, Rejected) as error:  # it is being made, stopped or deleted just now
            raise Unavailable(f"{name} cannot be deleted yet: {error.message}", error.hint) from error

    async def owned(self) -> list[Instance]:
        """List every machine that carries our tags; a zone that does not answer keeps what it had.

        Raises:
            Unavailable: A zone does not answer, and what it had is not known here.
        """
        identity = await self._known()
        found, silent = await self._list(f"labels.{TAG_INSTALL}:*")
        before, used = self._listed, set(self._zones.values())
        if unknown := silent if before is None else (silent & used) - set(before):
            raise Unavailable(f"no answer about {', '.join(sorted(unknown))}")
        listed = await self._judged(found, identity)
        by_zone: dict[str, list[Instance]] = {}
        for each in listed:
            by_zone.setdefault(each.zone, []).append(each)
        kept = {zone: before[zone] for zone in silent if before and zone in before}
        if not silent and (before is None or _gone(before, listed)):
            await self._network.tidy({door for machine in found for door in gce_machine.doors(machine)})
        self._listed = {**{zone: [] for zone in before or ()}, **by_zone, **kept}
        return [*listed, *(each for zone in kept for each in kept[zone])]

    async def announced(self, machine: Instance) -> list[str]:
        """The host keys on the serial console."""
        name = gce_machine.name_of(machine.key)
        try:
            output = await self._api.read(
                lambda clients: clients.instances.get_serial_port_output(
                    request={"project": clients.project, "zone": machine.zone, "instance": name}, **clients.reads
                ),
                Where(self.account, region=machine.region, zone=machine.zone),
            )
        except (NotFound, Rejected):  # a machine that is on its way has no console yet
            return []
        return gce_machine.host_keys(output.contents)

    async def admit(self, machine: Instance) -> None:
        """Let this worker's present address in to SSH, for all machines of the install."""
        await self._network.admit()

    async def missing_permissions(self) -> list[str]:
        """Which permissions of docs/clouds.md the credentials lack; for `nebu doctor`."""
        return await gce_doctor.missing_permissions(self._api)

    async def quotas(self) -> dict[str, float]:
        """How much may still be rented of what Compute Engine counts: `us-central1 NVIDIA_L4_GPUS` and the like."""
        return await gce_doctor.quotas(self._api, self._regions)

    async def images(self) -> str:
        """Nothing to say."""
        return ""  # Google's are public; a rent that finds none says so

    async def close(self) -> None:
        """Let go of connections."""
        await self._api.close()

    # --- what they have in common ---------------------------------------------------------------------

    async def _known(self) -> str:
        return self._identity or await self.identity()

    async def _get(self, name: str, where: Where) -> compute_v1.Instance | None:
        try:
            return await self._api.read(
                lambda clients: clients.instances.get(
                    request={"project": clients.project, "zone": where.zone, "instance": name}, **clients.reads
                ),
                replace(where, thing=name),
            )
        except NotFound:
            return None

    async def _list(self, condition: str) -> tuple[list[compute_v1.Instance], set[str]]:
        """All machines for which it holds, over all zones, and the zones that did not answer."""
        try:
            return await self._api.read(lambda clients: _listing(clients, condition))
        except NotFound as error:  # of the project, which says nothing about machines
            raise AuthFailed(error.message, "the project may have been deleted") from error

    async def _judged(self, machines: list[compute_v1.Instance], identity: str) -> list[Instance]:
        """Read them; of spot machines on their way down, say whether Google took them back."""
        read = [self._read(machine, identity) for machine in machines]
        going = [
            instance
            for machine, instance in zip(machines, read, strict=True)
            if instance.state == InstanceState.DELETING and gce_machine.is_spot(machine)
        ]
        for zone in {each.zone for each in going if each.id not in self._preempted}:
            self._preempted |= await gce_operations.preempted(self._api, zone)
        for each in going:
            if each.id in self._preempted:
                each.state, each.message = InstanceState.PREEMPTED, "Google took the spot machine back"
        return read

    def _read(self, machine: compute_v1.Instance, identity: str) -> Instance:
        return gce_machine.read(machine, self.account, identity, self._network.ports(gce_machine.doors(machine)))


def _listing(clients: Clients, condition: str) -> tuple[list[compute_v1.Instance], set[str]]:
    request = {"project": clients.project, "filter": condition, "max_results": PAGE}
    found: list[compute_v1.Instance] = []
    silent: set[str] = set()
    for page in clients.instances.aggregated_list(request=request, **clients.reads).pages:
        silent |= {scope.rpartition("/")[2] for scope in page.unreachables}
        for scope, listed in page.items.items():
            found += listed.instances
            if listed.warning.code == "UNREACHABLE":
                silent.add(scope.rpartition("/")[2])
    return found, silent


def _gone(before: dict[str, list[Instance]], now: list[Instance]) -> bool:
    return bool({each.id for zone in before.values() for each in zone} - {each.id for each in now})
