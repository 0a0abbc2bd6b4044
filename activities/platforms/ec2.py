"""Amazon EC2: rents machines, one to a request, in the zone of the offer; `machines.py` makes a platform of it.

`ec2_places.py` knows regions, zones and subnets, `ec2_prices.py` prices, `ec2_network.py` security groups,
`ec2_request.py` what is asked for, `ec2_instances.py` what is answered, `ec2_errors.py` what refusals mean,
`ec2_checks.py` what the doctor asks, and all of them call Amazon through `ec2_api.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from activities.platforms import ec2_checks, ec2_errors, ec2_instances, shelf
from activities.platforms import ec2_request as requests
from activities.platforms.base import Ask, in_time
from activities.platforms.ec2_api import Api, Fields, many
from activities.platforms.ec2_instances import SETTLE_S, Memory
from activities.platforms.ec2_network import NO_GROUP, Network
from activities.platforms.ec2_places import Places, Subnet, most_telling
from activities.platforms.ec2_prices import Prices
from activities.platforms.machine_cloud import Order
from activities.platforms.origin import Origin
from activities.platforms.shelf import Goods, Wanted
from nebulous import catalog
from nebulous.accounts import Ec2Account
from nebulous.errors import AuthFailed, NebulousError, QuotaExceeded, Rejected, Unavailable
from nebulous.ids import TAG_KEY
from nebulous.models.platforms import Instance, Offer

log = logging.getLogger(__name__)

ALL_REGIONS_EVERY_S = 600.0
REGIONS_AT_ONCE = 8
MOST_ROWS = 1000  # of a page
MOST_OFFERS, FEWEST_OF_EACH = 40, 8
HOST_KEY = re.compile(r"nebulous-host-key: (ssh-\S+ [A-Za-z0-9+/=]+)")
NO_MACHINE = "InvalidInstanceID.NotFound"
NOT_IN_THIS_ZONE = frozenset(("InvalidSubnetID.NotFound", "InvalidSubnet", "VPCIdNotSpecified"))
#: What a launch is refused with where the image's public name may not be read, or is not there.
NO_IMAGE = re.compile(r"(?i)InvalidAMI|resolve:ssm|ssm:GetParameter|parameter store|ImageId")

T = TypeVar("T")


class Ec2Cloud:
    """One account; implements `MachineCloud`."""

    type = "ec2"
    settle_s = SETTLE_S
    sells_spot = True
    busy_interval = 5.0
    idle_interval = 15.0

    def __init__(
        self,
        name: str,
        install: str,
        account: Ec2Account,
        origin: Origin,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked yet.

        Args:
            name: Of the account in the settings.
            install: Id of this install, for its security groups.
            account: Profile, regions, subnets.
            origin: From where machines see this worker.
            clock: Seconds, for what is kept for a while.
        """
        self.account = f"ec2:{name}"
        self._clock = clock
        self._api = Api(account, clock)
        self._places = Places(self._api, account, clock)
        self._prices = Prices(self._api, clock)
        self._network = Network(self._api, install, origin, clock)
        self._memory = Memory(clock)
        self._searched_all_at: float | None = None

    async def identity(self) -> str:
        """Name the account as Amazon does, once the settings make sense."""
        identity = await self._api.identity()
        await self._places.check()
        return identity

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what can be rented, best first, zone by zone; a region that does not answer hides no other."""
        wanted = shelf.wanted("ec2", ask, await self._places.allowed())
        _served(wanted)
        asked = {region.lower() for region in ask.regions}
        sold_in = {region for each in wanted for region in each.shape.regions if not asked or region in asked}
        regions = [region for region in await self._places.rentable() if region in sold_in]
        if not ask.spot:
            await self._prices.listed(each.shape.type for each in wanted)
        answers = await self._everywhere(regions, lambda region: self._goods(region, wanted, ask.spot))
        goods = [each for answer in answers.values() if isinstance(answer, list) for each in answer]
        failures = {region: answer for region, answer in answers.items() if isinstance(answer, NebulousError)}
        if failures and len(failures) == len(answers):
            raise most_telling(list(failures.values()))
        for region, failure in failures.items():
            await self._blamed(failure, region)
        return _best_of_each(shelf.offers("ec2", self.account, ask, goods, self.settle_s))

    async def rent(self, order: Order, offer: Offer) -> Instance:
        """Rent one machine under the order's key; a request that is sent again gives the same."""
        requests.check(order)
        identity = await self._api.identity()  # later it might be refused, and that would say that nothing was rented
        self._memory.sent(order.launch.key, offer.region)
        try:
            subnet = await self._places.subnet(offer.region, offer.zone)
            row = await self._launch(order, offer, subnet)
        except NebulousError as error:
            raise await self._blamed(error, offer.region) from error
        machine = ec2_instances.instance(row, self.account, identity, offer.region)
        self._memory.rented(order.launch.key, machine)
        if ec2_instances.state(row) in (ec2_instances.GONE, "shutting-down"):
            raise ec2_errors.of_reason(ec2_instances.why(row), offer.region, offer)
        return machine

    async def find(self, key: str) -> list[Instance]:
        """Look up what is rented under the key: where it is known to be, else everywhere."""
        known = self._memory.region(key)
        regions = [known] if known else await self._places.enabled()
        rows = await self._rows(regions, [{"Name": f"tag:{TAG_KEY}", "Values": [key]}])
        return [machine for machine in await self._living(rows, key) if machine.key == key]

    async def delete(self, key: str) -> None:
        """Terminate every machine of the key."""
        by_region: dict[str, list[str]] = {}
        for machine in await self.find(key):
            by_region.setdefault(machine.region, []).append(machine.id)
        for region, ids in by_region.items():
            await self._terminate(region, ids)

    async def owned(self) -> list[Instance]:
        """List what carries our tags: in the regions in use each time, in all of them now and then."""
        due = self._searched_all_at is None or self._clock() - self._searched_all_at >= ALL_REGIONS_EVERY_S
        in_use = self._memory.regions()
        elsewhere = set(await self._places.enabled()) - in_use if due else set[str]()
        tagged = [{"Name": "tag-key", "Values": [TAG_KEY]}]
        rows = await self._rows(in_use, tagged)
        rows += await self._rows(elsewhere, tagged, all_or_nothing=self._searched_all_at is None)
        machines = await self._living(rows)
        if due:
            self._searched_all_at = self._clock()
            await self._everywhere(in_use | elsewhere, self._network.tidy)
        return machines

    async def announced(self, machine: Instance) -> list[str]:
        """The host keys on the machine's console."""
        which = {"InstanceId": machine.id}
        try:
            answer = await self._api.read("GetConsoleOutput", machine.region, {**which, "Latest": True})
        except NebulousError as error:
            if ec2_errors.code(error) == NO_MACHINE:
                return []
            if ec2_errors.code(error) not in ("UnsupportedOperation", "InvalidParameterValue"):
                raise
            answer = await self._api.read("GetConsoleOutput", machine.region, which)  # a type without Nitro
        return list(dict.fromkeys(HOST_KEY.findall(str(answer.get("Output") or ""))))

    async def admit(self, machine: Instance) -> None:
        """Open the SSH port to where this worker is now, and close it to where it was."""
        await self._network.admit(machine.region)

    async def missing_permissions(self) -> list[str]:
        """The actions that the credential may not do, as IAM calls them; for the doctor."""
        return await ec2_checks.missing_permissions(self._api, await self._first_region())

    async def images(self) -> str:
        """Whether the image for accelerators can be had: "" when it can, else why not."""
        return await ec2_checks.images(self._api, await self._first_region())

    async def quotas(self) -> dict[str, float]:
        """How many processors the account may have, by quota and region; nothing where it may not be asked."""
        found: dict[str, float] = {}
        answers = await self._everywhere(
            await self._places.rentable(), lambda region: ec2_checks.quotas(self._api, region)
        )
        for answer in answers.values():
            found.update(answer if isinstance(answer, dict) else {})
        return found

    async def close(self) -> None:
        """Let go of connections."""
        await self._prices.close()
        self._api.close()

    # --- offers ---------------------------------------------------------------------------------------

    async def _goods(self, region: str, wanted: list[Wanted], spot: bool) -> list[Goods]:
        here = [each for each in wanted if region in each.shape.regions]
        types = [each.shape.type for each in here]
        zones = await self._places.zones(region, types)
        market = await self._prices.spot(region, types) if spot else {}
        return [
            Goods(
                each,
                region,
                zone,
                market.get((each.shape.type, zone)) if spot else self._prices.on_demand(each.shape.type, region),
            )
            for each in here
            for zone in zones[each.shape.type]
        ]

    async def _everywhere(
        self, regions: Iterable[str], ask: Callable[[str], Awaitable[T]]
    ) -> dict[str, T | NebulousError]:
        """Ask in all regions, some at a time; what one refuses stands in its place."""
        room = asyncio.Semaphore(REGIONS_AT_ONCE)

        async def one(region: str) -> T | NebulousError:
            async with room:
                try:
                    return await ask(region)
                except NebulousError as error:
                    log.info("ec2 in %s: %s", region, error)
                    return error

        chosen = sorted(set(regions))
        return dict(zip(chosen, await asyncio.gather(*map(one, chosen)), strict=True))

    # --- renting --------------------------------------------------------------------------------------

    async def _launch(self, order: Order, offer: Offer, subnet: Subnet) -> Fields:
        """Send the request; what it is refused for and can be put right is put right, once each."""
        groups = await self._network.groups(offer.region, subnet.vpc, order.ports)
        fields = requests.request(order, offer, subnet, groups)
        for _ in range(3):
            in_time()
            try:
                answer = await self._api.call(ec2_errors.LAUNCH, offer.region, fields, offer=offer)
                return answer["Instances"][0]
            except NebulousError as error:
                if ec2_errors.code(error) == "IdempotentParameterMismatch":
                    return await self._adopted(order.launch.key, offer.region, error)
                repaired = await self._repaired(error, fields, order, offer, subnet)
                if not repaired:
                    raise
                fields = repaired
        raise Unavailable(f"{offer.place} is refused for its groups and images in turn")

    async def _repaired(
        self, error: NebulousError, fields: Fields, order: Order, offer: Offer, subnet: Subnet
    ) -> Fields | None:
        """The request as it may work: nothing was rented with this one."""
        word = ec2_errors.code(error)
        if word == NO_GROUP:  # somebody tidied it away
            self._network.forget(offer.region)
            groups = await self._network.groups(offer.region, subnet.vpc, order.ports)
            interfaces = [{**each, "Groups": groups} for each in fields["NetworkInterfaces"]]
            return {**fields, "NetworkInterfaces": interfaces}
        wanted = requests.image(offer)
        definite = isinstance(error, (Rejected, AuthFailed)) and NO_IMAGE.search(f"{word} {error.message}")
        if fields["ImageId"] == wanted.resolved and definite:
            found = await requests.newest(self._api, offer.region, wanted)
            return {**fields, "ImageId": found} if found else None
        return None

    async def _adopted(self, key: str, region: str, error: NebulousError) -> Fields:
        """The machine that this key rented with other words: nobody else has its token."""
        try:
            rows = await self._rows_of(region, [{"Name": f"tag:{TAG_KEY}", "Values": [key]}])
        except NebulousError as failure:  # whatever it is, it does not say that nothing was rented
            raise Unavailable(f"something was rented under {key}, and cannot be seen: {failure.message}") from failure
        if rows:
            return rows[0]
        raise Unavailable(f"something was rented under {key}, and is not to be seen yet: {error.message}") from error

    async def _blamed(self, error: NebulousError, region: str) -> NebulousError:
        """The region alone is to blame when Amazon takes the credential elsewhere."""
        if ec2_errors.code(error) in NOT_IN_THIS_ZONE:
            self._places.forget_subnets(region)
        if not isinstance(error, AuthFailed) or not ec2_errors.closes_region(error):
            return error
        try:
            await self._api.identity(anew=True)
        except NebulousError:
            return error
        self._places.close(region)
        hint = f"enable {region} for the account, or leave it out of the account's `regions`"
        return QuotaExceeded(f"{region} is not open to this account: {error.message}", hint, scope=region)

    # --- reading --------------------------------------------------------------------------------------

    async def _rows(
        self, regions: Iterable[str], filters: list[Fields], *, all_or_nothing: bool = True
    ) -> list[tuple[str, Fields]]:
        """Machines as Amazon describes them, with their region, the terminated too.

        A region that does not answer makes the list worthless as a proof of absence. But for one where an organization
        forbids to look at all: there it forbade to rent, and waiting for it would hold up every proof for ever. Where
        something of ours was seen it did not.
        """
        answers = await self._everywhere(regions, lambda region: self._rows_of(region, filters))
        refused = {region: each for region, each in answers.items() if isinstance(each, NebulousError)}
        failures = list(refused.values())
        had = self._memory.had
        serious = [each for at, each in refused.items() if at in had or not ec2_errors.forbidden_by_organization(each)]
        if failures and (len(failures) == len(answers) or (all_or_nothing and serious)):
            raise most_telling(serious or failures)
        return [(region, row) for region, rows in answers.items() if isinstance(rows, list) for row in rows]

    async def _rows_of(self, region: str, filters: list[Fields]) -> list[Fields]:
        wanted = {"Filters": filters, "MaxResults": MOST_ROWS}
        reservations = await self._api.pages("DescribeInstances", region, "Reservations", wanted)
        return [row for reservation in reservations for row in many(reservation, "Instances")]

    async def _living(self, rows: list[tuple[str, Fields]], key: str | None = None) -> list[Instance]:
        """What is not gone, with what is too young to be in Amazon's lists."""
        listed = {str(row["InstanceId"]) for _, row in rows}
        machines = [await self._read(row, region) for region, row in rows if not _gone(row)]
        for machine in machines:
            self._memory.seen(machine)
        return machines + self._memory.unlisted(listed, key)

    async def _read(self, row: Fields, region: str) -> Instance:
        return ec2_instances.instance(row, self.account, await self._api.identity(), region)

    async def _terminate(self, region: str, ids: list[str]) -> None:
        try:
            await self._api.call("TerminateInstances", region, {"InstanceIds": ids})
        except NebulousError as error:
            if ec2_errors.code(error) != NO_MACHINE:
                raise
            if len(ids) > 1:  # one that is unknown refuses all of them
                for each in ids:
                    await self._terminate(region, [each])
            return  # gone, or not to be seen yet: `find` still says so, and is asked again
        for each in ids:
            self._memory.ended(each)

    async def _first_region(self) -> str:
        rentable = await self._places.rentable()
        home = await self._api.home()
        return home if home in rentable or not rentable else rentable[0]


def _gone(row: Fields) -> bool:
    return ec2_instances.state(row) == ec2_instances.GONE


def _served(wanted: list[Wanted]) -> None:
    """Refuse what no container could be given."""
    vendors = {catalog.load().accelerators.get(each.shape.accelerator, {}).get("vendor") for each in wanted}
    if "aws" in vendors and vendors == {"aws"}:
        names = ", ".join(sorted({each.shape.accelerator for each in wanted}))
        raise Rejected(f"Nebulous cannot give {names} to a container yet", "ask for a GPU")


def _best_of_each(offers: list[Offer]) -> list[Offer]:
    """The best of every entry asked for: a type in twenty regions with six zones would be a long list."""
    ranks = sorted({offer.rank for offer in offers})
    room = max(FEWEST_OF_EACH, MOST_OFFERS // max(1, len(ranks)))
    return [offer for rank in ranks for offer in [each for each in offers if each.rank == rank][:room]]
