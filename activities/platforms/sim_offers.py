"""What the simulated clouds rent out, and at what price: the settings' list, or a made-up world.

In the name of a real cloud, the shapes are the catalog's and only the prices are invented.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from activities.platforms.base import Ask
from activities.platforms.shelf import affordable, wanted
from nebulous import catalog
from nebulous.catalog import Shape
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.models.platforms import Feature, Offer
from nebulous.settings import SimSettings

FEATURES = frozenset({Feature.LOGS, Feature.SPOT, Feature.EXEC, Feature.STATS})
MOST_OFFERS = 24
FEWEST_OF_EACH = 4
SPOT_SHARE = 0.4

#: USD an hour for each GiB of accelerator memory: about what the generations cost on the market of 2026.
USD_PER_GIB = {
    "pascal": 0.025, "volta": 0.03, "turing": 0.022, "ampere": 0.02, "ada": 0.019, "hopper": 0.034,
    "blackwell": 0.031, "blackwell-ultra": 0.028, "cdna3": 0.014, "cdna4": 0.014,
}  # fmt: skip
USD_PER_GIB_ELSE = 0.02
USD_PER_VCPU = 0.02
#: The cheapest regions of each cloud; elsewhere it costs up to this much more.
CHEAPEST = frozenset({"sim-west", "us-east-1", "us-west-2", "us-central1", "US-KS-2"})
DEARER_AT_MOST = 0.20

SIM_REGIONS = ("sim-west", "sim-east", "sim-north")
SIM_REGION_WITHOUT_ACCELERATORS = "sim-home"
SIM_ACCELERATORS = (
    "T4", "L4", "A10G", "L40S", "A40", "RTX-4090", "A100-40GB-SXM", "A100-80GB-SXM", "H100-SXM", "H200-SXM", "B200",
    "MI300X",
)  # fmt: skip
SIM_COUNTS = (1, 2, 4, 8)

#: Clouds of which the catalog tells all that they rent, machines without accelerators too.
SHELVED = frozenset({"ec2", "gce"})

#: Machines without accelerators, elsewhere: type and USD an hour.
PLAIN = {
    "sim": {"sim.small": 0.02, "sim.large": 0.16},
    "runpod": {"cpu3c-2-4": 0.06, "cpu5c-8-16": 0.28},
}


@dataclass(frozen=True)
class Sold:
    """One thing on the shelf; USD per hour."""

    region: str
    type: str
    accelerator: str | None
    count: int
    usd: float | None  # None: unknown
    spot_usd: float | None  # None: not sold as spot
    on_demand: bool = True
    capacity: int | None = None  # None: no limit


class Market:
    """The shelf of one simulated cloud."""

    def __init__(self, platform: str, account: str, settings: SimSettings) -> None:
        self._platform = platform
        self._account = account
        listed = [
            Sold(
                region=each.region,
                type=each.instance_type,
                accelerator=catalog.lookup(each.accelerator)[0] if each.accelerator else None,
                count=each.count or int(each.accelerator is not None),
                usd=each.usd_per_hour,
                spot_usd=each.spot_usd_per_hour,
                capacity=each.capacity,
            )
            for each in settings.offers or []
            if each.platform == platform
        ]
        #: None: the made-up world. A list that names other platforms only leaves this one its world.
        self._listed = listed if listed or settings.offers == [] else None

    def offers(self, ask: Ask) -> list[Offer]:
        """List what fits, best first.

        Raises:
            Rejected: Nothing here can ever fit; the hint says what would.
            OutOfCapacity: All that fits costs more than it may.
        """
        if self._listed is None and self._platform in SHELVED:
            fitting = wanted(self._platform, replace(ask, regions=[]), [])
            ranked = [(each.rank, sold) for each in fitting for sold in _shelve(each.shape)]
        elif ask.accelerators:
            ranked = [(rank, sold) for rank, entry in enumerate(ask.accelerators) for sold in self._with(entry)]
            if not ranked:
                self._reject(ask.accelerators)
        else:
            ranked = [(0, sold) for sold in self._plain()]
            if not ranked:
                raise Rejected(f"{self._platform} rents nothing without accelerators", "ask for accelerators")
        here = self._for_sale(self._in_regions(ranked, ask), ask)
        found = [self._offer(rank, sold, ask.spot) for rank, sold in here]
        return _best_of_each(affordable(found, ask), len(ask.accelerators) or 1)

    def capacity(self, offer: Offer) -> int | None:
        """How many of it may be rented at once; None has no limit.

        Raises:
            OutOfCapacity: It is not on the shelf any more.
        """
        if self._listed is None:
            return None
        for sold in self._listed:
            if (sold.region, sold.type) == (offer.region, offer.instance_type):
                return sold.capacity
        raise OutOfCapacity(f"{offer.place} is not offered any more")

    def _with(self, entry: str) -> list[Sold]:
        """What has exactly these accelerators, members in the catalog's order of preference."""
        count, members = catalog.resolve(entry, self._platform)
        if self._listed is not None:
            return [
                sold for member in members for sold in self._listed if (sold.accelerator, sold.count) == (member, count)
            ]
        return [sold for member in members for shape in self._shapes(member, count) for sold in _shelve(shape)]

    def _shapes(self, member: str, count: int) -> list[Shape]:
        if self._platform != "sim":
            return catalog.shapes(self._platform, member, count)
        if member not in SIM_ACCELERATORS or count not in SIM_COUNTS:
            return []
        name = f"sim.{count}x{member.lower()}"
        return [Shape("sim", name, member, count, None, None, ("od", "spot"), SIM_REGIONS)]

    def _plain(self) -> list[Sold]:
        if self._listed is not None:
            return [sold for sold in self._listed if not sold.accelerator]
        regions = (
            (*SIM_REGIONS, SIM_REGION_WITHOUT_ACCELERATORS) if self._platform == "sim" else _regions(self._platform)
        )
        return [
            _priced(region, kind, None, 0, usd, ("od", "spot"))
            for region in regions
            for kind, usd in PLAIN[self._platform].items()
        ]

    def _in_regions(self, ranked: list[tuple[int, Sold]], ask: Ask) -> list[tuple[int, Sold]]:
        wanted = {region.lower() for region in ask.regions}
        found = [(rank, sold) for rank, sold in ranked if not wanted or sold.region.lower() in wanted]
        if not found:
            had = ", ".join(sorted({sold.region for _, sold in ranked}))
            raise Rejected(f"{self._platform} does not rent this in {', '.join(ask.regions)}", f"it does in {had}")
        return found

    def _for_sale(self, ranked: list[tuple[int, Sold]], ask: Ask) -> list[tuple[int, Sold]]:
        found = [(rank, sold) for rank, sold in ranked if (sold.spot_usd is not None if ask.spot else sold.on_demand)]
        if not found:
            other = "leave out spot" if ask.spot else "ask with spot: true"
            raise Rejected(f"{self._platform} does not rent this {'as spot' if ask.spot else 'except as spot'}", other)
        return found

    def _offer(self, rank: int, sold: Sold, spot: bool) -> Offer:
        return Offer(
            platform=self._platform,
            account=self._account,
            region=sold.region,
            instance_type=sold.type,
            accelerator=sold.accelerator,
            accelerator_count=sold.count,
            rank=rank,
            usd_per_hour=sold.spot_usd if spot else sold.usd,
            price_source="simulated",
            price_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            spot=spot,
            simulated=True,
            features=FEATURES,
        )

    def _reject(self, entries: list[str]) -> None:
        if self._listed is None and self._platform != "sim":
            catalog.check_on(self._platform, entries)
        if self._listed is None:
            had = [f"{'|'.join(map(str, SIM_COUNTS))} of {', '.join(SIM_ACCELERATORS)}"]
        else:
            had = sorted({f"{sold.count}:{sold.accelerator}" for sold in self._listed if sold.accelerator})
        raise Rejected(
            f"{self._platform} has no {' or '.join(entries)}", f"it has {', '.join(had) or 'no accelerators at all'}"
        )


