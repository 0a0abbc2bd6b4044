"""What a cloud could rent for an ask, of the catalog's shapes and the cloud's prices, best first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from activities.platforms.base import Ask
from nebulous import catalog
from nebulous.catalog import Shape
from nebulous.catalog.prices import Price
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.models.base import nearest
from nebulous.models.platforms import Offer

#: What a container without accelerators gets at least, unless it asks for other numbers.
LEAST_CPU, LEAST_MEMORY_GIB = 2.0, 4.0
REGIONS_NAMED = 8  # in a hint; a cloud has dozens

#: How else a cloud rents a shape, in words.
OTHERWISE = {
    "od": "on demand",
    "spot": "as spot",
    "cb": "in capacity blocks",
    "flex": "by flex-start",
    "res": "by reservation",
}


@dataclass(frozen=True)
class Wanted:
    """A shape that satisfies the ask."""

    rank: int  # which entry of the asked accelerators, 0 the most wanted
    shape: Shape  # its regions are those that fit the ask and the account
    turn: int = 0  # among shapes at the same price the lower comes first: usual members, smaller machines


@dataclass(frozen=True)
class Goods:
    """One thing that can be rented now."""

    wanted: Wanted
    region: str
    zone: str = ""
    price: Price | None = None  # None: unknown


def wanted(platform: str, ask: Ask, regions: list[str], *, cpu: str = "x86_64") -> list[Wanted]:
    """The shapes of a cloud that fit: entries in the order written; without accelerators, the smallest that suffice.

    Args:
        platform: ec2, gce or runpod.
        ask: What is to be satisfied: accelerators or none, market, regions, processors and memory.
        regions: The account is limited to these; empty is no limit.
        cpu: Of machines without accelerators; an image rarely runs on both, so nobody gets another unasked.

    Returns:
        An empty list where the catalog knows nothing of a cloud's machines without accelerators.

    Raises:
        Rejected: The cloud can never satisfy it; the hint names the nearest that it has, and who has it.
    """
    catalog.check_on(platform, ask.accelerators)
    if ask.accelerators:
        found = [
            Wanted(rank, shape)
            for rank, entry in enumerate(ask.accelerators)
            for count, members in (catalog.resolve(entry, platform),)
            for member in members
            for shape in catalog.shapes(platform, member, count)
        ]
        found = _large_enough(platform, ask, found)
    else:
        found = [Wanted(0, shape) for shape in catalog.machines(platform) if shape.cpu == cpu]
        found = _smallest(_large_enough(platform, ask, found)) if found else []
    found = _sold(platform, ask, found)
    return [replace(each, turn=turn) for turn, each in enumerate(_in_regions(platform, ask, regions, found))]


def _large_enough(platform: str, ask: Ask, found: list[Wanted]) -> list[Wanted]:
    """Those with as many processors and as much memory as are asked for."""
    least = (0.0, 0.0) if ask.accelerators else (LEAST_CPU, LEAST_MEMORY_GIB)
    cpu, memory_gib = (least[at] if given is None else given for at, given in enumerate((ask.min_cpu, ask.min_memory)))
    fitting = [each for each in found if _has(each.shape, cpu, memory_gib)]
    if found and not fitting:
        largest = max((each.shape for each in found), key=lambda shape: (shape.vcpu or 0, shape.memory_gib or 0))
        sizes = ((cpu, f"{cpu:g} processors"), (memory_gib, f"{memory_gib:g} GiB"))
        raise Rejected(
            f"{platform} has no {' or '.join(ask.accelerators) or 'machine'} with "
            + " and ".join(words for size, words in sizes if size),
            f"the largest is {largest.type}: {largest.vcpu} processors, {largest.memory_gib:g} GiB",
        )
    return fitting


def _has(shape: Shape, cpu: float, memory_gib: float) -> bool:
    return not shape.fixed or ((shape.vcpu or 0) >= cpu and (shape.memory_gib or 0) >= memory_gib)


def _smallest(found: list[Wanted]) -> list[Wanted]:
    """The smallest of each family, such as m7i or e2-highmem: a larger sister costs more and does no better."""
    families: dict[str, Wanted] = {}
    for each in found:
        name = each.shape.type
        families.setdefault(name.partition(".")[0] if "." in name else name.rpartition("-")[0], each)
    return list(families.values())


def _sold(platform: str, ask: Ask, found: list[Wanted]) -> list[Wanted]:
    """Those that are sold in the market that is asked for."""
    market = "spot" if ask.spot else "od"
    sold = [each for each in found if market in each.shape.market]
    if found and not sold:
        others = {other for each in found for other in each.shape.market}
        how = " and ".join(words for other, words in OTHERWISE.items() if other in others)
        instead = {"od": "leave out spot", "spot": "ask with spot: true"}
        hint = next((advice for other, advice in instead.items() if other in others), "nebulous cannot rent it so")
        what = f" {' or '.join(ask.accelerators)}" if ask.accelerators else ""
        raise Rejected(f"{platform} does not rent{what} {OTHERWISE[market]}, only {how}", hint)
    return sold


def _in_regions(platform: str, ask: Ask, regions: list[str], found: list[Wanted]) -> list[Wanted]:
    """Shapes with the regions that the ask and the account leave; without those that are left with none."""
    asked, limit = ({region.lower() for region in each} for each in (ask.regions, regions))
    left = [
        replace(each, shape=replace(each.shape, regions=kept))
        for each in found
        if (kept := tuple(r for r in each.shape.regions if _within(r, asked) and _within(r, limit)))
    ]
    if found and not left:
        raise _nowhere(platform, ask, regions, {region for each in found for region in each.shape.regions})
    return left


def _within(region: str, limit: set[str]) -> bool:
    return not limit or region.lower() in limit


def _nowhere(platform: str, ask: Ask, limit: list[str], sold: set[str]) -> Rejected:
    """Why no region is left: it does not exist, this is not sold there, or the account does not go there."""
    known = {region.lower() for region in (*catalog.regions(platform), *limit)}
    for region in ask.regions:
        if region.lower() not in known:
            guess = nearest(region, sold) or nearest(region, known)
            advice = f"did you mean {guess!r}?" if guess else f"this is rented in {_some(sold)}"
            return Rejected(f"{platform} has no region {region!r}", advice)
    what = " or ".join(ask.accelerators) or "such machines"
    here = {region for region in sold if _within(region, {each.lower() for each in limit})}
    if not here:
        message = f"the account is limited to {', '.join(limit)}, where {platform} does not rent {what}"
        return Rejected(message, f"{platform} rents it in {_some(sold)}")
    return Rejected(f"{platform} does not rent {what} in {', '.join(ask.regions)}", f"it does in {_some(here)}")


def _some(regions: set[str]) -> str:
    more = f" and {len(regions) - REGIONS_NAMED} more" if len(regions) > REGIONS_NAMED else ""
    return ", ".join(sorted(regions)[:REGIONS_NAMED]) + more


def offers(platform: str, account: str, ask: Ask, goods: Iterable[Goods], settle_s: float) -> list[Offer]:
    """Offers for what is there, without what costs too much: by rank, known prices first, then the cheapest.

    Equal ones stay as they were given, so that a cloud can put first what it has most of.

    Raises:
        OutOfCapacity: All of it costs too much, or nobody knows its price; says what the cheapest costs.
    """
    in_turn = sorted(goods, key=_preference)
    return affordable([_offer(platform, account, ask, each, settle_s) for each in in_turn], ask)


def _preference(goods: Goods) -> tuple[int, bool, float, int]:
    """Of one shape at one price nothing more is known here: those stay in the order in which the cloud gave them."""
    usd = goods.price.usd_per_hour if goods.price else None
    return goods.wanted.rank, usd is None, usd or 0.0, goods.wanted.turn


def _offer(platform: str, account: str, ask: Ask, goods: Goods, settle_s: float) -> Offer:
    price, shape = goods.price, goods.wanted.shape
    return Offer(
        platform=platform,
        account=account,
        region=goods.region,
        zone=goods.zone,
        instance_type=shape.type,
        accelerator=shape.accelerator or None,
        accelerator_count=shape.count,
        rank=goods.wanted.rank,
        usd_per_hour=price.usd_per_hour if price else None,
        price_source=price.source if price else "",
        price_at=price.at if price else "",
        spot=ask.spot,
        settle_s=settle_s,
    )


def affordable(found: list[Offer], ask: Ask) -> list[Offer]:
    """Those within the price limit; an unknown price is not.

    Raises:
        OutOfCapacity: None is: prices move, so it may be had later. Says what the cheapest costs.
    """
    limit = ask.max_usd_per_hour
    if limit is None:
        return found
    kept = [each for each in found if each.usd_per_hour is not None and each.usd_per_hour <= limit]
    if found and not kept:
        priced = [each for each in found if each.usd_per_hour is not None]
        if not priced:
            raise OutOfCapacity(f"nothing at a known price for at most ${limit:g} an hour", "leave out the price limit")
        best = min(priced, key=lambda each: each.usd_per_hour or 0.0)
        cheapest = f"${dollars(best.usd_per_hour or 0.0)} on {best.place}"
        raise OutOfCapacity(
            f"nothing for at most ${limit:g} an hour; the cheapest is {cheapest}",
            "raise max_usd_per_hour"
            if ask.spot or best.platform == "runpod"  # which sells no spot
            else "raise max_usd_per_hour, or ask with spot: true",
        )
    return kept


def dollars(usd: float) -> str:
    """With cents, or as many places as a small price needs."""
    return f"{usd:.2f}" if usd >= 1 else f"{usd:.3g}"
