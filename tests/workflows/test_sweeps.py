"""Sweeps: what nobody owns goes late, once proven; what is owned stays; another install's is never touched."""

from __future__ import annotations

import asyncio
from pathlib import Path

from activities.platforms.base import Ask, Command
from activities.platforms.sim import SimPlatform
from nebulous import ids
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance
from nebulous.models.resources import Metadata
from nebulous.settings import SimSettings
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine


def launch(install: str, workflow: str, life: str = "some-life") -> Launch:
    metadata = Metadata(name="x", namespace="default", owner="local", id=life, labels=sim_labels(boot="0s"))
    key = ids.rental_key(install, life, 1, "sim", "r", ids.new_id())
    return Launch(metadata=metadata, spec={"image": "x"}, key=key, install=install, workflow=workflow)


async def rent(nebula: Nebula, request: Launch) -> str:
    assert isinstance(nebula.platform, SimPlatform)
    (offer, *_) = await nebula.platform.offers(Ask())
    (instance,) = await nebula.platform.create(request, offer, Command(env={}))
    return instance.key


async def test_an_instance_whose_workflow_is_unknown_is_destroyed_after_the_grace(nebula: Nebula) -> None:
    key = await rent(nebula, launch(nebula.parts.install, "container/local/default/never-was"))

    async def destroyed() -> bool:
        return await nebula.platform.find(key) == []

    await eventually(destroyed)


async def test_an_instance_of_a_former_life_is_destroyed_and_the_current_one_kept(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    key = await rent(nebula, launch(nebula.parts.install, life.id, "former-life"))

    async def destroyed() -> bool:
        return await nebula.platform.find(key) == []

    await eventually(destroyed)
    assert (await life.status())["status"] == "running"
    assert (await life.status())["recoveries"] == 0
    assert len(await nebula.owned()) == 1


async def test_many_orphans_at_once_raise_an_alarm_and_nothing_is_destroyed(nebula: Nebula) -> None:
    lost = [launch(nebula.parts.install, f"container/local/default/lost-{n}") for n in range(5)]
    keys = await asyncio.gather(*(rent(nebula, each) for each in lost))
    handle = nebula.client.get_workflow_handle(ids.platform_workflow(nebula.platform.account))

    async def alarmed() -> bool:
        memo = await (await handle.describe()).memo()
        return bool(memo["status"]["alarm"])

    await eventually(alarmed)
    assert [bool(await nebula.platform.find(key)) for key in keys] == [True] * 5


async def test_instances_of_another_install_are_reported_and_never_touched(nebula: Nebula) -> None:
    key = await rent(nebula, launch("another-install", "container/local/default/theirs"))
    await rent(nebula, launch(nebula.parts.install, "container/local/default/ours"))
    handle = nebula.client.get_workflow_handle(ids.platform_workflow(nebula.platform.account))

    async def reported_and_ours_gone() -> bool:
        memo = await (await handle.describe()).memo()
        return bool(memo["status"]["foreign"]) and len(await nebula.owned()) == 1

    await eventually(reported_and_ours_gone)
    assert await nebula.platform.find(key)


class Elsewhere(SimPlatform):
    """The same address after somebody pointed it at another account, where nothing of ours is."""

    moved = False
    listed_there = 0

    async def identity(self) -> str:
        return "another account" if self.moved else await super().identity()

    async def owned(self) -> list[Instance]:
        self.listed_there += self.moved
        return [] if self.moved else await super().owned()

    async def find(self, key: str) -> list[Instance]:
        return [] if self.moved else await super().find(key)


async def test_absence_in_another_account_is_no_loss(session_engine: Engine, tmp_path: Path) -> None:
    cloud = Elsewhere("ec2", ids.new_id(), tmp_path, SimSettings())
    address, often = session_engine.temporal_address, {"full_sweep_s": 0.2, "simulate": "ec2"}
    async with run_nebula(address, tmp_path, cloud, **often) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s"))
        await life.until("running")
        cloud.moved = True

        async def compared_again_and_again() -> bool:
            return cloud.listed_there >= 5

        await eventually(compared_again_and_again)
        status = await life.status()
        assert (status["status"], status["recoveries"]) == ("running", 0)
        assert "InstanceLost" not in await life.reasons()
        cloud.moved = False


async def test_a_worker_that_was_away_learns_what_happened_meanwhile(session_engine: Engine, tmp_path: Path) -> None:
    async with run_nebula(session_engine.temporal_address, tmp_path) as first:
        life = await first.create(labels=sim_labels(boot="0s", run_for="1s", exit_code="5"))
        await life.until("running")
        host = first.platform.account.partition(":")[2]
    async with run_nebula(session_engine.temporal_address, tmp_path, host=host) as second:
        status = await Resource(second.client, life.handle).until("failed")
    assert status["exit_code"] == 5
