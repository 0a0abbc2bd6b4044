"""A running Nebulous for tests: real Temporal, real worker, a simulated cloud of its own, spoken to as programs do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from activities.platforms.base import Platform
from activities.platforms.sim import SimPlatform
from nebulous import ids, sessions, temporal
from nebulous.models.resources import Row
from nebulous.settings import Settings
from worker.build import Parts, running

LIMIT_S = 20.0


async def eventually(check: Any, limit_s: float = LIMIT_S, what: str = "") -> Any:
    """Call until the answer is true, and return it; the test fails when the limit passes."""
    end = time.monotonic() + limit_s
    while not (answer := await check()):
        assert time.monotonic() < end, f"not within {limit_s} s: {what or check}"
        await asyncio.sleep(0.02)
    return answer


@dataclass
class Resource:
    """One resource, by its workflow."""

    client: Client
    handle: WorkflowHandle[Any, Any]

    @property
    def id(self) -> str:
        return self.handle.id

    async def row(self) -> Row:
        """As `describe()` shows it; waits for the first task of one that was started without a memo."""
        return await eventually(self._row)

    async def _row(self) -> Row | None:
        return await temporal.row(await self.client.get_workflow_handle(self.id).describe())

    async def status(self) -> dict[str, Any]:
        return (await self.row()).status

    async def open(self) -> bool:
        return (await self.client.get_workflow_handle(self.id).describe()).close_time is None

    async def until(self, *wanted: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Wait for one of these statuses and return the whole status."""
        last: dict[str, Any] = {}

        async def arrived() -> bool:
            nonlocal last
            last = await self.status()
            return last["status"] in wanted

        try:
            await eventually(arrived, limit_s)
        except AssertionError:
            raise AssertionError(f"{self.id} is {last}, not {wanted}; {await self.history()}") from None
        return last

    async def gone(self, limit_s: float = LIMIT_S) -> None:
        async def closed() -> bool:
            return not await self.open()

        await eventually(closed, limit_s, f"{self.id} closes")

    async def signal(self, name: str, **request: Any) -> None:
        await self.client.get_workflow_handle(self.id).signal(name, request)

    async def history(self) -> dict[str, Any]:
        return await self.client.get_workflow_handle(self.id).query("history", rpc_timeout=temporal.RPC_TIMEOUT)

    async def reasons(self) -> list[str]:
        return [event["reason"] for event in (await self.history())["events"]]


@dataclass
class Nebula:
    """A worker, its platforms, and what tests do with them."""

    client: Client
    settings: Settings
    platform: Platform
    parts: Parts
    lives: list[Resource] = field(default_factory=list)

    async def create(self, name: str | None = None, labels: dict[str, str] | None = None, **spec: Any) -> Resource:
        """Start a container on this nebula's own platform, as a program would."""
        spec = {"image": "busybox", "command": "true", "platform": self.platform.account, **spec}
        address = ids.Address("container", "local", "default", name or ids.two_words())
        handle = await self.client.start_workflow(
            "Container",
            {"spec": {**spec, "metadata": {"labels": labels}}, "install": self.parts.install},
            id=str(address),
            task_queue=ids.TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        self.lives.append(Resource(self.client, handle))
        return self.lives[-1]

    async def owned(self) -> list[Any]:
        """What the platform has of this nebula's own lives and of nobody's; other tests may use the same Engine."""
        mine = {life.id for life in self.lives}
        shared = self.platform.type == "docker"
        return [each for each in await self.platform.owned() if not shared or each.workflow in mine]

    async def clear(self) -> None:
        """Delete what is left, so that a shared Engine is as it was."""
        for life in self.lives:
            if await life.open():
                await life.signal("delete")
        for life in self.lives:
            await life.gone()


def sim_labels(**script: str) -> dict[str, str]:
    """`sim_labels(run_for="1s")` as the labels that script the simulated cloud."""
    return {f"sim.nebulous/{key}": value for key, value in script.items()}


@asynccontextmanager
async def nebula(
    address: str, data_dir: Path, *more: Platform, redis_url: str | None = None, host: str = "", **settings: Any
) -> AsyncGenerator[Nebula]:
    """Run a worker with a simulated cloud of its own (and other platforms) against a Temporal server."""
    options = {"full_sweep_s": 2.0, "orphan_grace_s": 1.0, **settings}
    configured = Settings(data_dir=data_dir, temporal_address=address, redis_url=redis_url, **options)
    client = await temporal.connect(address, settings=configured)
    await temporal.register_search_attributes(client)
    sim = SimPlatform("sim", host or ids.new_id(), data_dir, configured.sim)
    redis = sessions.connect(redis_url) if redis_url else None
    async with running(configured, client, redis, platforms=[sim, *more], strict_sandbox=True) as parts:
        started = Nebula(client, configured, more[0] if more else sim, parts)
        yield started
        if started.platform.type == "docker":
            await started.clear()
    if redis:
        await redis.aclose()
