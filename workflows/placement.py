"""Getting a machine: which accounts to ask, in what order to try what they answer, what a refusal means."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow

from activities.containers import (
    ContainerActivities,
    LaunchRequest,
    OffersRequest,
    ReleaseRequest,
    shortlist,
)
from activities.failures import Failure
from activities.offers import OfferActivities, Placement, PlacementRequest
from activities.pace import Pace
from nebulous import durations
from nebulous.errors import AuthFailed, OutOfCapacity, QuotaExceeded, Rejected
from nebulous.ids import platform_queue
from nebulous.models.base import Record
from nebulous.models.containers import ContainerSpec, Launch, Status
from nebulous.models.platforms import Feature, Offer, PlatformReport, Rental
from nebulous.models.resources import Labels
from workflows.container_life import ContainerLife
from workflows.container_state import Ending
from workflows.entity import Entity
from workflows.entity_state import moment, stamp

CREATE_BUDGET = timedelta(minutes=3)
PREPARE_BUDGET = timedelta(hours=2)  # a 60 GB image over a slow line
NOTHING_RENTED = (OutOfCapacity, QuotaExceeded, AuthFailed, Rejected)
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
    left_out: str = ""  # which are left alone for now, and why
    until: str = ""  # when the first of them may be tried again, if they are all that there is; RFC 3339


async def find_offers(life: Entity[Any], spec: ContainerSpec, labels: Labels | None, digest: str = "") -> Found:
    """Ask tier by tier until one offers something; within a tier, wanted accelerators first, then the cheapest."""
    request = PlacementRequest(platform=spec.platform, accelerated=bool(spec.accelerators))
    placement = await life.act(
        OfferActivities.choose_platforms, request, Pace.quick(), summary="choose platforms", local=True
    )
    if isinstance(placement, Failure):
        return Found(problem=f"{placement.type}: {placement}", rejected=placement.isa(Rejected))
    problems, waiting = [Failure("Unavailable", reason) for reason in placement.unusable], list[Offer]()
    for tier in placement.tiers:
        offers, refused = await _ask(life, tier, wanted(spec, labels, digest))
        usable, blocked = [each for each in offers if not each.blocked], [each for each in offers if each.blocked]
        if usable:
            return Found(offers=shortlist(usable), why=placement.why, left_out=told(blocked))
        problems += refused + ([Failure("OutOfCapacity", told(blocked))] if blocked else [])
        waiting += blocked
    found = nothing(placement, problems, spec.max_usd_per_hour)
    if waiting and len(problems) == 1:
        found.until = min(each.blocked_until for each in waiting)
    return found


def told(blocked: list[Offer]) -> str:
    """What is left alone for now, and why."""
    if not blocked:
        return ""
    first, others = blocked[0], len(blocked) - 1
    more = f", and {counted(others, 'more offer')}" if others else ""
    return f"{first.place} was refused lately ({first.blocked}) and is left alone until {first.blocked_until}{more}"


def wanted(spec: ContainerSpec, labels: Labels | None, digest: str = "") -> OffersRequest:
    """What an offer must satisfy for this spec."""
    return OffersRequest(
        accelerators=spec.accelerators or [],
        spot=bool(spec.spot),
        regions=spec.regions or [],
        max_usd_per_hour=spec.max_usd_per_hour,
        labels=labels or {},
        image=spec.image or "",
        image_digest=digest,
        min_cpu=spec.resources and spec.resources.min_cpu,
        min_memory=spec.resources and spec.resources.min_memory,
        disk=spec.disk,
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
    return ranked(offers), [answer for answer in answers if isinstance(answer, Failure)]


def ranked(offers: list[Offer]) -> list[Offer]:
    """The order in which offers are tried; `nebu get offers` shows the same."""
    return sorted(offers, key=_preference)


def _preference(offer: Offer) -> tuple[int, bool, float]:
    """Entries in the order written, then known prices before unknown ones, then the cheapest."""
    return offer.rank, offer.usd_per_hour is None, offer.usd_per_hour or 0.0


def nothing(placement: Placement, problems: list[Failure], most: float | None) -> Found:
    """Why there is no offer, and whether there can never be one."""
    asked = sum(map(len, placement.tiers))
    if not asked and not problems:
        return Found(problem="NoCapacity: no platform is configured; see `nebu get platforms`")
    # Whoever has it, and nothing of it at this moment, gives no offer and does not refuse.
    if problems and len(problems) >= asked and all(problem.isa(Rejected) for problem in problems):
        return Found(problem="Rejected: " + "; ".join(map(str, problems)), rejected=True)
    words = "; ".join(f"{problem.type}: {problem}" for problem in problems)
    price = "" if most is None else f" for at most ${most:g} an hour at a known price"
    return Found(problem=words or f"NoCapacity: nothing that fits is offered now{price}")


def counted(number: int, noun: str) -> str:
    """`1 offer`, `2 offers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def backoff(steps: tuple[timedelta, timedelta], count: int) -> timedelta:
    """The first step doubled `count` times, at most the last."""
    first, longest = steps
    return min(longest, first * 2 ** min(count, 16))


class ContainerPlacement(ContainerLife):
    """Getting a machine for a container, and giving one back."""

    async def placing(self) -> str:
        """Ask who offers what."""
        state, now = self.state, workflow.now()
        if self.leaving():
            return self.leave_unstarted()
        state.provision_by = state.provision_by or stamp(now + state.container.provision_span)
        found = await find_offers(self, state.container, state.metadata.labels, state.status.image_digest or "")
        state.status.attempt = state.status.attempt or 1  # not before: nothing is to be published for this alone
        if found.rejected:
            return self.refuse(found.problem)
        state.offers, state.why, state.failure = found.offers, found.why, found.problem or state.failure
        if found.offers and not state.rounds:
            self.record("Placing", f"{counted(len(found.offers), 'offer')}, best {found.offers[0].place} ({found.why})")
        if found.offers and found.left_out:
            self.record("LeftOut", found.left_out)
        state.not_before = found.until or None
        return "renting" if found.offers else "pending"

    async def renting(self) -> str:
        """Try the next offer: the image first where that is needed, then the rental itself."""
        state = self.state
        if self.leaving():
            return self.leave_unstarted()
        state.offers = [offer for offer in state.offers if not self.blocked(offer)]
        if not state.offers:
            return "pending"
        offer = state.offers[0]
        if state.offer != offer or not state.attempts or state.attempts[-1].outcome:
            state.begin_attempt(offer, self.now())
            state.take_offer(offer)
        launch = self.launch(offer, self.next_key(offer))
        if Feature.PULL_FIRST in offer.features:
            self.show(Status.CREATING, "Pulling", f"fetching image {state.container.image!r} on {offer.place}")
            pulled = await self.race(
                ContainerActivities.prepare,
                LaunchRequest(launch=launch, offer=offer),
                Pace.fetching(PREPARE_BUDGET),
                summary=f"fetch {state.container.image}",
                queue=platform_queue(offer.account),
                until=self.leaving,
            )
            if pulled is None:
                return "renting"
            if isinstance(pulled, Failure):
                return self._refused(offer, pulled)
            self.pin(pulled)
            launch = self.launch(offer, launch.key)
            state.provision_by = stamp(workflow.now() + state.container.provision_span)  # pulling is not searching
        elif offer.image_digest:
            self.pin(offer.image_digest)
            launch = self.launch(offer, launch.key)
        return await self._rent(offer, launch)

    def pin(self, digest: str) -> None:
        """Keep what the image's name meant, for recoveries of this life; say when it is not to be had any more."""
        status = self.state.status
        if status.image_digest and digest and status.image_digest != digest:
            message = f"{status.image_digest} is not to be had any more; the name means {digest} now"
            self.record("ImageChanged", message, warning=True)
        status.image_digest = digest or status.image_digest

    async def _rent(self, offer: Offer, launch: Launch) -> str:
        """Record the intent, then rent; the memo shows the key before the cloud hears of it (rule 3)."""
        state = self.state
        deadline = workflow.now() + CREATE_BUDGET
        state.rentals[launch.key] = Rental(
            key=launch.key,
            offer=offer,
            attempt=state.status.attempt,
            since=self.now(),
            identity=offer.identity,
            sent_at=deadline.timestamp(),
        )
        self.show(Status.CREATING, "Renting", f"renting {offer.place}")
        answer = await self.act(
            ContainerActivities.create,
            LaunchRequest(launch=launch, offer=offer, deadline=deadline.timestamp()),
            Pace.rental(CREATE_BUDGET),
            summary=f"rent {offer.place}",
            queue=platform_queue(offer.account),
        )
        if isinstance(answer, Failure):
            if answer.isa(*NOTHING_RENTED) and answer.tries == 1:
                del state.rentals[launch.key]
                return self._refused(offer, answer)
            if answer.answered and not offer.settle_s:
                state.rentals[launch.key].sent_at = workflow.now().timestamp()  # nothing is under way any more
            following = self._refused(offer, answer)
            return "replacing" if following == "renting" else following
        instance, rental = answer[0], state.rentals[launch.key]
        rental.answered, rental.instance_id, rental.identity = True, instance.id, instance.identity
        state.instance, state.seen, state.early, state.archived = instance, None, None, False
        state.status.instance_id, state.status.ip = instance.id, instance.ip
        state.offers, state.rounds, state.failure = [], 0, ""
        state.end_attempt("rented", instance.id, self.now())
        state.condition("Placed", "True", "Rented", f"{offer.place}: {state.why}")
        self.record("Rented", f"{offer.place} as {instance.id}")
        return "booting"

    def _refused(self, offer: Offer, failure: Failure) -> str:
        """Remember why an offer failed; one that can never work makes the spec invalid."""
        state = self.state
        state.end_attempt(failure.type, str(failure), self.now())
        if failure.isa(Rejected):
            return self.refuse(f"{failure.type}: {failure}")
        self.record(failure.type, f"{offer.place}: {failure}", warning=True)
        state.failure = f"{failure.type}: {failure}"
        state.offers = [other for other in state.offers if other != offer]
        if failure.isa(QuotaExceeded, AuthFailed):
            scope = failure.scope if failure.isa(QuotaExceeded) and offer.within(failure.scope) else offer.account
            state.blocked[scope] = stamp(workflow.now() + QUOTA_BLOCK)
        return "renting"

    async def replacing(self) -> str:
        """Prove that an unanswered rental took no effect before anything else is rented."""
        if self.leaving():
            return self.leave_unstarted()  # the proof goes on behind the outcome
        if late := self.overdue():
            return late
        self.show(Status.CREATING, "Proving", f"making sure that nothing was rented: {self.state.failure}")
        for rental in list(self.state.rentals.values()):
            await self.give_back(rental)
        return "replacing" if self.state.rentals else "renting"

    async def pending(self) -> str:
        """Nothing to be had: say why, wait, try again, until the time for finding a machine is over."""
        state = self.state
        if self.leaving():
            return self.leave_unstarted()
        if late := self.overdue():
            return late
        if not state.next_try_at:
            now = workflow.now()
            wait = max(backoff(PENDING_BACKOFF, state.rounds), (moment(state.not_before) or now) - now)
            state.rounds += 1
            state.next_try_at = stamp(min(now + wait, moment(state.provision_by) or now + wait))
            reason, _, why = (state.failure or "NoCapacity").partition(": ")
            self.record("Pending", f"{state.failure or 'no offer left'}; next try in {durations.render(wait)}")
            state.leave_offer()
            self.show(Status.PENDING, "NoCapacity" if reason == "OutOfCapacity" else reason, why)
            state.status.next_try_at = state.next_try_at
        next_try_at = state.next_try_at
        due = moment(next_try_at)
        await self.wait(
            lambda: self.leaving() or state.next_try_at != next_try_at, due, summary="until the offers are tried again"
        )
        due = moment(state.next_try_at)
        if due and workflow.now() < due and not self.leaving():
            return "pending"
        state.next_try_at = state.status.next_try_at = None
        return "placing"

    def overdue(self) -> str | None:
        """The outcome once no machine was found in time."""
        if self.timed_out():
            return self.finish(self.timeout())
        late = moment(self.state.provision_by)
        if late is None or workflow.now() < late:
            return None
        reason, _, message = (self.state.failure or "NoCapacity: nothing was offered").partition(": ")
        waited = durations.render(self.state.container.provision_span)
        return self.finish(
            Ending(
                status=Status.FAILED,
                reason="NoCapacity" if reason == "OutOfCapacity" else reason,
                message=f"no machine within {waited}; last: {message}",
            )
        )

    def timed_out(self) -> bool:
        """True once the time from first running is over: restarts and recoveries count."""
        late = moment(self.state.run_by)
        return late is not None and workflow.now() >= late

    def timeout(self) -> Ending:
        """The outcome of having run too long."""
        limit = str(self.state.container.timeout)
        return Ending(status=Status.FAILED, reason="TimedOut", message=f"ran longer than timeout {limit}")

    async def give_back(self, rental: Rental) -> None:
        """One round of giving back; the key leaves the state only on proof of absence."""
        state = self.state
        failure = await self.act(
            ContainerActivities.release,
            ReleaseRequest(rental=rental),
            Pace.removal(),
            summary=f"give back {rental.offer.place}",
            queue=platform_queue(rental.offer.account),
        )
        if not isinstance(failure, Failure):
            del state.rentals[rental.key]
            return
        self.record("ReleaseFailed", f"{rental.key}: {failure}", warning=True)
        state.condition("Released", "False", failure.type, f"{failure}; trying again, for ever")
        wait = backoff(RELEASE_BACKOFF, rental.failures)
        rental.failures += 1
        await self.wait(lambda: False, workflow.now() + wait, summary="before the next round of giving back")
