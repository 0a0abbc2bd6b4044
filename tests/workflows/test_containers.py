"""A container's life on the simulated cloud, against a real Temporal server."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy

from activities import pace
from nebulous import ids, temporal
from nebulous.models.platforms import PlatformReport
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as running
from worker.embedded import Engine
from worker.faults import VARIABLE


async def test_a_command_that_succeeds_ends_completed_and_its_instance_is_given_back(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0.2s"))
    status = await life.until("completed")
    assert status["exit_code"] == 0
    assert status["reason"] == "Exited"

    async def released() -> bool:
        return not (await life.row()).rentals

    await eventually(released)
    assert await nebula.owned() == []
    conditions = {c["type"]: c["status"] for c in (await life.status())["conditions"]}
    assert conditions["Released"] == "True"
    assert (await life.status())["cost_per_hr"] is None


async def test_an_exit_code_other_than_zero_ends_failed_with_the_code(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="3"))
    status = await life.until("failed")
    assert (status["exit_code"], status["reason"]) == (3, "Exited")


async def test_on_failure_restarts_in_the_same_instance_until_it_succeeds(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="1,0"), restart="OnFailure")
    status = await life.until("completed")
    assert (status["restarts"], status["recoveries"], status["attempt"]) == (1, 0, 1)
    assert (await life.reasons()).count("Rented") == 1


async def test_restarts_end_after_max_retries(nebula: Nebula) -> None:
    script = sim_labels(boot="0s", run_for="0s", exit_code="7")
    life = await nebula.create(labels=script, restart="OnFailure", max_retries=1)
    status = await life.until("failed")
    assert (status["restarts"], status["exit_code"]) == (1, 7)
    assert "1 restart did not help" in status["message"]


async def test_sold_out_offers_are_passed_over_and_the_attempts_say_so(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", fail="OutOfCapacity*2"), accelerators=["1:A100"])
    await life.until("running")
    attempts = (await life.history())["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["OutOfCapacity", "OutOfCapacity", "rented"]
    assert len({attempt["place"] for attempt in attempts}) == 3
    assert len((await life.row()).rentals) == 1


async def test_without_capacity_it_is_pending_and_says_when_it_tries_again(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(fail="OutOfCapacity*99"))
    pending = await life.until("pending")
    assert pending["reason"] == "NoCapacity"
    assert pending["next_try_at"]
    assert (pending["cost_per_hr"], pending["platform"], pending["instance_type"]) == (None, "", "")


async def test_without_capacity_it_fails_when_the_time_to_find_a_machine_is_over(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(fail="OutOfCapacity*99"), provision_timeout="1s")
    failed = await life.until("failed")
    assert failed["reason"] == "NoCapacity"
    assert "no machine within 1s" in failed["message"]
    assert await nebula.owned() == []


async def test_what_costs_more_than_it_may_is_not_rented_and_the_limit_is_named(nebula: Nebula) -> None:
    life = await nebula.create(accelerators=["1:A100"], max_usd_per_hour=0.01)
    status = await life.until("pending")
    assert status["reason"] == "NoCapacity"
    assert "for at most $0.01 an hour" in status["message"]
    assert (await life.row()).rentals == {}


async def test_a_spec_that_the_platform_refuses_is_invalid_and_leaves_nothing(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(run_for="soon"))
    status = await life.until("invalid")
    assert "run_for" in status["message"]
    assert (await life.row()).rentals == {}


async def test_a_preempted_instance_is_replaced_and_counts_as_a_recovery(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", preempt_after="0.3s"))
    await life.until("running")

    async def recovered() -> bool:
        status = await life.status()
        return status["recoveries"] == 1 and status["status"] == "running"

    await eventually(recovered)
    status = await life.status()
    assert (status["attempt"], status["restarts"]) == (2, 0)
    assert "Preempted" in await life.reasons()
    assert len(await nebula.owned()) == 1


async def test_a_vanished_instance_is_proven_gone_and_replaced(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    (instance,) = await nebula.owned()
    await nebula.platform.delete(instance.key)

    async def recovered() -> bool:
        return (await life.status())["recoveries"] == 1 and (await life.status())["status"] == "running"

    await eventually(recovered)


async def test_one_that_is_stopped_between_two_machines_is_not_said_to_have_never_run(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", fail="OK,OutOfCapacity*99"))
    await life.until("running")
    (instance,) = await nebula.owned()
    await life.signal("observe", key=instance.key, instance_id=instance.id, state="preempted")
    assert (await life.until("pending"))["recoveries"] == 1
    await life.signal("stop")
    assert (await life.until("stopped"))["message"] == "while another machine was looked for"


async def test_one_that_is_stopped_before_its_first_machine_says_so(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(fail="OutOfCapacity*99"))
    await life.until("pending")
    await life.signal("stop")
    assert (await life.until("stopped"))["message"] == "before it ran"


async def test_a_command_that_runs_too_long_is_stopped_with_reason_timed_out(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"), timeout="500ms", stop_grace="1s")
    status = await life.until("failed")
    assert status["reason"] == "TimedOut"


async def test_stop_keeps_the_row_and_start_runs_it_as_the_next_attempt(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("stop", id=(await life.row()).metadata.id)
    stopped = await life.until("stopped")
    assert stopped["reason"] == "StoppedByUser"
    await life.signal("start")
    again = await life.until("running")
    assert again["attempt"] == 2


async def test_restart_starts_the_command_again_in_the_same_instance(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    (before,) = await nebula.owned()
    await life.signal("restart")

    async def restarted() -> bool:
        return (await life.status())["restarts"] == 1 and (await life.status())["status"] == "running"

    await eventually(restarted)
    (after,) = await nebula.owned()
    assert after.id == before.id
    assert after.run != before.run


async def test_a_restart_whose_stop_was_never_answered_is_a_restart_all_the_same(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the campaign, seed 44223: the exit that our own stop had caused was taken for the command's end."""
    lost = {"activity": "stop", "when": "after", "fault": "Unavailable", "times": 3}  # as often as it is tried
    monkeypatch.setenv(VARIABLE, json.dumps({"seed": 1, "rules": [lost]}))
    async with running(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s"))
        await life.until("running")
        await life.signal("restart")

        async def told() -> bool:
            return "Unavailable" in await life.reasons() and (await life.status())["status"] != "restarting"

        await eventually(told)

        async def restarted() -> bool:
            return (await life.status())["restarts"] == 1

        await eventually(restarted)
        assert (await life.until("running", "failed", "stopped"))["status"] == "running"
        assert (await life.reasons()).count("Started") == 2


async def test_restart_does_not_wait_for_the_back_off(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="1,1,1,0"), restart="OnFailure")

    async def waits_long() -> bool:
        status = await life.status()
        return (status["status"], status["restarts"]) == ("restarting", 2)

    await eventually(waits_long)
    await life.signal("restart")
    await life.until("completed", limit_s=3)


