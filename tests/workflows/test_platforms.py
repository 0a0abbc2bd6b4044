"""The same life on Docker and on this host: what a command writes, how it ends, what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from activities import pace
from activities.platforms.docker import DockerPlatform
from activities.platforms.local import LocalPlatform
from nebulous import ids
from tests.nebula import Nebula, Resource, eventually
from tests.nebula import nebula as run_nebula
from worker import build
from worker.embedded import Engine


@pytest.fixture
async def on_local(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    host = LocalPlatform(ids.new_id(), tmp_path, "any")
    async with run_nebula(session_engine.temporal_address, tmp_path, host) as started:
        yield started


@pytest.fixture
async def on_docker(session_engine: Engine, tmp_path: Path, docker_host: str) -> AsyncGenerator[Nebula]:
    engine = DockerPlatform(ids.new_id(), "any", docker_host, data_dir=tmp_path)
    async with run_nebula(session_engine.temporal_address, tmp_path, engine) as started:
        yield started


def archived(nebula: Nebula, life: str, attempt: int = 1) -> str:
    return (nebula.settings.data / "archive/logs" / life / f"{attempt:04d}.log").read_text()


async def released(life: Resource) -> None:
    async def empty() -> bool:
        return not (await life.row()).rentals

    await eventually(empty)


async def test_local_runs_the_command_keeps_its_log_and_ignores_the_image_loudly(on_local: Nebula) -> None:
    life = await on_local.create(command="echo out; echo err >&2; exit 3", image="ignored")
    status = await life.until("failed")
    assert status["exit_code"] == 3
    assert {c["type"]: c["status"] for c in status["conditions"]}["ImageIgnored"] == "True"
    await released(life)
    assert archived(on_local, (await life.row()).metadata.id) == "out\nerr\n"
    assert await on_local.owned() == []


async def test_local_says_that_it_opens_no_public_port(on_local: Nebula) -> None:
    life = await on_local.create(command="sleep 600", image=None, ports=[{"port": 8000, "public": True}])
    status = await life.until("running")
    (told,) = [each for each in status["conditions"] if each["type"] == "PortsPublic"]
    assert (told["status"], told["reason"]) == ("Unknown", "HostNetwork")
    assert "depends on where it listens" in told["message"]
    assert status["public_ports"] is None


async def test_local_restarts_in_the_same_working_directory(on_local: Nebula) -> None:
    command = "echo run >> runs; test $(wc -l < runs) -eq 2"
    life = await on_local.create(command=command, image=None, restart="OnFailure")
    status = await life.until("completed")
    assert status["restarts"] == 1


async def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(on_local: Nebula) -> None:
    life = await on_local.create(command="trap '' TERM; echo ready; while :; do sleep 0.1; done", stop_grace="300ms")
    await life.until("running")
    await life.signal("stop")
    status = await life.until("stopped")
    assert status["exit_code"] == 137
    await released(life)


async def test_many_stops_wait_for_a_busy_worker_and_every_command_may_say_goodbye(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ACTIVITIES_PER_PLATFORM", 2)  # the sweep has one of them
    host = LocalPlatform(ids.new_id(), tmp_path, "any")
    async with run_nebula(session_engine.temporal_address, tmp_path, host) as nebula:
        command = "trap 'sleep 0.6; echo bye; exit 0' TERM; while :; do sleep 0.05; done"
        lives = [await nebula.create(command=command, image=None, stop_grace="10s") for _ in range(3)]
        for life in lives:
            await life.until("running")
        monkeypatch.setattr(pace, "NO_WORKER_AFTER", timedelta(milliseconds=300))
        for life in lives:
            await life.signal("stop")
        for life in lives:
            assert (await life.until("stopped"))["exit_code"] == 0
            await released(life)
            assert "bye" in archived(nebula, (await life.row()).metadata.id)


@pytest.mark.docker
async def test_docker_runs_the_command_records_the_exit_and_removes_the_container(
    on_docker: Nebula, image: str
) -> None:
    life = await on_docker.create(image=image, command="echo from $NEBU_NAME; exit 5")
    status = await life.until("failed")
    assert (status["exit_code"], status["reason"]) == (5, "Exited")
    await released(life)
    row = await life.row()
    assert archived(on_docker, row.metadata.id) == f"from {row.metadata.name}\n"
    assert await on_docker.owned() == []


@pytest.mark.docker
async def test_docker_restarts_the_same_container(on_docker: Nebula, image: str) -> None:
    command = "echo run >> /runs; test $(cat /runs | grep -c run) -eq 2"
    life = await on_docker.create(image=image, command=command, restart="OnFailure")
    status = await life.until("completed")
    assert (status["restarts"], status["attempt"]) == (1, 1)


@pytest.mark.docker
async def test_out_of_memory_is_named_as_the_reason(on_docker: Nebula, image: str) -> None:
    hungry = "exec dd if=/dev/zero of=/dev/null bs=200M count=1"
    life = await on_docker.create(image=image, command=hungry, resources={"max_memory": 0.02})
    status = await life.until("failed")
    assert status["reason"] == "OutOfMemory"
    assert "max_memory" in status["message"]


@pytest.mark.docker
async def test_a_program_that_is_not_in_the_image_makes_the_spec_invalid_and_leaves_nothing(
    on_docker: Nebula, image: str
) -> None:
    life = await on_docker.create(image=image, command=["no-such-program"])
    status = await life.until("invalid")
    assert "no-such-program" in status["message"]
    await released(life)
    assert await on_docker.owned() == []


@pytest.mark.docker
async def test_a_container_that_somebody_removes_is_replaced(on_docker: Nebula, image: str) -> None:
    life = await on_docker.create(image=image, command="while :; do sleep 0.2; done")
    await life.until("running")
    (instance,) = await on_docker.owned()
    await on_docker.platform.delete(instance.key)  # docker rm -f, seen by the product as an exit of 137 or a loss
    status = await life.until("failed", "running")

    async def settled() -> bool:
        nonlocal status
        status = await life.status()
        return status["recoveries"] == 1 or status["status"] == "failed"

    await eventually(settled)
    await life.signal("delete")
    await life.gone()
    assert await on_docker.owned() == []


@pytest.mark.docker
async def test_deletes_that_race_creates_leave_nothing_on_docker(on_docker: Nebula, image: str) -> None:
    lives = [await on_docker.create(image=image, command="while :; do sleep 0.2; done") for _ in range(4)]
    for number, life in enumerate(lives):
        await asyncio.sleep(0.05 * number)
        await life.signal("delete")
    for life in lives:
        await life.gone()
    assert await on_docker.owned() == []
