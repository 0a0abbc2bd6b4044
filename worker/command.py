"""`nebu worker`: the worker process by itself, against the Temporal and Redis that the settings name."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from temporalio.client import Client
from temporalio.runtime import Runtime

from nebulous import metrics, sessions, temporal
from nebulous.settings import Settings
from worker.build import running
from worker.embedded import prepare

UNREACHABLE = 5  # exit code
CONNECT_LIMIT_S = 15.0


def command(
    ready_file: Annotated[Path | None, typer.Option(help="Written once the worker polls.")] = None,
) -> None:
    """Run workflows and activities against NEBU_TEMPORAL_ADDRESS and NEBU_REDIS_URL, until SIGTERM."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    temporal.leave(asyncio.run(_main(settings, ready_file)))


async def _main(settings: Settings, ready_file: Path | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    client = await _connect(settings, metrics.runtime(settings.worker_metrics, "NEBU_WORKER_METRICS"))
    if client is None:
        return UNREACHABLE
    if settings.embedded:
        await prepare(client, settings.retention_days)
    else:
        await temporal.register_search_attributes(client)
    redis = sessions.connect(settings.redis_url) if settings.redis_url else None
    async with running(settings, client, redis):
        if ready_file:
            ready_file.write_text(str(os.getpid()))
        await stop.wait()
    return 0


async def _connect(settings: Settings, runtime: Runtime | None) -> Client | None:
    """Connect, giving an engine that starts at the same time a while; None with a message when it does not answer."""
    end = time.monotonic() + CONNECT_LIMIT_S
    while True:
        try:
            return await temporal.connect(settings.temporal_address, settings.temporal_namespace, runtime=runtime)
        except RuntimeError as error:
            if time.monotonic() > end:
                typer.echo(f"Temporal does not answer: {error}", err=True)
                typer.echo("set NEBU_TEMPORAL_ADDRESS to a server that runs, or use `nebu serve`", err=True)
                return None
            await asyncio.sleep(0.1)
