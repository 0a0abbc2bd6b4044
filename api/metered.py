"""Metrics of the API: how long requests take, and how many containers there are in each status."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.client import Client
from temporalio.service import RPCError

from nebulous import metrics, temporal
from nebulous.models.containers import Status

log = logging.getLogger(__name__)

CENSUS_EVERY_S = 15.0


class Metered:
    """Times every request until its answer begins; streams go on for hours after that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.monotonic()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note(scope, message["status"], time.monotonic() - began)
            await send(message)

        return await self._app(scope, receive, noting)


def _note(scope: Scope, code: int, took_s: float) -> None:
    services: Any = getattr(scope["app"].state, "services", None)
    if services is None:
        return
    route = getattr(scope.get("route"), "path", "none")  # never the path itself: it holds names without end
    meter = metrics.meter(services.store.client)
    metrics.measure(meter, metrics.REQUESTS, took_s, method=scope["method"], route=route, code=str(code))


async def census(client: Client) -> None:
    """Count containers by status, for ever; one query for each status."""
    meter = metrics.meter(client)
    while True:
        try:
            for status in Status:
                query = temporal.open_query("container", None, f"{temporal.STATUS.name} = {temporal.quote(status)}")
                counted = await client.count_workflows(query, rpc_timeout=temporal.RPC_TIMEOUT)
                metrics.measure(meter, metrics.CONTAINERS, counted.count, status=status)
        except (RPCError, RuntimeError) as error:  # RuntimeError: a lazy client that cannot connect yet
            log.warning("cannot count containers: %s", error)
        await asyncio.sleep(CENSUS_EVERY_S)
