"""Wishes that cross with what happens by itself: none is lost, and none is done twice."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError

from activities.platforms.sim import SimPlatform
from nebulous import ids
from tests.doubles.receiver import Receiver
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as running
from tests.recordings.case import held_in
from worker.embedded import Engine
from worker.faults import VARIABLE

LONG_RUN = sim_labels(boot="0s")
FAILS = sim_labels(boot="0s", run_for="0s", exit_code="3")


async def given_back(nebula: Nebula) -> None:
    async def so() -> bool:
        return await nebula.owned() == []

    await eventually(so)


async def run_of(life: Resource) -> str:
    return (await life.client.get_workflow_handle(life.id).describe()).run_id


async def test_a_stop_during_the_end_of_a_failed_command_does_not_leave_its_machine_kept(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"activity": "stop", "when": "before", "fault": "Unavailable", "times": 2}
    monkeypatch.setenv(VARIABLE, json.dumps({"seed": 1, "rules": [late]}))
    async with running(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=LONG_RUN, timeout="200ms", keep_on_failure="24h")
        await held_in(life, "stop")
        await life.signal("stop")
        assert (await life.until("failed"))["reason"] == "TimedOut"
        await given_back(nebula)
        assert "KeptOnFailure" not in await life.reasons()


@pytest.mark.parametrize("first", ["restart", "observe"])
async def test_a_restart_that_meets_the_end_of_the_command_is_done(
    session_engine: Engine, tmp_path: Path, first: str
) -> None:
    """Both are heard in one task, as after a moment without a worker."""
    host = ids.new_id()
    async with running(session_engine.temporal_address, tmp_path, host=host) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s", run_for="2s,1h"))
        await life.until("running")
        (instance,) = await nebula.owned()
    cloud = SimPlatform("sim", host, tmp_path, nebula.settings.sim)

    async def has_ended() -> bool:
        return [each.state for each in await cloud.owned()] == ["exited"]

    await eventually(has_ended)
    await cloud.close()
    end = {"code": 0, "at": datetime.now(UTC).isoformat()}
    exited = {"key": instance.key, "instance_id": instance.id, "state": "exited", "run": instance.run, "exit": end}
    messages: dict[str, dict[str, Any]] = {"restart": {}, "observe": exited}
    for name in (first, *(messages.keys() - {first})):
        await life.signal(name, **messages[name])
    async with running(session_engine.temporal_address, tmp_path, host=host) as nebula:

        async def restarted() -> bool:
            return (await life.status())["restarts"] == 1

        await eventually(restarted)
        assert (await life.until("running", "completed"))["status"] == "running"
        assert (await life.status())["attempt"] == 1
        assert len(await nebula.owned()) == 1


async def test_a_restart_that_meets_the_timeout_begins_the_next_attempt(session_engine: Engine, tmp_path: Path) -> None:
    host = ids.new_id()
    async with running(session_engine.temporal_address, tmp_path, host=host) as nebula:
        life = await nebula.create(labels=LONG_RUN, timeout="1h")
        await life.until("running")
        handle = life.client.get_workflow_handle(life.id)
        await handle.execute_update("apply", {"spec": {**(await life.row()).spec, "timeout": "1s"}})
    await life.signal("restart")

    async def timed_out() -> bool:
        described = await handle.fetch_history()
        return any(event.HasField("timer_fired_event_attributes") for event in described.events)

    await eventually(timed_out)
    async with running(session_engine.temporal_address, tmp_path, host=host):

        async def again() -> bool:
            return (await life.status())["attempt"] == 2

        await eventually(again)


async def test_a_start_while_the_name_is_about_to_be_free_because_its_time_is_over_is_done(nebula: Nebula) -> None:
    owner = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"), ttl_after_finished="100ms")
    spec = {"image": "x", "platform": nebula.platform.account}
    labels = sim_labels(boot="0s", delete_takes="2s")
    owned = await nebula.client.start_workflow(
        "Container",
        {"spec": spec, "metadata": {"labels": labels, "owner_ref": owner.id}, "install": nebula.parts.install},
        id=f"{owner.id}-owned",
        task_queue=ids.TASK_QUEUE,
    )

    async def is_closing() -> bool:
        return (await Resource(nebula.client, owned).row()).metadata.deleted_at is not None

    await eventually(is_closing)
    await owner.signal("start")

    async def again() -> bool:
        return (await owner.status())["attempt"] == 2

    await eventually(again)


async def test_a_long_history_takes_the_last_notice_from_nobody(short_history_engine: Engine, tmp_path: Path) -> None:
    receiver = Receiver(answers=[None])
    async with (
        receiver.listening(),
        running(short_history_engine.temporal_address, tmp_path, notify_private=True) as nebula,
    ):
        life = await nebula.create(labels=FAILS, notify=receiver.url)
        await life.until("failed")
        await given_back(nebula)
        await life.signal("delete")

        async def is_closing() -> bool:
            return (await life.row()).metadata.deleted_at is not None

        await eventually(is_closing)
        heard = len(receiver.got)
        receiver.answers = [204]
        run = await run_of(life)

        async def another() -> bool:
            with contextlib.suppress(RPCError):  # it may have closed
                await life.signal("observe", key="another", instance_id="x", state="lost")
            return await run_of(life) != run or not await life.open()

        await eventually(another)
        await life.gone()
        assert len(receiver.got) > heard
        assert len({headers["idempotency-key"] for headers, _ in receiver.got}) == 1
