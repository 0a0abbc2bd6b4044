"""`nebu worker`: the worker process by itself, against the Temporal and Redis that the settings name."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis

from nebulous import temporal
from nebulous.settings import Settings
from worker.build import running


def command(
    ready_file: Annotated[Path | None, typer.Option(help="Written once the worker polls.")] = None,
) -> None:
    """Run workflows and activities against NEBU_TEMPORAL_ADDRESS and NEBU_REDIS_URL, until SIGTERM."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    code = asyncio.run(_main(settings, ready_file))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the SDK's core may abort a normal interpreter exit (temporalio sdk-python#300)


async def _main(settings: Settings, ready_file: Path | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        client = await temporal.connect(settings.temporal_address, settings.temporal_namespace)
    except RuntimeError as error:
        typer.echo(f"cannot reach Temporal: {error}; set NEBU_TEMPORAL_ADDRESS, or use `nebu serve`", err=True)
        return 5
    await temporal.register_search_attributes(client)
    redis = Redis.from_url(settings.redis_url) if settings.redis_url else None
    async with running(settings, client, redis):
        if ready_file:
            ready_file.write_text(str(os.getpid()))
        await stop.wait()
    return 0
