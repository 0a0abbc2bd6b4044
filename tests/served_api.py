"""A real API on a real port, with a worker and a platform, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client

from activities.platforms.base import Platform
from activities.platforms.sim import SimPlatform
from api.command import address_of, bind, server
from nebulous import ids, sessions, temporal, tokens
from nebulous.settings import Settings
from nebulous.tokens import Caller, Role
from tests.nebula import eventually
from worker.build import running

SIGNING_KEY = "a-signing-key-for-tests-only-0123456789"


@dataclass
class ServedApi:
    """Where the API is, and what a test does to it."""

    settings: Settings
    platform: Platform
    url: str = ""
    _loop: Any = None
    _serving: Any = None
    _task: Any = None

    def token(self, organization: str, role: Role = "admin", **more: Any) -> str:
        caller = Caller(f"{role}@example.com", organization, {organization: role})
        return tokens.mint(SIGNING_KEY.encode(), caller, more.pop("ttl", timedelta(hours=1)))

    def organization(self) -> str:
        return f"org-{secrets.token_hex(4)}"

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        """End the API as its process would, connections and all; the worker goes on."""
        self.do(self._stop())

    def start(self) -> None:
        """Start it, on the port that it had."""
        self.do(self._start())

    async def _start(self) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        listener = bind("127.0.0.1", port)
        self.url = address_of(listener)
        self._serving = server(self.settings)
        self._task = asyncio.create_task(self._serving.serve(sockets=[listener]))

        async def started() -> bool:
            return self._serving.started

        await eventually(started, what="the API listens")

    async def _stop(self) -> None:
        self._serving.should_exit = True
        await asyncio.wait_for(self._task, 30)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        settings = self.settings
        client: Client = await temporal.connect(settings.temporal_address, settings=settings)
        await temporal.register_search_attributes(client)
        redis = sessions.connect(str(settings.redis_url))
        async with running(settings, client, redis, platforms=[self.platform]):
            await self._start()
            yield
            await self._stop()
        await redis.aclose()


@contextlib.contextmanager
def served_api(
    temporal_address: str, redis_url: str, folder: Path, platform: Platform | None = None, **more: Any
) -> Iterator[ServedApi]:
    """Run one, with a simulated cloud of its own unless another platform is given."""
    settings = Settings(
        temporal_address=temporal_address, redis_url=redis_url, data_dir=folder, signing_key=SIGNING_KEY, **more
    )
    api = ServedApi(settings, platform or SimPlatform("sim", ids.new_id(), folder, settings.sim))
    ready, stop, failed = threading.Event(), threading.Event(), []

    async def serve() -> None:
        api._loop = asyncio.get_running_loop()
        async with api._running():
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60), "the API did not start"
        if failed:
            raise failed[0]
        yield api
    finally:
        stop.set()
        thread.join()
        # What a stopped API leaves to the collector complains when it is collected; in the middle of the compilation
        # of some module that complaint breaks Python 3.11 (cpython#106905), so it is collected here.
        gc.collect()
