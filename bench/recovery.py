"""The worker process killed with -9: how long until what it did, and what is to be decided, goes on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from temporalio.client import Client, PendingActivityState

from bench.installs import Install, install
from bench.report import Figure
from nebulous import temporal

ROUNDS, QUICK_ROUNDS = 5, 1
LATENCY_S = 3  # of every call of the simulated cloud, so that an activity is there to be interrupted


def measure(quick: bool) -> list[Figure]:
    """The worst of some."""
    activities: list[float] = []
    decisions: list[float] = []
    with install(NEBU_SIM__LATENCY_S=str(LATENCY_S), NEBU_SIM__BOOT_S="0") as here:
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            again, decided = asyncio.run(_kill(here, number))
            activities.append(again)
            decisions.append(decided)
    return [
        Figure("worker killed -9: running activity goes on (worst)", max(activities), "s", 8),
        Figure("worker killed -9: next decision (worst)", max(decisions), "s", 8),
    ]


async def _kill(here: Install, number: int) -> tuple[float, float]:
    """Seconds until the interrupted activity runs again, and until a stop that was asked for meanwhile is decided."""
    client = await temporal.connect(here.temporal)
    running, renting = f"running-{number}", f"renting-{number}"
    here.create(running, image="busybox", platform="sim")
    here.until(running, "running")
    here.create(renting, image="busybox", platform="sim")
    await _started(client, renting, after=0)
    killed = time.time()
    here.process("worker").kill()
    here.api.post(f"/v1/containers/default/{running}/stop").raise_for_status()
    again, (decided, _) = await asyncio.gather(
        _started(client, renting, after=killed), asyncio.to_thread(here.until, running, "stopping", "stopped")
    )
    return again - killed, decided - killed


async def _started(client: Client, name: str, after: float) -> float:
    """When an activity of this container was last started; waits until one was, after this time."""
    end = time.monotonic() + 60
    handle = client.get_workflow_handle(f"container/local/default/{name}")
    while time.monotonic() < end:
        pending: Any = (await handle.describe()).raw_description.pending_activities
        for each in pending:
            if each.state == PendingActivityState.STARTED and _utc(each) > after:
                return _utc(each)
        await asyncio.sleep(0.02)
    raise TimeoutError(f"no activity of {name} was started")


def _utc(pending: Any) -> float:  # noqa: ANN401 - a protobuf message
    return pending.last_started_time.seconds + pending.last_started_time.nanos / 1e9
