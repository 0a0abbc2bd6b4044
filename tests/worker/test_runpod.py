"""A whole life on RunPod: workflow, worker, REST calls, a pod, the command in it, its exit code, and nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.platforms.runpod import RunpodPlatform
from nebulous.accounts import RunpodAccount
from tests import nebula as running
from tests.activities.platforms.runpod_bare import SECRET_KEY
from tests.dockerd import Dockerd
from tests.doubles.runpod import KEY, NO_ROOM, RunpodDouble
from tests.nebula import Nebula, eventually
from worker.embedded import Engine

pytestmark = pytest.mark.docker
LIMIT_S = 60.0


@pytest.fixture
async def on_runpod(
    session_engine: Engine, engine: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Nebula, RunpodDouble]]:
    """A worker with an account of RunPod."""
    with RunpodDouble(engine.host, engine.init_pid) as double:
        monkeypatch.setenv("NEBU_RUNPOD_API", double.url)
        monkeypatch.setenv("RUNPOD_API_KEY", KEY)
        name = tmp_path.name.replace("_", "-")[-30:]  # each test has a queue of its own
        install = "wholelife234"
        platform = RunpodPlatform(name, install, RunpodAccount(), SECRET_KEY, tmp_path)
        async with running.nebula(session_engine.temporal_address, tmp_path, platform) as nebula:
            platform._install = nebula.parts.install
            yield nebula, double


async def test_a_container_runs_and_its_pod_is_given_back(on_runpod: tuple[Nebula, RunpodDouble], image: str):
    nebula, double = on_runpod
    double.fail("POST /v2/pods", 400, NO_ROOM)  # the first offer is sold out
    life = await nebula.create(image=image, command="echo hello; exit 3", accelerators=["1:A40"])
    status = await life.until("failed", limit_s=LIMIT_S)
    assert (status["exit_code"], status["accelerator"]) == (3, "1:A40")
    assert status["price_source"] == "RunPod catalog"

    async def empty() -> bool:
        return not double.pods

    await eventually(empty, LIMIT_S)
    assert len(double.made("POST /v2/pods")) == 2
    await life.signal("delete")
    await life.gone(LIMIT_S)


async def test_a_pod_that_runpod_stops_is_replaced(on_runpod: tuple[Nebula, RunpodDouble], image: str):
    nebula, double = on_runpod
    nebula.platform.busy_interval = 0.5
    life = await nebula.create(image=image, command="exec sleep 300")
    await life.until("running", limit_s=LIMIT_S)
    (first,) = double.pods.values()
    asyncio.run_coroutine_threadsafe(double._containers.halt(first, "EXITED"), double._loop).result(20)

    async def recovered() -> bool:
        status = await life.status()
        return status["status"] == "running" and status["recoveries"] == 1

    await eventually(recovered, LIMIT_S)
    assert first.id not in double.pods
    await life.signal("delete")
    await life.gone(LIMIT_S)
    assert double.pods == {}
