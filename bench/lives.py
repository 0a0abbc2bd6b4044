"""Whole container lives through one worker process and the embedded engine, against a bare workflow."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.installs import install
from bench.report import Figure
from nebulous import starters, temporal

LIVES, QUICK_LIVES = 300, 40
AT_ONCE = 8
LOOK_S = 0.2
QUEUE = "bench"


@activity.defn
async def nothing() -> None:
    """The least that an activity can do."""


@workflow.defn
class Bare:
    """Four activities, one after another: what any orchestrator on Temporal pays at least."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing four times."""
        for _ in range(4):
            await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=10))


def measure(quick: bool) -> list[Figure]:
    """Lives a second, from the first start to the last outcome."""
    lives = QUICK_LIVES if quick else LIVES
    with install(NEBU_SIM__BOOT_S="0") as here:
        ours = asyncio.run(_ours(here.temporal, lives))
        bare = asyncio.run(_bare(here.temporal, lives))
    return [
        Figure("sim: container lives", ours, "/s", 15, at_least=True, baseline=bare, against="a bare workflow of four")
    ]


async def _ours(address: str, lives: int) -> float:
    client = await temporal.connect(address)
    labels = {"sim.nebulous/boot": "0s", "sim.nebulous/run_for": "0s"}
    gate = asyncio.Semaphore(AT_ONCE)

    async def live(name: str) -> None:
        async with gate:
            metadata = {"name": name, "labels": labels}
            spec = {"image": "busybox", "command": "true", "platform": "sim", "metadata": metadata}
            await starters.start_container(client, spec)

    await live("warm")
    await _completed(client, 1)
    began = time.perf_counter()
    await asyncio.gather(*(live(f"life-{number}") for number in range(lives)))
    await _completed(client, 1 + lives)
    return lives / (time.perf_counter() - began)


async def _completed(client: Client, count: int) -> None:
    """Wait until so many have completed: one question a look, not one for each."""
    query = temporal.open_query("container", "local", f"{temporal.STATUS.name} = 'completed'")
    while (await client.count_workflows(query)).count < count:  # noqa: ASYNC110 - visibility tells nobody
        await asyncio.sleep(LOOK_S)


async def _bare(address: str, lives: int) -> float:
    client = await Client.connect(address)
    gate = asyncio.Semaphore(AT_ONCE)

    async def live(number: int) -> None:
        async with gate:
            await client.execute_workflow(Bare.run, id=f"bare-{number}", task_queue=QUEUE)

    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=QUEUE, workflows=[Bare], activities=[nothing], workflow_runner=runner):
        await live(-1)
        began = time.perf_counter()
        await asyncio.gather(*(live(number) for number in range(lives)))
        return lives / (time.perf_counter() - began)
