"""Which platform accounts a container may go to; runs beside the workflow."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity
from temporalio.client import Client

from activities.failures import translated
from nebulous import temporal
from nebulous.errors import Rejected
from nebulous.ids import OWN_MACHINES, PLATFORMS, platform_type
from nebulous.models.base import Record, nearest
from nebulous.models.platforms import PlatformReport

#: Used only when named: they rent nothing real, or run beside the control plane.
ONLY_WHEN_NAMED = frozenset({"sim"})
REPORTS_KEPT_S = 0.5  # visibility itself is as old at times


class PlacementRequest(Record):
    """What the choice depends on."""

    platform: str | None = None
    accelerated: bool = False


class Placement(Record):
    """Accounts to ask for offers: the first tier that has any decides."""

    tiers: list[list[PlatformReport]] = []
    why: str = ""
    unusable: list[str] = []  # "docker: Docker does not answer …"


class OfferActivities:
    """Reads what the platforms' workers report; runs on the queue `nebulous`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = asyncio.Lock()
        self._read: tuple[float, list[PlatformReport]] = (float("-inf"), [])

    @activity.defn(name="choose_platforms")
    async def choose_platforms(self, request: PlacementRequest) -> Placement:
        """List the accounts that may serve the request, in tiers.

        Raises:
            ApplicationError: Rejected when a platform is named that this install has not.
        """
        reports = await self._reports()
        with translated():
            return choose(reports, request)

    async def _reports(self) -> list[PlatformReport]:
        """What all platforms report; a crowd that starts at once reads it together."""
        async with self._lock:
            at, reports = self._read
            if time.monotonic() - at > REPORTS_KEPT_S:
                reports = await self._read_reports()
                self._read = (time.monotonic(), reports)
            return reports

    async def _read_reports(self) -> list[PlatformReport]:
        found: list[PlatformReport] = []
        async for execution in self._client.list_workflows(temporal.open_query("platform")):
            row = await temporal.row(execution)
            if row:
                found.append(PlatformReport.model_validate(row.status))
        return sorted(found, key=lambda report: report.account)


def choose(reports: list[PlatformReport], request: PlacementRequest) -> Placement:
    """The accounts that may serve the request, in tiers; the API foresees with it what a workflow will do.

    Raises:
        Rejected: There is no such platform.
    """
    fitting = named(reports, request.platform) if request.platform else unnamed(reports)
    if request.platform and not fitting:  # a list may be late, and a worker away: not the spec's fault
        return Placement(unusable=[f"{request.platform}: no worker has reported it; see `nebu get platforms`"])
    usable = [report for report in fitting if not report.disabled]
    return Placement(
        tiers=tiers(usable, request),
        why=why(request),
        unusable=[f"{report.platform}: {report.disabled}" for report in fitting if report.disabled],
    )


def named(reports: list[PlatformReport], platform: str) -> list[PlatformReport]:
    """The accounts of one platform, or the one account; none while nobody serves it.

    Raises:
        Rejected: There is no such platform.
    """
    if platform_type(platform) not in PLATFORMS:
        guess = nearest(platform, PLATFORMS)
        advice = f"did you mean {guess!r}?" if guess else f"choose one of {', '.join(PLATFORMS)}"
        raise Rejected(f"there is no platform {platform!r}", advice)
    return [report for report in reports if platform in (report.platform, report.account)]


def unnamed(reports: list[PlatformReport]) -> list[PlatformReport]:
    """The accounts that may be chosen without being named: nothing simulated."""
    return [report for report in reports if not report.simulated and report.platform not in ONLY_WHEN_NAMED]


def tiers(reports: list[PlatformReport], request: PlacementRequest) -> list[list[PlatformReport]]:
    """Accelerators: everything at once, the cheapest offer wins. Else docker, then clouds, then this host."""
    if request.platform:
        return [reports]
    clouds = [report for report in reports if report.platform not in OWN_MACHINES]
    docker, local = ([report for report in reports if report.platform == own] for own in OWN_MACHINES)
    if request.accelerated:
        return [clouds + docker, local]
    return [docker, clouds, local]


def why(request: PlacementRequest) -> str:
    """The sentence that the status and the events show."""
    if request.platform:
        return "named by the spec"
    return (
        "the cheapest offer" if request.accelerated else "no platform named: docker first, then clouds, then this host"
    )