async def test_an_invalid_one_cannot_be_started_and_can_be_deleted(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(run_for="soon"))
    await life.until("invalid")
    await life.signal("start")
    await life.signal("restart")
    await life.signal("delete")
    await life.gone()


async def test_a_platform_that_nobody_serves_is_pending_and_says_what_to_start(
    nebula: Nebula, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "NO_WORKER_AFTER", timedelta(milliseconds=300))
    report = PlatformReport(platform="sim", account="sim:deserted", queue="platform-sim:deserted", simulated=True)
    address = ids.Address("platform", "", "", report.account)
    await nebula.client.start_workflow(
        "Platform",
        report.model_dump(mode="json"),
        id=ids.platform_workflow(report.account),
        task_queue=ids.TASK_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=temporal.search_attributes(address, "", "ready", None, platform=report.account),
    )

    async def known() -> bool:
        query = temporal.open_query("platform", None, f'NebuPlatform = "{report.account}"')
        return any([await temporal.row(each) async for each in nebula.client.list_workflows(query)])  # its memo, too

    await eventually(known)
    life = await nebula.create(platform=report.account)
    status = await life.until("pending")
    assert status["reason"] == "NoWorker"
    assert "nebu worker" in status["message"]


async def test_delete_ends_in_proof_of_absence_and_frees_the_name(nebula: Nebula) -> None:
    life = await nebula.create("deleted", labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("delete")
    await life.gone()
    assert await nebula.owned() == []
    again = await nebula.create("deleted", labels=sim_labels(boot="0s", run_for="0s"))
    await again.until("completed")


async def test_a_signal_for_another_life_is_ignored(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("delete", id="somebody-else")
    await life.signal("stop", id="somebody-else")
    assert await life.open()
    assert (await life.status())["status"] == "running"


async def test_a_cancel_from_the_temporal_ui_means_delete(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.handle.cancel()
    await life.gone()
    assert (await life.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
    assert await nebula.owned() == []


async def test_a_delete_while_the_rental_is_under_way_leaves_nothing(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="30s"))
    await life.signal("delete")
    await life.gone()
    assert await nebula.owned() == []


async def test_an_unanswered_rental_is_found_again_and_never_rented_twice(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", unanswered="1"))
    await life.until("running")
    assert len(await nebula.owned()) == 1


async def test_a_finished_container_goes_when_its_ttl_ends(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"), ttl_after_finished="1s")
    await life.until("completed")
    await life.gone()


@pytest.mark.parametrize(
    "argument", [{"spec": {"imagge": "x"}}, {"spec": 7}, {}, {"spec": {"image": "x"}, "status": 3}]
)
async def test_an_argument_that_makes_no_sense_becomes_an_invalid_container(nebula: Nebula, argument: dict) -> None:
    handle = await nebula.client.start_workflow(
        "Container", argument, id=f"container/local/default/{ids.two_words()}", task_queue=ids.TASK_QUEUE
    )
    life = Resource(nebula.client, handle)

    status = await life.until("invalid")
    assert status["reason"] == "InvalidSpec"
    await life.signal("delete")
    await life.gone()


async def test_a_workflow_id_that_is_no_address_becomes_invalid(nebula: Nebula) -> None:
    handle = await nebula.client.start_workflow(
        "Container", {"spec": {"image": "x"}}, id=ids.two_words(), task_queue=ids.TASK_QUEUE
    )
    life = Resource(nebula.client, handle)

    assert "container/ORGANIZATION/NAMESPACE/NAME" in (await life.until("invalid"))["message"]


async def test_what_belongs_to_a_resource_is_deleted_with_it(nebula: Nebula) -> None:
    owner = await nebula.create(labels=sim_labels(boot="0s"))
    await owner.until("running")
    handle = await nebula.client.start_workflow(
        "Container",
        {
            "spec": {"image": "x", "platform": nebula.platform.account},
            "metadata": {"owner_ref": owner.id.replace("local", "Local"), "labels": sim_labels(boot="0s")},
            "install": nebula.parts.install,
        },
        id=f"{owner.id}-child",
        task_queue="nebulous",
    )
    child = Resource(nebula.client, handle)
    await child.until("running")
    await owner.signal("delete")
    await owner.gone()
    await child.gone()
    assert await nebula.owned() == []
