"""What a container needs done in the world; runs on the queue of the platform account that it concerns."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity

from activities.blocks import Blocks
from activities.failures import translated
from activities.heartbeat import beating
from activities.platforms.base import SEND_BY, Ask, Platform, in_time
from activities.secrets import SecretReader
from nebulous.archive import Archive
from nebulous.errors import (
    AuthFailed,
    NotFound,
    NotReady,
    OutOfCapacity,
    QuotaExceeded,
    Rejected,
)
from nebulous.models.base import Record
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, Offer, Rental
from nebulous.models.resources import Metadata

GONE_POLL_S = 0.5
OFFERS_TRIED_AT_MOST = 25
BLOCKED_SHOWN = 5  # of the offers that are left alone for now, to say why


class OffersRequest(Record):
    """What an offer must satisfy, on one platform account."""

    accelerators: list[str] = []
    spot: bool = False
    regions: list[str] = []
    max_usd_per_hour: float | None = None
    labels: dict[str, str] = {}
    image: str = ""
    image_digest: str = ""
    min_cpu: float | None = None
    min_memory: float | None = None
    disk: float | None = None


class LaunchRequest(Record):
    """Bring the image, or rent."""

    launch: Launch
    offer: Offer
    deadline: float = 0.0  # unix time after which nothing may be sent any more


class RunRequest(Record):
    """Start or stop the command in an instance."""

    launch: Launch
    instance: Instance
    grace_s: float = 0.0


class ReleaseRequest(Record):
    """Give back what may be rented under a key."""

    rental: Rental


class ArchiveRequest(Record):
    """Keep what the command wrote, before its instance goes."""

    metadata: Metadata
    instance: Instance
    attempt: int


async def offers_of(platform: Platform, request: OffersRequest, blocks: Blocks) -> list[Offer]:
    """What the account rents out for the request, best first, each with the account as the cloud names it now.

    Those that it refused lately, to whatever container, are marked so.
    """
    identity, offers = await asyncio.gather(platform.identity(), platform.offers(Ask(**request.model_dump())))
    return await blocks.mark([offer.model_copy(update={"identity": identity}) for offer in offers])


def shortlist(offers: list[Offer], most: int = OFFERS_TRIED_AT_MOST) -> list[Offer]:
    """Those that a workflow may get to try, in the same order, then a few of the blocked ones, which it only shows.

    Every accelerator asked for has its share: many zones of one leave room for the next.
    """
    usable = [offer for offer in offers if not offer.blocked]
    ranks: dict[int, list[Offer]] = {}
    for offer in usable:
        ranks.setdefault(offer.rank, []).append(offer)
    share = most // max(1, len(ranks))
    shared = [offer for ranked in ranks.values() for offer in ranked[:share]]
    rest = [offer for ranked in ranks.values() for offer in ranked[share:]]
    kept = {id(offer) for offer in shared + rest[: most - len(shared)]}
    blocked = [offer for offer in offers if offer.blocked]
    return [offer for offer in usable if id(offer) in kept] + blocked[:BLOCKED_SHOWN]


class ContainerActivities:
    """One platform account's hands."""

    def __init__(
        self, platform: Platform, secrets: SecretReader, archive: Archive, install: str, blocks: Blocks | None = None
    ) -> None:
        self._platform = platform
        self._blocks = blocks or Blocks(platform.account)
        self._install = install  # the tag's truth: a program that starts a workflow need not know it
        self._secrets = secrets
        self._archive = archive

    @activity.defn(name="list_offers")
    async def list_offers(self, request: OffersRequest) -> list[Offer]:
        """List what this account rents out for the request, best first; behind it some of what it refused lately."""
        with translated():
            async with beating():
                return shortlist(await offers_of(self._platform, request, self._blocks))

    @activity.defn(name="prepare")
    async def prepare(self, request: LaunchRequest) -> str:
        """Bring the image to the machine and return its digest; `describe` shows the progress."""
        with translated():
            async with beating() as progress:
                command = await self._secrets.command(request.launch)
                return await self._platform.prepare(request.launch, command, progress)

    @activity.defn(name="create")
    async def create(self, request: LaunchRequest) -> list[Instance]:
        """Rent under the launch's key, unless it is too late to send; idempotent."""
        with translated():
            async with beating():
                launch = request.launch.model_copy(update={"install": self._install})
                command = await self._secrets.command(launch)
                SEND_BY.set(request.deadline)
                in_time()  # platforms ask again, directly before they send
                if activity.info().attempt == 1:  # else the first one may have been granted
                    await self._refuse_what_is_known(request.offer)
                try:
                    return await self._platform.create(launch, request.offer, command)
                except (OutOfCapacity, QuotaExceeded, AuthFailed, Rejected) as refusal:
                    await self._blocks.learn(request.offer, refusal)
                    # A refusal of a repeated request says nothing about the first one, which may have been granted.
                    earlier = await self._platform.find(launch.key) if activity.info().attempt > 1 else []
                    if earlier:
                        return earlier
                    raise

    async def _refuse_what_is_known(self, offer: Offer) -> None:
        """Spare the cloud a request that it has refused others since this offer was listed."""
        (known,) = await self._blocks.mark([offer])
        if known.blocked:
            raise OutOfCapacity(f"not asked for: it was refused lately ({known.blocked}), until {known.blocked_until}")

    @activity.defn(name="start")
    async def start(self, request: RunRequest) -> Instance:
        """Start the command once the instance is ready; idempotent on the run that the caller knows.

        `describe` shows what it waits for.
        """
        with translated():
            async with beating() as progress:
                command = await self._secrets.command(request.launch)
                return await self._platform.start(request.instance, request.launch, command, progress)

    @activity.defn(name="stop")
    async def stop(self, request: RunRequest) -> Instance:
        """End the command: SIGTERM, grace, SIGKILL."""
        with translated():
            async with beating():
                return await self._platform.stop(request.instance, request.grace_s)

    @activity.defn(name="release")
    async def release(self, request: ReleaseRequest) -> None:
        """Delete what the key rented and prove that it is gone: in the right account, and late enough.

        Raises:
            ApplicationError: AuthFailed when this is another account than the one rented in (its "not found"
                proves nothing); NotReady while something is left or an unanswered create may still take effect.
        """
        rental = request.rental
        with translated():
            async with beating():
                identity = await self._platform.identity()
                if rental.identity and rental.identity != identity:
                    raise AuthFailed(
                        f"{rental.offer.account!r} is now account {identity!r}; rented was in {rental.identity!r}",
                        "restore the credentials it was rented with: nothing is shown as deleted before that",
                    )
                await self._platform.delete(rental.key)
                if await self._platform.find(rental.key):
                    raise NotReady(f"{rental.key} is being deleted", retry_after=GONE_POLL_S)
                self._wait_out_settling(rental)

    @staticmethod
    def _wait_out_settling(rental: Rental) -> None:
        """An unanswered create can take effect after a delete has looked: look again after `settle_s`."""
        if rental.answered or rental.sent_at is None:
            return
        early = rental.sent_at + rental.offer.settle_s - time.time()
        if early > 0:
            raise NotReady(f"an unanswered request for {rental.key} may still take effect", retry_after=early)

    @activity.defn(name="archive_logs")
    async def archive_logs(self, request: ArchiveRequest) -> int:
        """Copy the command's output to the archive and return its bytes; repeating it overwrites."""
        with translated():
            async with beating() as progress:
                try:
                    stream = self._platform.logs(request.instance)
                    return await self._archive.store(request.metadata, request.attempt, stream, progress)
                except NotFound:
                    return 0
