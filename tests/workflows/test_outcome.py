"""Behind the outcome: a failed machine that is kept, and whom it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nebulous import ids
from tests.doubles.receiver import Receiver
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine

FAILS = sim_labels(boot="0s", run_for="0s", exit_code="3")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


@pytest.fixture
async def telling(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    """A worker that may tell this machine."""
    async with run_nebula(session_engine.temporal_address, tmp_path, notify_private=True) as started:
        yield started


async def condition(life: Resource, kind: str, reason: str) -> dict[str, Any]:
    async def so() -> dict[str, Any] | None:
        found = (await life.status())["conditions"]
        return next((each for each in found if (each["type"], each["reason"]) == (kind, reason)), None)

    return await eventually(so, what=f"{kind} is {reason}")


# --- keep_on_failure --------------------------------------------------------------------------------------


async def test_the_machine_of_a_failed_command_is_kept_at_its_price_and_then_given_back(nebula: Nebula):
    life = await nebula.create(labels=FAILS, keep_on_failure="3s", accelerators=["1:A100"])
    status = await life.until("failed")
    kept = await condition(life, "Released", "KeptOnFailure")
    until = datetime.fromisoformat(kept["message"].removeprefix("until "))
    assert 2.5 < (until - datetime.fromisoformat(status["finished_at"])).total_seconds() < 3.5
    (instance,) = await nebula.owned()
    assert instance.state == "exited"
    assert (await life.status())["cost_per_hr"] > 0
    assert (await condition(life, "Released", "Released"))["status"] == "True"
    assert (await life.status())["cost_per_hr"] is None
    assert await nebula.owned() == []


@pytest.mark.parametrize("word", ["stop", "delete", "start"])
async def test_stop_delete_and_start_give_it_back_at_once(nebula: Nebula, word: str):
    life = await nebula.create(labels=FAILS, keep_on_failure="24h")
    await condition(life, "Released", "KeptOnFailure")
    (kept,) = await nebula.owned()
    await life.signal(word)

    async def given_back() -> bool:
        return kept.key not in {each.key for each in await nebula.owned()}

    await eventually(given_back)
    if word == "start":  # another machine, which fails and is kept like the first one
        await eventually(lambda: _attempt(life, 2))
        await condition(life, "Released", "KeptOnFailure")
    if word != "delete":
        assert (await life.status())["status"] == "failed"


async def _attempt(life: Resource, number: int) -> bool:
    status = await life.status()
    return (status["attempt"], status["status"]) == (number, "failed")


async def test_a_new_life_under_the_name_does_not_wait_for_the_kept_machine(nebula: Nebula):
    life = await nebula.create(labels=FAILS, keep_on_failure="24h")
    await condition(life, "Released", "KeptOnFailure")
    spec = {**(await life.row()).spec, "command": "other"}
    handle = nebula.client.get_workflow_handle(life.id)
    decided = await handle.execute_update("create", {"spec": spec, "metadata": {"id": ids.new_id()}})
    assert decided["outcome"] == "next"

    async def begun() -> bool:
        return (await life.row()).metadata.id == decided["id"]

    await eventually(begun)


async def test_what_ends_well_or_by_the_user_is_not_kept(nebula: Nebula):
    well = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"), keep_on_failure="24h")
    await well.until("completed")
    stopped = await nebula.create(labels=sim_labels(boot="0s"), keep_on_failure="24h")
    await stopped.until("running")
    await stopped.signal("stop")
    await stopped.until("stopped")
    await eventually(lambda: _empty(nebula))


async def _empty(nebula: Nebula) -> bool:
    return await nebula.owned() == []


async def test_the_time_of_keeping_survives_continue_as_new(short_history_engine: Engine, tmp_path: Path):
    async with run_nebula(short_history_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=FAILS, keep_on_failure="8s")
        first = (await condition(life, "Released", "KeptOnFailure"))["message"]
        before = (await nebula.client.get_workflow_handle(life.id).describe()).run_id
        for _ in range(40):
            await life.signal("observe", key="somebody else's", instance_id="x", state="lost")

        async def anew() -> bool:
            return (await nebula.client.get_workflow_handle(life.id).describe()).run_id != before

        await eventually(anew)
        assert (await condition(life, "Released", "KeptOnFailure"))["message"] == first
        assert len(await nebula.owned()) == 1
        await condition(life, "Released", "Released")
        assert await nebula.owned() == []


# --- notify -----------------------------------------------------------------------------------------------


async def test_the_outcome_is_told_with_who_what_and_when(telling: Nebula, receiver: Receiver):
    life = await telling.create(labels=FAILS, notify=receiver.url)
    status = await life.until("failed")
    await eventually(lambda: _got(receiver, 1))
    ((headers, body),) = receiver.got
    metadata = (await life.row()).metadata
    assert headers["idempotency-key"] == f"{metadata.id}-1"
    assert (body["event"], body["id"], body["name"], body["namespace"], body["owner"]) == (
        "outcome", metadata.id, metadata.name, "default", "local",
    )  # fmt: skip
    assert (body["status"], body["reason"], body["exit_code"]) == ("failed", "Exited", 3)
    assert (body["started_at"], body["finished_at"]) == (status["started_at"], status["finished_at"])


async def _got(receiver: Receiver, count: int) -> bool:
    return len(receiver.got) >= count


async def test_each_recovery_is_told(telling: Nebula, receiver: Receiver):
    script = sim_labels(boot="0s", preempt_after="0.3s", run_for="1s")
    life = await telling.create(labels=script, notify=receiver.url)
    await life.until("completed")
    await eventually(lambda: _got(receiver, 2))
    assert [(body["event"], body["reason"]) for body in receiver.bodies] == [
        ("recovery", "Preempted"),
        ("outcome", "Exited"),
    ]


async def test_a_receiver_in_trouble_is_told_again_under_the_same_key(telling: Nebula, receiver: Receiver):
    receiver.answers = [503, 503, 204]
    life = await telling.create(labels=FAILS, notify=receiver.url)
    await eventually(lambda: _got(receiver, 3))
    assert len({headers["idempotency-key"] for headers, _ in receiver.got}) == 1
    assert "NotifyFailed" not in await life.reasons()


async def test_a_receiver_that_does_not_answer_delays_neither_outcome_nor_release(telling: Nebula, receiver: Receiver):
    receiver.answers = [None]
    life = await telling.create(labels=FAILS, notify=receiver.url)
    await life.until("failed")
    await condition(life, "Released", "Released")
    assert await telling.owned() == []
    async with asyncio.timeout(60):
        await life.signal("delete")
        await life.gone(limit_s=40)


async def test_a_refusal_is_an_event_and_changes_nothing_else(telling: Nebula, receiver: Receiver):
    receiver.answers = [404]
    life = await telling.create(labels=FAILS, notify=receiver.url)
    await eventually(lambda: _says(life, "NotifyFailed", "outcome: 127.0.0.1 answers 404"))
    assert (await life.status())["status"] == "failed"


async def test_an_address_that_is_not_public_is_refused_where_others_reach_the_api(nebula: Nebula, receiver: Receiver):
    life = await nebula.create(labels=FAILS, notify=receiver.url)
    await eventually(lambda: _says(life, "NotifyFailed", "127.0.0.1, which is not public"))
    assert receiver.got == []


async def _says(life: Resource, reason: str, words: str) -> bool:
    return any(each["reason"] == reason and words in each["message"] for each in (await life.history())["events"])
