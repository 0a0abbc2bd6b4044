"""`nebu worker`: the worker process by itself, against the Temporal and Redis that the settings name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from temporalio.client import Client
from temporalio.runtime import Runtime

from nebulous import codec, metrics, seal, sessions, temporal
from nebulous.errors import KeyMissing, Rejected
from nebulous.settings import Settings
from worker import health
from worker.build import background, running
from worker.embedded import prepare
from worker.hosting import install_id

UNREACHABLE = 5  # exit code
CONNECT_LIMIT_S = 15.0
KEY_AGAIN_S = 60.0

log = logging.getLogger(__name__)


def command(
    ready_file: Annotated[Path | None, typer.Option(help="Written once it works, and every 10 s while it can.")] = None,
) -> None:
    """Run workflows and activities against NEBU_TEMPORAL_ADDRESS and NEBU_REDIS_URL, until SIGTERM."""
    settings = _settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    temporal.leave(asyncio.run(_main(settings, ready_file)))


def _settings() -> Settings:
    """The settings, with the keys that they name in order.

    Raises:
        Rejected: A setting cannot be used; the message names it.
    """
    try:
        settings = Settings()
        seal.secret_key(settings)
        codec.encryption_keys(settings)
    except (ValueError, OSError) as error:
        raise Rejected(f"the settings cannot be used: {error}", "see docs/settings.md") from error
    return settings


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
    if not await _readable(client, stop):
        return UNREACHABLE
    redis = sessions.connect(settings.redis_url) if settings.redis_url else None
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(settings, client, redis))
        if ready_file:
            await stack.enter_async_context(background(health.keep(client, ready_file)))
        await stop.wait()
    return 0


async def _readable(client: Client, stop: asyncio.Event) -> bool:
    """Wait, and say why, while Temporal holds what this process has no key for; False when told to stop.

    A worker that ended here would be started again at once, and one that worked would spoil every decision it took.
    """
    while not stop.is_set():
        try:
            await install_id(client)
            return True
        except KeyMissing as error:
            log.error("not working: %s; %s", error, error.hint)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), KEY_AGAIN_S)
    return False


async def _connect(settings: Settings, runtime: Runtime | None) -> Client | None:
    """Connect, giving an engine that starts at the same time a while; None with a message when it does not answer."""
    end = time.monotonic() + CONNECT_LIMIT_S
    while True:
        try:
            return await temporal.connect(
                settings.temporal_address, settings.temporal_namespace, settings=settings, runtime=runtime
            )
        except RuntimeError as error:
            final = temporal.refusal(error)
            if final or time.monotonic() > end:
                why, hint = final or (
                    str(error),
                    "set NEBU_TEMPORAL_ADDRESS to a server that runs, or use `nebu serve`",
                )
                typer.echo(f"Temporal does not answer: {why}", err=True)
                typer.echo(hint, err=True)
                return None
            await asyncio.sleep(0.1)
