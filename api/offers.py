"""What could be rented now, in the order in which a workflow would try it, and why the rest is out.

The platforms' workers are asked through the session plane (docs/adr/0009): live prices, no cloud SDK in this
process, no Temporal action. Choosing and ranking are the workflow's own functions: what is foreseen is what is done.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from activities.failures import Failure
from activities.offers import ONLY_WHEN_NAMED, PlacementRequest, choose
from api import checks
from api.auth import Reader
from api.platforms import unconfigured
from api.services import Services, Uses
from nebulous import ids, sessions
from nebulous.errors import NebulousError
from nebulous.models.base import check
from nebulous.models.containers import ContainerSpec
from nebulous.models.platforms import Offer, PlatformReport
from nebulous.models.resources import Labels
from nebulous.sessions import SessionRequest
from workflows.placement import Found, nothing, ranked, told, wanted

#: Of an offer, what only the worker needs; blocked ones are shown as out.
HIDDEN = {"identity", "features", "settle_s", "image_digest", "blocked", "blocked_until"}


@dataclass(frozen=True)
class Out:
    """A platform that is not considered, or had nothing, and why."""

    platform: str
    reason: str
    hint: str | None = None
    account: str | None = None

    def shown(self) -> dict[str, Any]:
        """As replies have it."""
        return {"platform": self.platform, "account": self.account, "reason": self.reason, "hint": self.hint}


@dataclass
class Foreseen:
    """What placing would find at this moment."""

    found: Found
    out: list[Out] = field(default_factory=list[Out])

    def shown(self) -> dict[str, Any]:
        """As replies have it: offers in the order to try them; `problem` says what creating would come to without."""
        return {
            "offers": [_shown(offer) for offer in self.found.offers],
            "why": self.found.why,
            "out": [each.shown() for each in self.out],
            "problem": self.found.problem or None,
            "rejected": self.found.rejected,
        }


def router() -> APIRouter:
    """GET /v1/offers."""
    routes = APIRouter(prefix="/v1", tags=["offers"])

    @routes.get("/offers", name="list offers")
    async def offers(
        uses: Uses,
        _: Reader,
        accelerators: Annotated[list[str] | None, Query(description="COUNT:NAME; repeat by preference.")] = None,
        platform: Annotated[str | None, Query(description="Only there; simulated ones only when named.")] = None,
        spot: Annotated[bool, Query(description="Machines that the cloud may take back.")] = False,
        regions: Annotated[list[str] | None, Query(description="Only in these; repeatable.")] = None,
        max_price: Annotated[float | None, Query(gt=0, description="USD per hour.")] = None,
        min_cpu: Annotated[float | None, Query(gt=0, description="Processors.")] = None,
        min_memory: Annotated[float | None, Query(gt=0, description="GiB.")] = None,
    ) -> dict[str, Any]:
        """What could be rented now, ranked as it would be tried, and why other platforms are out."""
        asked = {
            "command": "true",
            "accelerators": _words(accelerators),
            "platform": platform,
            "spot": spot,
            "regions": _words(regions),
            "max_usd_per_hour": max_price,
            "resources": {"min_cpu": min_cpu, "min_memory": min_memory} if min_cpu or min_memory else None,
        }
        spec = check(ContainerSpec, asked)
        checks.check_platform(spec, await uses.reports.all())
        return (await foresee(uses, spec)).shown()

    return routes


def _words(given: list[str] | None) -> list[str] | None:
    """Repeated or separated by commas."""
    return [word.strip() for text in given for word in text.split(",") if word.strip()] if given else None


async def foresee(uses: Services, spec: ContainerSpec, labels: Labels | None = None) -> Foreseen:
    """Do what a workflow does to find offers, and keep what it would pass over."""
    reports = await uses.reports.all()
    placement = choose(reports, PlacementRequest(platform=spec.platform, accelerated=bool(spec.accelerators)))
    out = _passed_over(spec, reports)
    problems = [Failure("Unavailable", reason) for reason in placement.unusable]
    request, tiers = wanted(spec, labels), iter(placement.tiers)
    for tier in tiers:
        answers = await asyncio.gather(*(_ask(uses, report, request.model_dump()) for report in tier))
        refused = [(report, each) for report, each in zip(tier, answers, strict=True) if isinstance(each, Failure)]
        out += [Out(report.platform, each.message, each.hint or None, report.account) for report, each in refused]
        offers = ranked([offer for each in answers if not isinstance(each, Failure) for offer in each])
        usable, blocked = [each for each in offers if not each.blocked], [each for each in offers if each.blocked]
        out += [_blocked(offer) for offer in blocked]
        if usable:
            later = [report for rest in tiers for report in rest]
            out += [_later(report, tier) for report in later]
            return Foreseen(Found(offers=usable, why=placement.why), out)
        problems += [failure for _, failure in refused]
        problems += [Failure("OutOfCapacity", told(blocked))] if blocked else []
    return Foreseen(nothing(placement, problems, spec.max_usd_per_hour), out)


async def _ask(uses: Services, report: PlatformReport, ask: dict[str, Any]) -> list[Offer] | Failure:
    """What one account says."""
    request = SessionRequest(kind="offers", ask=ask)
    try:
        rows = await sessions.answer(uses.redis, ids.platform_queue(report.account), request)
    except NebulousError as error:
        return Failure(error.type, error.message, error.hint or "")
    return [Offer.model_validate(row) for row in rows]


def _passed_over(spec: ContainerSpec, reports: list[PlatformReport]) -> list[Out]:
    """The accounts that are not asked at all: of another name, simulated, not usable now, or not there."""
    out: list[Out] = []
    for report in reports:
        if not report.configured:
            continue
        named = spec.platform in (report.platform, report.account)
        if spec.platform and not named:
            continue  # the caller said where
        if report.disabled:
            out.append(Out(report.platform, report.reason or report.disabled, report.hint, report.account))
        elif not named and (report.simulated or report.platform in ONLY_WHEN_NAMED):
            advice = f"name it: platform {report.platform}"
            out.append(Out(report.platform, "simulated, so used only when named", advice, report.account))
    if not spec.platform:
        out += [Out(row["platform"], row["reason"], row["hint"]) for row in unconfigured(reports)]
    return out


def _later(report: PlatformReport, before: list[PlatformReport]) -> Out:
    first = " and ".join(dict.fromkeys(each.platform for each in before))
    return Out(report.platform, f"comes after {first}, which has offers", f"name it: platform {report.platform}")


def _blocked(offer: Offer) -> Out:
    hint = f"refused lately, so left alone until {offer.blocked_until}"
    return Out(offer.platform, f"{offer.place}: {offer.blocked}", hint, offer.account)


def _shown(offer: Offer) -> dict[str, Any]:
    about = offer.model_dump(mode="json", exclude=HIDDEN)
    count, name = offer.accelerator_count, offer.accelerator
    return {
        **about,
        "accelerator": f"{count}:{name}" if name else None,
        "place": offer.place,
        "price_age_s": _age(offer.price_at),
    }


def _age(at: str) -> int | None:
    try:
        return max(0, round((datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())) if at else None
    except (ValueError, TypeError):
        return None
