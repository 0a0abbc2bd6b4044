"""What a cloud could rent for an ask, of the catalog's shapes and the cloud's prices, best first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from activities.platforms.base import Ask
from nebulous import catalog
from nebulous.catalog import Shape
from nebulous.catalog.prices import Price
from nebulous.models.platforms import Offer


@dataclass(frozen=True)
class Wanted:
    """A shape that satisfies the ask."""

    rank: int  # which entry of the asked accelerators, 0 the most wanted
    shape: Shape  # its regions are those that fit the ask and the account


@dataclass(frozen=True)
class Goods:
    """One thing that can be rented now."""

    wanted: Wanted
    region: str
    zone: str = ""
    price: Price | None = None  # None: unknown


def wanted(platform: str, ask: Ask, regions: list[str]) -> list[Wanted]:
    """The shapes of a cloud that fit: entries in the order written; without accelerators, the smallest that suffice.

    Args:
        platform: ec2, gce or runpod.
        ask: What is to be satisfied: accelerators or none, market, regions, processors and memory.
        regions: The account is limited to these; empty is no limit.

    Raises:
        Rejected: The cloud can never satisfy it; the hint names the nearest that it has, and who has it.
    """
    catalog.check_on(platform, ask.accelerators)
    market = "spot" if ask.spot else "od"
    found: list[Wanted] = []
    for rank, entry in enumerate(ask.accelerators):
        count, members = catalog.resolve(entry, platform)
        shapes = [shape for member in members for shape in catalog.shapes(platform, member, count)]
        found += [Wanted(rank, shape) for shape in shapes if market in shape.market]
    return found


def offers(platform: str, account: str, ask: Ask, goods: Iterable[Goods], settle_s: float) -> list[Offer]:
    """Offers for what is there, without what costs too much: by rank, known prices first, then the cheapest."""
    found: list[Offer] = []
    for each in goods:
        price, shape = each.price, each.wanted.shape
        if ask.max_usd_per_hour is not None and (price is None or price.usd_per_hour > ask.max_usd_per_hour):
            continue
        found.append(
            Offer(
                platform=platform,
                account=account,
                region=each.region,
                zone=each.zone,
                instance_type=shape.type,
                accelerator=shape.accelerator or None,
                accelerator_count=shape.count,
                rank=each.wanted.rank,
                usd_per_hour=price.usd_per_hour if price else None,
                price_source=price.source if price else "",
                price_at=price.at if price else "",
                spot=ask.spot,
                settle_s=settle_s,
            )
        )
    return sorted(found, key=lambda offer: (offer.rank, offer.usd_per_hour is None, offer.usd_per_hour or 0.0))
