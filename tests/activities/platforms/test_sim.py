from __future__ import annotations

from pathlib import Path

import pytest

from activities.platforms.base import Ask
from activities.platforms.sim import SimPlatform
from nebulous import ids
from nebulous.errors import (
    AuthFailed,
    ImageNotFound,
    NotFound,
    NotReady,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unavailable,
)
from nebulous.models.containers import Launch
from nebulous.models.platforms import InstanceState
from nebulous.settings import SimSettings
from tests.activities.platforms.contract import PlatformContract, Reopen, text_of
from tests.activities.platforms.sim_builders import NOTHING, Clock, launch, offer_of, rent, run, seen, simulated


class TestSimContract(PlatformContract):
    runs_commands = False

    @pytest.fixture
    async def platform(self, tmp_path: Path):
        platform = SimPlatform("sim", "host", tmp_path, SimSettings(boot_s=0.05))
        yield platform
        await platform.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: SimPlatform("sim", "host", tmp_path, SimSettings(boot_s=0.05))

    def scripted(self, **script: str) -> Launch:
        return self.launch("pretended", labels={f"sim.nebulous/{name}": value for name, value in script.items()})

    def exits(self, code: int) -> Launch:
        return self.scripted(run_for="0s", exit_code=str(code))

    def stays(self) -> Launch:
        return self.scripted()

    def says_and_exits(self, text: str, code: int) -> Launch:
        return self.scripted(run_for="0s", exit_code=str(code), log=text)

    def says_and_stays(self, text: str) -> Launch:
        return self.scripted(log=text)

    def tells_size(self, rows: int, cols: int) -> list[str]:
        return ["stty", "size"]


# --- the life that labels write -----------------------------------------------------------------------


async def test_it_boots_as_long_as_the_setting_says(cloud: SimPlatform, clock: Clock):
    what = launch()
    rented = await rent(cloud, what)
    assert rented.state == InstanceState.BOOTING
    with pytest.raises(NotReady) as early:
        await cloud.start(rented, what, NOTHING)
    assert early.value.retry_after == 2
    clock += 2
    assert (await seen(cloud, what)).state == InstanceState.READY


async def test_it_boots_as_long_as_the_label_says(cloud: SimPlatform, clock: Clock):
    what = launch(boot="30s")
    await rent(cloud, what)
    clock += 29
    assert (await seen(cloud, what)).state == InstanceState.BOOTING
    clock += 1
    assert (await seen(cloud, what)).state == InstanceState.READY


async def test_the_command_ends_after_run_for_with_its_exit_code(cloud: SimPlatform, clock: Clock):
    what = launch(run_for="5s", exit_code="3")
    started = await run(cloud, clock, what)
    clock += 4.9
    assert (await seen(cloud, what)).state == InstanceState.RUNNING
    clock += 0.2
    ended = await seen(cloud, what)
    assert (ended.state, ended.run, ended.exit.code) == (InstanceState.EXITED, started.run, 3)
    assert ended.exit.at == "2027-01-15T08:00:07.000Z"


async def test_stop_ends_the_command_with_143(cloud: SimPlatform, clock: Clock):
    what = launch()
    stopped = await cloud.stop(await run(cloud, clock, what), 30)
    assert (stopped.state, stopped.exit.code) == (InstanceState.EXITED, 143)


async def test_lists_are_used_run_by_run_and_the_last_value_stays(cloud: SimPlatform, clock: Clock):
    what = launch(run_for="1s,2s", exit_code="1,2,0")
    instance = await rent(cloud, what)
    clock += 2
    codes, lengths = [], []
    for _ in range(4):
        begun = clock.now
        instance = await cloud.start(instance, what, NOTHING)
        while (instance := await seen(cloud, what)).state == InstanceState.RUNNING:
            clock += 1
        codes.append(instance.exit.code)
        lengths.append(clock.now - begun)
    assert codes == [1, 2, 0, 0]
    assert lengths == [1, 2, 2, 2]


