"""Rented machines in a whole worker: workflows, a cloud in memory, real machines, SSH, Docker, exit codes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.platforms.machines import MachinePlatform
from nebulous import temporal
from nebulous.models.platforms import InstanceState
from tests.activities.platforms.machine_builders import SECRET_KEY
from tests.docker_engine import client, without
from tests.doubles.guests import Guest, Guests, why_not
from tests.doubles.machine_cloud import MemoryCloud, World
from tests.nebula import Nebula, Resource, eventually
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine

pytestmark = pytest.mark.docker

PATIENCE_S = 60.0
STAYS = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def world(docker_host: str, tmp_path: Path) -> Iterator[World]:
    if reason := why_not():
        without(reason)
    with Guests(docker_host, tmp_path / "guests") as guests:
        yield World(guests)


@pytest.fixture
async def rented(session_engine: Engine, world: World, tmp_path: Path) -> AsyncIterator[Nebula]:
    """A worker whose platform rents machines; its install's id is known only once it runs."""
    async with run_nebula(session_engine.temporal_address, tmp_path) as first:
        install = first.parts.install
    platform = MachinePlatform(MemoryCloud(world), install, SECRET_KEY, tmp_path / "data", "10.213.0.0/16")
    async with run_nebula(session_engine.temporal_address, tmp_path, platform) as started:
        yield started
        await started.clear()


async def over(life: Resource, *wanted: str) -> dict[str, object]:
    return await life.until(*wanted, limit_s=PATIENCE_S)


async def nothing_left(world: World) -> None:
    async def empty() -> bool:
        return not world.there()

    await eventually(empty, PATIENCE_S, "every machine is given back")


def machine(world: World) -> Guest:
    (only,) = world.there()
    assert only.guest
    return only.guest


async def another(world: World, life: Resource, first: Guest) -> Guest:
    """The machine of the life's next attempt, once its command runs there."""

    async def moved() -> bool:
        status = await life.status()
        return (status["status"], status["recoveries"]) == ("running", 1) and machine(world) is not first

    try:
        await eventually(moved, PATIENCE_S, "it runs on another machine")
    except AssertionError:
        raise AssertionError(f"{await life.status()}; {await life.history()}") from None
    return machine(world)


async def test_an_exit_code_comes_home_the_image_is_pinned_and_the_machine_is_given_back(
    rented: Nebula, world: World, image: str, docker_host: str
):
    life = await rented.create(image=image, command="exit 3")
    status = await over(life, "failed")
    assert status["exit_code"] == 3
    with client(docker_host) as api:
        assert status["image_digest"] == api.get(f"/images/{image}/json").json()["Id"]
    await nothing_left(world)


async def test_describe_says_what_a_start_waits_for(rented: Nebula, world: World, image: str):
    world.born = InstanceState.BOOTING
    life = await rented.create(image=image, command=STAYS)

    async def says(text: str) -> None:
        async def said() -> bool:
            return await temporal.progress(await rented.client.get_workflow_handle(life.id).describe()) == text

        await eventually(said, PATIENCE_S, f"it says {text!r}")

    await says("booting")
    guest = machine(world)
    stage = guest.folder / "root/run/nebulous/stage"

    async def ready() -> bool:
        return stage.exists() and stage.read_text() == "ready\n"

    await eventually(ready, PATIENCE_S)
    guest.run("pkill -KILL sshd")
    world.there()[0].state = InstanceState.READY
    await says(f"waiting for SSH at {guest.address}")
    guest.run("/usr/sbin/sshd")
    await over(life, "running")


async def test_a_preempted_machine_is_replaced_and_both_are_given_back(rented: Nebula, world: World, image: str):
    life = await rented.create(image=image, command=STAYS)
    digest = (await over(life, "running"))["image_digest"]
    first = machine(world)
    first.notice()
    await another(world, life, first)
    assert "Preempted" in await life.reasons()
    assert (await life.status())["image_digest"] == digest
    assert not first.alive
    await life.signal("delete")
    await life.gone(PATIENCE_S)
    assert world.there() == []


async def test_a_machine_that_vanishes_is_replaced(rented: Nebula, world: World, image: str):
    life = await rented.create(image=image, command=STAYS)
    await over(life, "running")
    first = machine(world)
    first.kill()
    await another(world, life, first)
    assert "InstanceLost" in await life.reasons()


async def test_a_machine_that_cannot_be_reached_is_not_replaced(rented: Nebula, world: World, image: str):
    life = await rented.create(image=image, command=STAYS)
    await over(life, "running")
    guest = machine(world)
    guest.cut()

    async def seen_away() -> bool:
        guest.run("pkill -KILL -f '^sshd: nebulous'")
        (listed,) = await rented.platform.owned()
        return "unreachable" in listed.message

    line = rented.platform._lines.of(world.there()[0].order.launch.key)  # type: ignore[attr-defined]
    await line.tunnel.hang_up()
    await eventually(seen_away, PATIENCE_S, "nobody reaches it")
    assert (await life.status())["status"] == "running"
    guest.join()

    async def back() -> bool:
        (listed,) = await rented.platform.owned()
        return not listed.message

    await eventually(back, PATIENCE_S, "it is reached again")
    status = await life.status()
    assert (status["status"], status["recoveries"]) == ("running", 0)
    assert machine(world) is guest
