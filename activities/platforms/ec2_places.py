"""Where an account can rent what: its regions, the zones that have a type, and the subnets there; kept for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from activities.platforms import ec2_errors
from activities.platforms.ec2_api import Api, Fields, many
from nebulous import catalog
from nebulous.accounts import Ec2Account
from nebulous.errors import AuthFailed, NebulousError, OutOfCapacity, Unavailable
from nebulous.models.base import nearest

DAY_S = 86_400.0
SUBNETS_FRESH_S = 600.0
CLOSED_S = 600.0  # how long a region is left alone that is not open to the account
TYPES_AT_ONCE = 100
MOST_ROWS = 1000


@dataclass(frozen=True)
class Subnet:
    """Where machines of a zone get their address."""

    id: str
    zone: str
    vpc: str


@dataclass
class _Types:
    """The zones of each type asked about, in one region."""

    at: float
    zones: dict[str, set[str]] = field(default_factory=dict[str, set[str]])


class Places:
    """What Amazon says of an account's regions."""

    def __init__(self, api: Api, account: Ec2Account, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._account = account
        self._clock = clock
        self._regions: tuple[float, dict[str, bool]] | None = None
        self._types: dict[str, _Types] = {}
        self._subnets: dict[str, tuple[float, list[Subnet]]] = {}
        self._closed: dict[str, float] = {}

    async def check(self) -> None:
        """Refuse settings that name a region that there is not.

        Raises:
            AuthFailed: With the nearest that there is.
        """
        known = await self._known()
        for region in [*self._account.regions, *self._account.subnets]:
            if known and region not in known:
                guess = nearest(region, list(known))
                hint = f"did you mean {guess!r}?" if guess else f"there are {', '.join(sorted(known))}"
                raise AuthFailed(f"Amazon EC2 has no region {region!r}, which the account's settings name", hint)

    async def enabled(self) -> list[str]:
        """Every region where the account may have anything, whatever the settings say now."""
        known = await self._known()
        if known:
            return sorted(region for region, open_ in known.items() if open_)
        return sorted({*self._account.regions, *_cataloged()})  # what was rented may be outside of today's settings

    async def allowed(self) -> list[str]:
        """The regions that the settings allow, and that are enabled."""
        enabled = await self.enabled()
        return [region for region in self._account.regions or enabled if region in enabled]

    async def rentable(self) -> list[str]:
        """Of those that are allowed, the ones that are not left alone just now."""
        return [region for region in await self.allowed() if not self.closed(region)]

    def closed(self, region: str) -> bool:
        """True while the region is left alone."""
        return self._closed.get(region, 0.0) > self._clock()

    def close(self, region: str) -> None:
        """Leave a region alone for a while: it does not take the account's credential."""
        self._closed[region] = self._clock() + CLOSED_S

    async def zones(self, region: str, types: Iterable[str]) -> dict[str, list[str]]:
        """The zones of the region that have each type, and a subnet for it."""
        known = self._types.get(region)
        if known is None or self._clock() - known.at > DAY_S:
            known = self._types[region] = _Types(self._clock())
        missing = sorted(set(types) - set(known.zones))
        for start in range(0, len(missing), TYPES_AT_ONCE):
            await self._ask_for_types(region, missing[start : start + TYPES_AT_ONCE], known)
        reached = {subnet.zone for subnet in await self._subnets_of(region)}
        return {each: sorted(known.zones[each] & reached) for each in types}

    async def subnet(self, region: str, zone: str) -> Subnet:
        """Where to put a machine: the first of the zone's, so that a repeated request names the same.

        Raises:
            OutOfCapacity: The account has none there.
        """
        for subnet in await self._subnets_of(region):
            if subnet.zone == zone:
                return subnet
        hint = f"set `subnets` for {region}, or make a default VPC there (aws ec2 create-default-vpc)"
        raise OutOfCapacity(f"the account has no subnet in {zone}", hint)

    def forget_subnets(self, region: str) -> None:
        """Ask again: one that was there is not."""
        self._subnets.pop(region, None)

    async def _known(self) -> dict[str, bool]:
        """Every region, and whether it is enabled; empty where the credential may not ask."""
        if self._regions is None or self._clock() - self._regions[0] > DAY_S:
            try:
                answer = await self._api.read("DescribeRegions", await self._api.home(), {"AllRegions": True})
            except AuthFailed as error:
                if ec2_errors.code(error) not in ec2_errors.FORBIDDEN:  # a credential refused just now proves nothing
                    raise
                return {}
            rows = many(answer, "Regions")
            known = {str(row["RegionName"]): row.get("OptInStatus") != "not-opted-in" for row in rows}
            self._regions = (self._clock(), known)
        return self._regions[1]

    async def _ask_for_types(self, region: str, types: list[str], known: _Types) -> None:
        rows = await self._api.pages(
            "DescribeInstanceTypeOfferings",
            region,
            "InstanceTypeOfferings",
            {
                "LocationType": "availability-zone",
                "Filters": [{"Name": "instance-type", "Values": types}],
                "MaxResults": MOST_ROWS,
            },
        )
        known.zones.update({each: set[str]() for each in types})
        for row in rows:
            known.zones[str(row["InstanceType"])].add(str(row["Location"]))

    async def _subnets_of(self, region: str) -> list[Subnet]:
        kept = self._subnets.get(region)
        if kept is None or self._clock() - kept[0] > SUBNETS_FRESH_S:
            chosen = self._account.subnets.get(region)
            which: Fields = (
                {"SubnetIds": chosen}
                if chosen
                else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}], "MaxResults": MOST_ROWS}
            )
            rows = await self._api.pages("DescribeSubnets", region, "Subnets", which)
            found = [Subnet(str(row["SubnetId"]), str(row["AvailabilityZone"]), str(row["VpcId"])) for row in rows]
            kept = self._subnets[region] = (self._clock(), sorted(found, key=lambda subnet: subnet.id))
        return kept[1]


def most_telling(failures: list[NebulousError]) -> NebulousError:
    """Of what several regions were refused with, what somebody can act upon."""
    for failure in failures:
        if isinstance(failure, AuthFailed):
            return failure
    return failures[0] if failures else Unavailable("no region of Amazon EC2 is open to this account")


def _cataloged() -> list[str]:
    """The regions that the catalog has anything in; all of them are open to accounts of this century."""
    shapes = catalog.load().shapes["ec2"].values()
    return sorted({region for rows in shapes for shape in rows for region in shape.regions})