async def test_lists_go_on_in_the_next_instance_of_the_same_life(cloud: SimPlatform, clock: Clock):
    what = launch(run_for="1s", exit_code="1,0")
    await run(cloud, clock, what)
    following = launch(life=what.metadata.id, run_for="1s", exit_code="1,0")
    await run(cloud, clock, following)
    clock += 1
    assert (await seen(cloud, what)).exit.code == 1
    assert (await seen(cloud, following)).exit.code == 0


async def test_oom_is_an_exit_137_that_says_why(cloud: SimPlatform, clock: Clock):
    what = launch(run_for="1s", oom="true,false", exit_code="0")
    started = await run(cloud, clock, what)
    clock += 1
    ended = await seen(cloud, what)
    assert (ended.exit.code, ended.exit.oom) == (137, True)
    assert "simulated: exit 137, out of memory" in await text_of(cloud, started)
    await cloud.start(ended, what, NOTHING)
    clock += 1
    again = await seen(cloud, what)
    assert (again.exit.code, again.exit.oom) == (0, False)


async def test_a_preempted_machine_says_so_and_starts_nothing_more(cloud: SimPlatform, clock: Clock):
    what = launch(preempt_after="10s")
    started = await run(cloud, clock, what)
    clock += 8
    lost = await seen(cloud, what)
    assert (lost.state, lost.exit) == (InstanceState.PREEMPTED, None)
    assert "took the machine back" in lost.message
    assert "simulated: the machine was taken back" in await text_of(cloud, started)
    with pytest.raises(NotFound):
        await cloud.start(lost, what, NOTHING)


async def test_an_exit_before_the_preemption_stays_an_exit(cloud: SimPlatform, clock: Clock):
    what = launch(preempt_after="10s", run_for="1s", exit_code="4")
    await run(cloud, clock, what)
    clock += 60
    ended = await seen(cloud, what)
    assert (ended.state, ended.exit.code) == (InstanceState.EXITED, 4)


async def test_what_was_preempted_stays_so_after_the_command_would_have_ended(cloud: SimPlatform, clock: Clock):
    what = launch(preempt_after="10s", run_for="30s")
    started = await run(cloud, clock, what)
    clock += 60
    assert (await seen(cloud, what)).state == InstanceState.PREEMPTED
    assert "exit" not in await text_of(cloud, started)
    assert (await cloud.stop(started, 1)).exit is None


@pytest.mark.parametrize(("after", "preempted"), [("10s", [True, False, False]), ("10s,20s", [True, True, False])])
async def test_preemption_follows_the_attempts(cloud: SimPlatform, clock: Clock, after: str, preempted: list[bool]):
    life, states = ids.new_id(), []
    for attempt in (1, 2, 3):
        what = launch(attempt, life, preempt_after=after)
        await run(cloud, clock, what)
        clock += 30
        states.append((await seen(cloud, what)).state == InstanceState.PREEMPTED)
    assert states == preempted


async def test_a_vanished_machine_is_in_no_list(cloud: SimPlatform, clock: Clock):
    what = launch(vanish_after="10s")
    started = await run(cloud, clock, what)
    assert len(await cloud.owned()) == 1
    clock += 8
    assert await cloud.find(what.key) == []
    assert await cloud.owned() == []
    with pytest.raises(NotFound):
        await cloud.stop(started, 1)


async def test_delete_takes_as_long_as_the_label_says_and_asking_again_does_not_prolong_it(
    cloud: SimPlatform, clock: Clock
):
    what = launch(delete_takes="3s")
    started = await run(cloud, clock, what)
    await cloud.delete(what.key)
    assert (await seen(cloud, what)).state == InstanceState.DELETING
    with pytest.raises(NotFound):
        await cloud.start(started, what, NOTHING)
    clock += 2
    await cloud.delete(what.key)
    clock += 1
    assert await cloud.find(what.key) == []


