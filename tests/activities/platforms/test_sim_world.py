from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.platforms import sim
from activities.platforms.base import Ask
from activities.platforms.sim import SimPlatform
from nebulous.errors import (
    OutOfCapacity,
    Unavailable,
)
from nebulous.models.platforms import InstanceState
from nebulous.settings import SimOffer, SimSettings
from tests.activities.platforms.sim_builders import NOTHING, Clock, launch, offer_of, rent, simulated

ROOT = Path(__file__).parents[3]


# --- the API of the cloud -----------------------------------------------------------------------------


async def test_an_error_rate_of_one_answers_nothing_but_who_it_is(tmp_path: Path):
    cloud = SimPlatform("sim", "host", tmp_path, SimSettings(error_rate=1))
    assert await cloud.identity() == "sim:host"
    for call in (cloud.offers(Ask()), cloud.find("k"), cloud.delete("k"), cloud.owned()):
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize(("second", "rented"), [(0.1, 0), (0.9, 1)])
async def test_an_error_of_a_create_comes_before_or_after_it_took_effect(
    tmp_path: Path, cloud: SimPlatform, second: float, rented: int
):
    dice: Iterator[float] = iter([0.0, second])
    shaky = SimPlatform("sim", "host", tmp_path, SimSettings(error_rate=0.5), dice=lambda: next(dice))
    with pytest.raises(Unavailable):
        await shaky.create(launch(), await offer_of(cloud), NOTHING)
    assert len(await cloud.owned()) == rented


async def test_every_answer_takes_the_latency(tmp_path: Path):
    cloud = SimPlatform("sim", "host", tmp_path, SimSettings(latency_s=0.05))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await cloud.owned()
    assert loop.time() - begun >= 0.05


async def test_a_file_that_is_no_database_is_unavailable_and_says_where(tmp_path: Path):
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "cloud.db").write_text("nonsense " * 100)
    with pytest.raises(Unavailable) as broken:
        await simulated("sim", tmp_path).owned()
    assert "cloud.db" in str(broken.value.hint)


async def test_capacity_is_enforced_and_comes_back_with_a_delete_or_a_preemption(tmp_path: Path, clock: Clock):
    settings = SimSettings(offers=[SimOffer(capacity=1, usd_per_hour=0.1)])
    cloud = SimPlatform("sim", "host", tmp_path, settings, clock=clock)
    first = launch(preempt_after="1h")
    assert await rent(cloud, first)
    assert await rent(cloud, first), "the same key again takes no more room"
    with pytest.raises(OutOfCapacity) as full:
        await rent(cloud, launch())
    assert "sim.small is sold out in sim-1" in full.value.message
    await cloud.delete(first.key)
    second = launch(preempt_after="1h")
    assert await rent(cloud, second)
    clock += 3600
    assert await rent(cloud, launch())


async def test_capacity_holds_for_racing_creates(tmp_path: Path):
    clients = [simulated("sim", tmp_path, [SimOffer(capacity=10)]) for _ in range(4)]
    tries = [rent(client, launch()) for _ in range(8) for client in clients]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(each) for each in refused} == {OutOfCapacity}
    assert len(refused) == len(answers) - 10
    assert len(await clients[0].owned()) == 10


async def test_several_at_once_are_all_or_nothing(tmp_path: Path):
    cloud = simulated("sim", tmp_path, [SimOffer(capacity=3)])
    offer = await offer_of(cloud)
    gang = launch()
    assert len(await cloud.create(gang, offer, NOTHING, count=2)) == 2
    with pytest.raises(OutOfCapacity):
        await cloud.create(launch(), offer, NOTHING, count=2)
    assert len(await cloud.find(gang.key)) == 2


async def test_an_offer_that_is_not_sold_any_more_is_out_of_capacity(tmp_path: Path):
    offer = await offer_of(simulated("sim", tmp_path, [SimOffer(instance_type="old")]))
    with pytest.raises(OutOfCapacity):
        await simulated("sim", tmp_path, [SimOffer(instance_type="new")]).create(launch(), offer, NOTHING)


# --- several processes --------------------------------------------------------------------------------


PROCESS = """
import asyncio, sys
from pathlib import Path
from activities.platforms.base import Ask, Command
from activities.platforms.sim import SimPlatform
from nebulous.settings import SimSettings
from tests.activities.platforms.sim_builders import launch

async def main(folder):
    cloud = SimPlatform("sim", "host", Path(folder), SimSettings(boot_s=0))
    (offer, *_) = await cloud.offers(Ask())
    for _ in range(20):
        what = launch(run_for="1h")
        (instance,) = await cloud.create(what, offer, Command(env={}))
        await cloud.start(instance, what, Command(env={}))
    print("done", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


async def test_the_cloud_outlives_processes_that_are_killed_and_serves_several_at_once(tmp_path: Path):
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(60):
            for process in processes:
                assert process.stdout
                assert await process.stdout.readline() == b"done\n"
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    instances = await simulated("sim", tmp_path).owned()
    assert len({instance.id for instance in instances}) == 40
    assert {instance.state for instance in instances} == {InstanceState.RUNNING}


async def test_a_listing_that_takes_long_is_made_less_often(cloud: SimPlatform, monkeypatch: pytest.MonkeyPatch):
    often = cloud.busy_interval
    monkeypatch.setattr(sim, "LISTING_PAUSE", 0)
    await cloud.owned()
    assert cloud.busy_interval == often
    monkeypatch.setattr(sim, "LISTING_PAUSE", 1e9)
    await cloud.owned()
    assert cloud.busy_interval > often


async def test_clouds_of_one_data_directory_keep_their_own_accounts(tmp_path: Path):
    sim, ec2 = simulated("sim", tmp_path), simulated("ec2", tmp_path)
    what = launch()
    await rent(sim, what)
    await rent(ec2, what)
    assert ec2.account == "ec2:simulated-host"
    assert [each.account for each in await sim.owned()] == ["sim:host"]
    assert [each.account for each in await ec2.owned()] == ["ec2:simulated-host"]
    await ec2.delete(what.key)
    assert len(await sim.find(what.key)) == 1
