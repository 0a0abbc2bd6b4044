"""Platforms: which are there, which can be used now, and what to do about the others."""

import asyncio
from typing import Any

from fastapi import APIRouter

from api.auth import Reader
from api.services import Services, Uses
from nebulous import ids, sessions
from nebulous.errors import NebulousError
from nebulous.models.platforms import PlatformReport
from nebulous.sessions import SessionRequest
from nebulous.settings import CLOUDS

KNOWN = ids.PLATFORMS

_CREDENTIALS = {
    "runpod": "RUNPOD_API_KEY",
    "ec2": "AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "gce": "GOOGLE_APPLICATION_CREDENTIALS",
}
_SECOND = 1.0  # for live numbers; a machine that is busy or away is shown without them

#: What makes a platform usable that is not configured.
CONFIGURE: dict[str, str] = {
    **{
        cloud: f"set {variable} where the worker runs, or name accounts in nebulous.yaml (docs/clouds.md); "
        f"to try without one: `nebu serve --simulate {cloud}`"
        for cloud, variable in _CREDENTIALS.items()
    },
    "docker": "start a worker beside a Docker Engine (`nebu worker`), with NEBU_DOCKER_ENABLED not false",
    "local": "set NEBU_LOCAL_ENABLED=true and start a worker; beyond loopback it is off unless asked for",
    "sim": "start a worker: `nebu worker`",
}

_NO_WORKER = "no worker serves it"


def router() -> APIRouter:
    """GET /v1/platforms."""
    routes = APIRouter(prefix="/v1", tags=["platforms"])

    @routes.get("/platforms", name="list platforms")
    async def platforms(uses: Uses, _: Reader) -> dict[str, Any]:
        """Every platform: whether it is usable now, and if not, why and what to do."""
        reports = await uses.reports.all()
        served = [report for report in reports if report.configured]
        loads = await asyncio.gather(*(_load(uses, report) for report in served))
        rows = [{**_shown(report), "load": load} for report, load in zip(served, loads, strict=True)]
        rows += unconfigured(reports)
        return {"platforms": sorted(rows, key=lambda row: KNOWN.index(ids.platform_type(str(row["platform"]))))}

    return routes


def unconfigured(reports: list[PlatformReport]) -> list[dict[str, Any]]:
    """The platforms that no worker serves, and what would make each usable."""
    served = {report.platform for report in reports if report.configured}
    return [_unconfigured(kind) for kind in KNOWN if kind not in served]


async def _load(uses: Services, report: PlatformReport) -> dict[str, Any] | None:
    """How busy a machine of one's own is at this moment; None for clouds, and where nobody says it soon."""
    if report.platform != "docker" or report.disabled:
        return None
    try:
        async with asyncio.timeout(_SECOND):
            return await sessions.answer(uses.redis, report.queue, SessionRequest(kind="load"))
    except (NebulousError, TimeoutError):
        return None


def _shown(report: PlatformReport) -> dict[str, Any]:
    return {
        "platform": report.platform,
        "account": report.account,
        "usable": report.disabled is None,
        "reason": report.reason,
        "hint": report.hint,
        "simulated": report.simulated,
        "features": sorted(report.features),
        "accelerators": report.accelerators,
        "regions": report.regions,
        "detail": report.detail,
        "swept_at": report.swept_at,
        "alarm": report.alarm,
    }


def _unconfigured(kind: str) -> dict[str, Any]:
    reason = "not configured" if kind in CLOUDS else _NO_WORKER
    empty = PlatformReport(platform=kind, account="", queue="", disabled=reason)
    return {**_shown(empty), "account": None, "hint": CONFIGURE[kind], "load": None}
