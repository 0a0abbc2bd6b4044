"""What anybody may ask: what this is, and whether it works; and what only the server's admin may."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from temporalio.service import RPCError

from api.auth import Operator
from api.services import Services, Uses
from nebulous import __version__, sessions
from nebulous import temporal as engine
from nebulous.errors import NebulousError, Unavailable
from nebulous.models.platforms import PlatformReport
from nebulous.models.resources import Row
from nebulous.sessions import SessionRequest
from nebulous.settings import CLOUDS

CHECK_TIMEOUT = timedelta(seconds=2)
DIAGNOSIS_S = 25.0
OK = "ok"


def router() -> APIRouter:
    """GET /, /health and /v1/doctor."""
    routes = APIRouter(tags=["server"])

    @routes.get("/", name="about")
    async def about() -> dict[str, str]:
        """What this is."""
        return {
            "name": "nebulous",
            "version": __version__,
            "description": "Runs AI containers on whatever accelerator is free, on any cloud.",
            "documentation": "/docs",
        }

    @routes.get("/health", name="health")
    async def health(uses: Uses) -> JSONResponse:
        """Whether Temporal and Redis answer; 503 without Temporal, because then nothing works."""
        temporal, redis = await asyncio.gather(_temporal(uses), _redis(uses))
        well = temporal == OK
        status = "ok" if well and redis == OK else "degraded" if well else "unavailable"
        body = {"status": status, "version": __version__, "temporal": temporal, "redis": redis}
        return JSONResponse(body, 200 if well else 503)

    @routes.get("/v1/doctor", name="doctor")
    async def doctor(uses: Uses, _: Operator) -> dict[str, Any]:
        """What a diagnosis needs: the engine, every platform account, and what nobody owns."""
        return await _diagnose(uses)

    return routes


async def _temporal(uses: Services) -> str:
    try:
        serving = await uses.store.client.service_client.check_health(timeout=CHECK_TIMEOUT)
    except (RPCError, RuntimeError) as error:  # RuntimeError: a lazy client that cannot connect
        return f"does not answer: {'; '.join(engine.refusal(error) or (str(error),))}"[:200]
    return OK if serving else "is not serving"


async def _redis(uses: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            await uses.redis.execute_command("PING")
    except (RedisError, OSError, TimeoutError) as error:
        return f"does not answer: {error}"[:200]
    return OK


async def _archive(uses: Services) -> dict[str, Any]:
    """Where archived logs are, and whether they can be read; that they can be written, only a worker knows."""
    said: dict[str, Any] = {"place": uses.archive.place, "status": OK, "hint": None}
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            await uses.archive.check_reading()
    except NebulousError as error:
        return said | {"status": error.message, "hint": error.hint}
    except TimeoutError:
        return said | {"status": f"the archive {uses.archive.place} does not answer", "hint": "see the log of the API"}
    return said


async def _diagnose(uses: Services) -> dict[str, Any]:
    temporal, redis, archive = await asyncio.gather(_temporal(uses), _redis(uses), _archive(uses))
    config = uses.store.client.service_client.config
    try:
        install, reports = await uses.store.install(), await uses.reports.all()
        running = _running(await uses.store.lists.rented())
    except Unavailable:
        install, reports, running = None, [], []
    accounts = await asyncio.gather(*(_account(uses, report) for report in reports if _can_be_tried(report)))
    return {
        "install": install,
        "version": __version__,
        "engine": {
            "temporal": temporal,
            "temporal_address": config.target_host,
            "temporal_namespace": uses.store.client.namespace,
            "redis": redis,
            "data_dir": str(uses.settings.data),
            "archive": archive,
        },
        "running": running,
        "platforms": [report.model_dump(mode="json") for report in reports],
        "accounts": accounts,
        "orphans": [
            {"account": report.account, "orphan": orphan, "foreign": orphan in report.foreign}
            for report in reports
            for orphan in [*report.orphans, *report.foreign]
        ],
    }


def _can_be_tried(report: PlatformReport) -> bool:
    """A real cloud whose worker is there."""
    return report.platform in CLOUDS and report.configured and not report.simulated


async def _account(uses: Services, report: PlatformReport) -> dict[str, Any]:
    """What its worker may do in a cloud's account, tried without renting; the cloud may take its time."""
    said: dict[str, Any] = {"account": report.account, "checks": [], "problem": None, "hint": None}
    try:
        async with asyncio.timeout(DIAGNOSIS_S):
            return said | {"checks": await sessions.answer(uses.redis, report.queue, SessionRequest(kind="diagnosis"))}
    except NebulousError as error:
        return said | {"problem": error.message, "hint": error.hint}
    except TimeoutError:
        return said | {"problem": f"{report.account} was not looked through in {DIAGNOSIS_S:.0f} s", "hint": None}


def _running(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Everything rented now, in all organizations: what goes on when the server stops."""
    return [
        {"name": row.metadata.name, "namespace": row.metadata.namespace, "owner": row.metadata.owner, **rental}
        for row in rows
        for rental in row.rentals.values()
    ]