async def test_the_log_tells_what_would_run_and_how_it_ended(cloud: SimPlatform, clock: Clock):
    what = launch(run_for="5s", log="hello\nworld", exit_code="3")
    started = await run(cloud, clock, what)
    begun = "simulated: would run true in busybox on sim.small sim-west\nhello\nworld\n"
    assert await text_of(cloud, started) == begun
    clock += 5
    assert await text_of(cloud, started) == begun + "simulated: exit 3\n"


# --- failures that labels ask for ---------------------------------------------------------------------


async def test_the_first_creates_fail_in_the_order_written_then_one_is_granted(cloud: SimPlatform):
    script = "OutOfCapacity*2, QuotaExceeded,AuthFailed,Unavailable,RateLimited,OK,ImageNotFound,Rejected"
    life = ids.new_id()
    answers: list[type[Exception] | None] = []
    for _ in range(10):
        try:
            await rent(cloud, launch(life=life, fail=script))
            answers.append(None)
        except Exception as error:
            answers.append(type(error))
    assert answers == [
        OutOfCapacity, OutOfCapacity, QuotaExceeded, AuthFailed, Unavailable, RateLimited, None, ImageNotFound,
        Rejected, None,
    ]  # fmt: skip
    assert len(await cloud.owned()) == 2


async def test_a_quota_names_its_scope(cloud: SimPlatform):
    with pytest.raises(QuotaExceeded) as refused:
        await rent(cloud, launch(fail="QuotaExceeded"))
    assert refused.value.scope == (await offer_of(cloud)).region


async def test_failures_are_counted_for_each_life_and_by_every_process(cloud: SimPlatform, tmp_path: Path):
    first, second = ids.new_id(), ids.new_id()
    with pytest.raises(OutOfCapacity):
        await rent(cloud, launch(life=first, fail="OutOfCapacity"))
    with pytest.raises(OutOfCapacity):
        await rent(cloud, launch(life=second, fail="OutOfCapacity"))
    assert await rent(simulated("sim", tmp_path), launch(life=first, fail="OutOfCapacity"))


async def test_an_unanswered_create_took_effect_and_is_adopted(cloud: SimPlatform):
    what = launch(unanswered="1")
    with pytest.raises(Unavailable):
        await rent(cloud, what)
    (found,) = await cloud.find(what.key)
    assert (await rent(cloud, what)).id == found.id
    assert len(await cloud.owned()) == 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("boot", "soon", "'soon' is not a duration"),
        ("run_for", "1s,soon", "'soon' is not a duration"),
        ("exit_code", "three", "'three' is not a whole number from 0 to 255"),
        ("exit_code", "256", "'256' is not a whole number from 0 to 255"),
        ("exit_code", "-1", "'-1' is not a whole number"),
        ("oom", "yes", "'yes' is neither true nor false"),
        ("fail", "OutOfCapasity*2", "did you mean OutOfCapacity?"),
        ("fail", "OutOfCapacity*many", "'many' is not a whole number"),
        ("fail", "NotFound", "'NotFound' is no failure"),
        ("unanswered", "", "'' is not a whole number"),
    ],
)
async def test_a_label_that_means_nothing_is_rejected_by_offers_and_create(
    cloud: SimPlatform, name: str, value: str, words: str
):
    what = launch(**{name: value})
    with pytest.raises(Rejected) as refused:
        await rent(cloud, what)
    assert f"'sim.nebulous/{name}'" in refused.value.message
    assert words in refused.value.message
    with pytest.raises(Rejected):
        await cloud.offers(Ask(labels=what.metadata.labels or {}))
    assert await cloud.owned() == []


async def test_an_unknown_label_is_rejected_with_the_nearest(cloud: SimPlatform):
    with pytest.raises(Rejected) as refused:
        await rent(cloud, launch(exitcode="3"))
    assert refused.value.hint == "did you mean sim.nebulous/exit_code?"


async def test_labels_of_others_are_not_ours(cloud: SimPlatform):
    assert await cloud.offers(Ask(labels={"team": "red", "simulated": "x"}))
