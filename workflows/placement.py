"""Finding offers for a container: which accounts to ask, in what order to try what they answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from activities.containers import ContainerActivities, OffersRequest
from activities.failures import Failure
from activities.offers import OfferActivities, Placement, PlacementRequest
from activities.pace import Pace
from nebulous.errors import Rejected
from nebulous.ids import platform_queue
from nebulous.models.base import Record
from nebulous.models.containers import ContainerSpec
from nebulous.models.platforms import Offer, PlatformReport
from nebulous.models.resources import Labels
from workflows.entity import Entity

OFFERS_TRIED_AT_MOST = 25
QUOTA_BLOCK = timedelta(minutes=10)
PENDING_BACKOFF = (timedelta(seconds=5), timedelta(minutes=5))
RESTART_BACKOFF = (timedelta(seconds=1), timedelta(minutes=5))
RELEASE_BACKOFF = (timedelta(seconds=10), timedelta(minutes=5))


class Found(Record):
    """Offers in the order to try them, or why there is none."""

    offers: list[Offer] = []
    why: str = ""
    problem: str = ""  # "Type: message" when there is none
    rejected: bool = False  # true: it can never work


async def find_offers(life: Entity[Any], spec: ContainerSpec, labels: Labels | None) -> Found:
    """Ask tier by tier until one offers something; within a tier, wanted accelerators first, then the cheapest."""
    request = PlacementRequest(platform=spec.platform, accelerated=bool(spec.accelerators))
    placement = await life.act(
        OfferActivities.choose_platforms, request, Pace.quick(), summary="choose platforms", local=True
    )
    if isinstance(placement, Failure):
        return Found(problem=f"{placement.type}: {placement}", rejected=placement.isa(Rejected))
    problems = [Failure("Unavailable", reason) for reason in placement.unusable]
    for tier in placement.tiers:
        offers, refused = await _ask(life, tier, _request(spec, labels))
        if offers:
            return Found(offers=offers[:OFFERS_TRIED_AT_MOST], why=placement.why)
        problems += refused
    return _nothing(placement, problems)


def _request(spec: ContainerSpec, labels: Labels | None) -> OffersRequest:
    return OffersRequest(
        accelerators=spec.accelerators or [],
        spot=bool(spec.spot),
        regions=spec.regions or [],
        max_usd_per_hour=spec.max_usd_per_hour,
        labels=labels or {},
    )


async def _ask(
    life: Entity[Any], tier: list[PlatformReport], request: OffersRequest
) -> tuple[list[Offer], list[Failure]]:
    answers = await asyncio.gather(
        *(
            life.act(
                ContainerActivities.list_offers,
                request,
                Pace.quick(),
                summary=f"offers of {report.platform}",
                queue=platform_queue(report.account),
            )
            for report in tier
        )
    )
    offers = [offer for answer in answers if not isinstance(answer, Failure) for offer in answer]
    return sorted(offers, key=_preference), [answer for answer in answers if isinstance(answer, Failure)]


def _preference(offer: Offer) -> tuple[int, bool, float]:
    """Entries in the order written, then known prices before unknown ones, then the cheapest."""
    return offer.rank, offer.usd_per_hour is None, offer.usd_per_hour or 0.0


def _nothing(placement: Placement, problems: list[Failure]) -> Found:
    asked = any(placement.tiers)
    if not asked and not problems:
        return Found(problem="NoCapacity: no platform is configured; see `nebu get platforms`")
    if problems and all(problem.isa(Rejected) for problem in problems):
        return Found(problem="Rejected: " + "; ".join(map(str, problems)), rejected=True)
    words = "; ".join(f"{problem.type}: {problem}" for problem in problems)
    return Found(problem=words or "NoCapacity: nothing that fits is offered now")


def backoff(steps: tuple[timedelta, timedelta], count: int) -> timedelta:
    """The first step doubled `count` times, at most the last."""
    first, longest = steps
    return min(longest, first * 2 ** min(count, 16))