def _preference(offer: Offer) -> tuple[int, bool, float]:
    return offer.rank, offer.usd_per_hour is None, offer.usd_per_hour or 0.0


def _best_of_each(offers: list[Offer], entries: int) -> list[Offer]:
    """The best of every entry asked for, so that many of one leave room for the others."""
    room = max(FEWEST_OF_EACH, MOST_OFFERS // entries)
    ranks = [[offer for offer in offers if offer.rank == rank] for rank in range(entries)]
    return [offer for ranked in ranks for offer in sorted(ranked, key=_preference)[:room]]


def _shelve(shape: Shape) -> Iterable[Sold]:
    about = catalog.load().accelerators.get(shape.accelerator, {})
    each = float(about.get("memory_gib", 0)) * USD_PER_GIB.get(str(about.get("arch")), USD_PER_GIB_ELSE)
    host = 0.0 if shape.platform == "runpod" else USD_PER_VCPU * (shape.vcpu or 0)
    for region in shape.regions:
        yield _priced(
            region, shape.type, shape.accelerator or None, shape.count, each * shape.count + host, shape.market
        )


def _priced(region: str, kind: str, accelerator: str | None, count: int, usd: float, market: tuple[str, ...]) -> Sold:
    more = 0 if region in CHEAPEST else DEARER_AT_MOST * (1 + zlib.crc32(region.encode()) % 20) / 20
    price = max(0.01, round(usd * (1 + more), 2))
    return Sold(
        region=region,
        type=kind,
        accelerator=accelerator,
        count=count,
        usd=price,
        spot_usd=max(0.01, round(price * SPOT_SHARE, 2)) if "spot" in market else None,
        on_demand=market != ("spot",),
    )


def _regions(platform: str) -> list[str]:
    """Every region in which the catalog knows anything of the cloud."""
    known = catalog.load().shapes[platform].values()
    return sorted({region for shapes in known for shape in shapes for region in shape.regions})
