"""Applying another spec to what lives: in place, by a new life, or refused; in every phase, and at most once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from nebulous import ids
from nebulous.models.containers import ContainerSpec
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine

LONG_RUN = sim_labels(boot="0s")


async def wish(life: Resource, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """The argument of an `apply` that changes only what is given."""
    row = await life.row()
    labels = row.metadata.labels if labels is None else labels
    return {"spec": {**row.spec, **spec}, "metadata": {"labels": labels}}


async def send(life: Resource, request: dict[str, Any], **more: Any) -> dict[str, Any]:
    handle = life.client.get_workflow_handle(life.id)
    return await handle.execute_update("apply", {**request, **more})


async def apply(life: Resource, **spec: Any) -> dict[str, Any]:
    return await send(life, await wish(life, **spec))


async def refused(life: Resource, request: dict[str, Any], **more: Any) -> ApplicationError:
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await send(life, request, **more)
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


async def events(life: Resource) -> int:
    return (await life.client.get_workflow_handle(life.id).describe()).history_length


async def test_the_same_again_changes_nothing(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    before = await life.row()
    assert (await apply(life))["outcome"] == "same"
    written = ContainerSpec.model_validate({k: v for k, v in before.spec.items() if k != "metadata"})
    spelled = {"spec": written.model_dump(mode="json"), "metadata": {"labels": before.metadata.labels}}
    assert (await send(life, spelled))["outcome"] == "same"
    assert await life.row() == before


async def test_a_change_in_place_shows_at_once_as_an_event_and_as_a_new_version(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    before = await life.row()
    answer = await send(life, await wish(life, labels={**LONG_RUN, "team": "x"}, max_retries=5))
    assert answer["outcome"] == "changed"
    assert [change["field"] for change in answer["changes"]] == ["metadata.labels.team", "max_retries"]
    after = await life.row()
    assert (after.spec["max_retries"], after.metadata.labels["team"]) == (5, "x")
    assert after.metadata.id == before.metadata.id
    assert int(after.metadata.resource_version) > int(before.metadata.resource_version)
    (event,) = [each for each in (await life.history())["events"] if each["reason"] == "Changed"]
    assert "max_retries: none → 5" in event["message"]

    async def found_by_label() -> bool:
        query = f'NebuLabels = "team=x" AND NebuName = "{life.id.rpartition("/")[2]}"'
        return (await nebula.client.count_workflows(query)).count == 1

    await eventually(found_by_label)


async def test_what_cannot_change_in_place_is_refused_and_leaves_no_trace_in_history(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    before, length = await life.row(), await events(life)
    error = await refused(life, await wish(life, image="else", command="sleep 1", timeout="5m"))
    assert error.type == "Conflict"
    assert error.message == "image, command cannot change in place"
    assert {each["field"]: each["in_place"] for each in error.details[0]} == {
        "image": False,
        "command": False,
        "timeout": True,
    }
    assert (await refused(life, {"spec": {"imagge": "x"}})).type == "Rejected"
    assert (await refused(life, {"spec": 7})).type == "Rejected"
    assert (await refused(life, await wish(life, timeout="9m"), by=time.time() - 1)).type == "Unavailable"
    assert await life.row() == before
    assert await events(life) == length


async def test_replace_begins_a_new_life_after_the_proof(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", delete_takes="500ms"))
    await life.until("running")
    first = await life.row()
    request = {**await wish(life, image="else", labels=LONG_RUN), "replace": True}
    request["metadata"]["id"] = "second"
    answer = await send(life, request)
    assert (answer["outcome"], answer["id"]) == ("next", "second")
    assert (await send(life, request))["outcome"] == "next"  # repeated, as a client does after a cut
    assert len(await nebula.owned()) == 1

    async def reborn() -> bool:
        row = await life.row()
        assert row.metadata.id == "second" or len(await nebula.owned()) <= 1
        return row.metadata.id == "second" and row.status["status"] == "running"

    await eventually(reborn)
    row = await life.row()
    assert row.spec["image"] == "else"
    assert int(row.metadata.resource_version) > int(first.metadata.resource_version)
    assert (await refused(life, await wish(life, timeout="1h"), resource_version=first.metadata.tag)).type == "Stale"
    assert [each.key for each in await nebula.owned()] == list(row.rentals)


async def test_a_stale_version_is_refused_and_says_what_it_is_now(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    seen = (await life.row()).metadata.resource_version
    assert (await send(life, await wish(life, timeout="1h"), resource_version=seen))["outcome"] == "changed"
    now = (await life.row()).metadata.resource_version
    for version in (seen, "999", "", "x", f"another-life.{now}"):
        error = await refused(life, await wish(life, timeout="2h"), resource_version=version)
        assert error.type == "Stale"
        assert f"resource_version is {now!r}" in error.message
    assert (await send(life, await wish(life, timeout="2h"), resource_version=now))["outcome"] == "changed"


async def test_a_status_that_moved_on_makes_no_version_stale(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="300ms"))
    seen = (await life.row()).metadata.resource_version
    await life.until("running")
    assert (await life.row()).metadata.resource_version != seen
    assert (await send(life, await wish(life, timeout="1h"), resource_version=seen))["outcome"] == "changed"


async def test_of_two_applies_with_one_version_one_wins(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    version = (await life.row()).metadata.resource_version
    requests = [await wish(life, timeout=f"{hours}h") for hours in (1, 2)]
    answers = await asyncio.gather(
        *(send(life, request, resource_version=version) for request in requests), return_exceptions=True
    )
    won = [answer for answer in answers if isinstance(answer, dict)]
    assert [answer["outcome"] for answer in won] == ["changed"]
    (lost,) = [answer for answer in answers if isinstance(answer, WorkflowUpdateFailedError)]
    assert "it changed meanwhile" in str(lost.cause)


async def test_a_repeated_request_changes_once(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    version = (await life.row()).metadata.resource_version
    request = await wish(life, timeout="1h")
    request["metadata"]["id"] = "once"
    assert (await send(life, request, resource_version=version))["outcome"] == "changed"
    assert (await apply(life, timeout="2h"))["outcome"] == "changed"
    assert (await send(life, request, resource_version=version))["outcome"] == "changed"
    assert (await life.row()).spec["timeout"] == "2h"


async def test_while_deleting_an_apply_is_the_next_life_as_a_create_is(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", delete_takes="500ms"))
    await life.until("running")
    seen = (await life.row()).metadata.resource_version
    request = await wish(life, image="else", labels=sim_labels(boot="0s", run_for="0s"))
    await life.signal("delete")
    await eventually(lambda: deleting(life))
    assert "it changed meanwhile" in (await refused(life, request, resource_version=seen)).message
    answer = await send(life, request)
    assert answer["outcome"] == "next"
    assert (await send(life, request))["id"] == answer["id"]
    other = {**request, "spec": {**request["spec"], "image": "third"}}
    assert "another life is about to begin" in (await refused(life, other)).message
    assert (await send(life, other, replace=True))["outcome"] == "next"
    assert (await life.until("completed"))["exit_code"] == 0
    assert (await life.row()).spec["image"] == "third"


async def deleting(life: Resource) -> bool:
    return (await life.row()).metadata.deleted_at is not None


async def test_a_delete_drops_the_life_that_was_to_replace(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", delete_takes="300ms"))
    await life.until("running")
    answer = await send(life, await wish(life, image="else"), replace=True)
    await life.signal("delete", id=answer["id"])
    await life.gone()
    assert await nebula.owned() == []


# --- every phase ----------------------------------------------------------------------------------------


async def test_a_pending_one_asks_again_at_once_and_with_what_it_may_pay_now(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN, accelerators=["1:A100"], max_usd_per_hour=0.01)
    await life.until("pending")
    assert (await apply(life, max_usd_per_hour=50.0))["outcome"] == "changed"
    await life.until("running", limit_s=4)  # the next try would have been 5 s after the first


async def test_a_pending_ones_time_to_find_a_machine_can_be_cut_short(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(fail="OutOfCapacity*999"), accelerators=["1:A100"])
    await life.until("pending")
    assert (await apply(life, provision_timeout="1s"))["outcome"] == "changed"
    assert "no machine within 1s" in (await life.until("failed"))["message"]


async def test_a_booting_one_gives_up_when_the_time_it_may_take_is_cut_short(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="600s"))
    await life.until("created")
    assert (await apply(life, provision_timeout="1s"))["outcome"] == "changed"
    await life.until("failed")

    async def given_back() -> bool:
        return await nebula.owned() == []

    await eventually(given_back)


async def test_a_running_ones_timeout_counts_from_first_running(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    assert (await apply(life, timeout="1h"))["outcome"] == "changed"
    assert (await apply(life, timeout=None))["outcome"] == "changed"
    assert (await life.status())["status"] == "running"
    assert (await apply(life, timeout="100ms"))["outcome"] == "changed"
    assert (await life.until("failed"))["reason"] == "TimedOut"


async def test_a_restarting_one_ends_when_it_may_not_restart_any_more(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="7"), restart="Always")

    async def waits_long() -> bool:
        status = await life.status()
        return (status["status"], status["restarts"]) == ("restarting", 2)

    await eventually(waits_long)
    assert (await apply(life, restart="Never"))["outcome"] == "changed"
    status = await life.until("failed", limit_s=3)  # the back-off would have been 4 s
    assert (status["exit_code"], status["reason"], status["restarts"]) == (7, "Exited", 2)


async def test_a_finished_ones_time_to_live_is_counted_anew(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    assert (await refused(life, await wish(life, image="else"))).message == "image cannot change in place"
    assert (await apply(life, ttl_after_finished="1s"))["outcome"] == "changed"
    await life.gone()


async def test_a_finished_one_is_replaced_at_once(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    answer = await send(life, await wish(life, command="other"), replace=True)

    async def reborn() -> bool:
        row = await life.row()
        return row.metadata.id == answer["id"] and row.status["status"] == "completed"

    await eventually(reborn)


async def test_an_invalid_one_takes_nothing_in_place_and_can_be_replaced(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(run_for="soon"))
    await life.until("invalid")
    good = await wish(life, labels=sim_labels(boot="0s", run_for="0s"))
    assert "metadata.labels cannot change in place" in (await refused(life, good)).message
    assert (await send(life, good, replace=True))["outcome"] == "next"
    await life.until("completed")


async def test_an_apply_against_a_finish_is_done_or_refused_and_the_outcome_stands(nebula: Nebula) -> None:
    lives = [await nebula.create(labels=sim_labels(boot="0s", run_for="200ms")) for _ in range(4)]

    async def change_until_over(life: Resource) -> list[str]:
        outcomes: list[str] = []
        for hours in range(1, 200):
            outcomes.append((await apply(life, timeout=f"{hours}h"))["outcome"])
            if (await life.status())["status"] == "completed":
                return outcomes
        raise AssertionError("it never finished")

    for outcomes in await asyncio.gather(*map(change_until_over, lives)):
        assert set(outcomes) == {"changed"}
    for life in lives:
        assert (await life.status())["exit_code"] == 0


async def test_an_apply_against_a_delete_changes_it_or_begins_the_next_life_or_finds_nothing(nebula: Nebula) -> None:
    for _ in range(5):
        life = await nebula.create(labels=LONG_RUN)
        await life.until("running")
        request = await wish(life, timeout="1h")
        request["metadata"]["id"] = "second"
        answer, _ = await asyncio.gather(send(life, request), life.signal("delete"), return_exceptions=True)
        if isinstance(answer, dict) and answer["outcome"] == "next":
            await eventually(lambda life=life: begun(life, "second"))
            await life.signal("delete")
        else:
            assert not isinstance(answer, dict) or answer["outcome"] == "changed"
        await life.gone()
    assert await nebula.owned() == []


async def begun(life: Resource, wanted: str) -> bool:
    return (await life.row()).metadata.id == wanted


@pytest.fixture
async def short_histories(short_history_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    async with run_nebula(short_history_engine.temporal_address, tmp_path) as running:
        yield running


async def test_applies_go_on_through_continue_as_new_and_a_repeated_one_is_still_known(short_histories: Nebula) -> None:
    life = await short_histories.create(labels=LONG_RUN)
    await life.until("running")
    first = (await life.client.get_workflow_handle(life.id).describe()).run_id
    request = await wish(life, timeout="1h")
    request["metadata"]["id"] = "once"
    assert (await send(life, request))["outcome"] == "changed"
    for hours in range(2, 40):
        assert (await apply(life, timeout=f"{hours}h"))["outcome"] == "changed"
        if (await life.client.get_workflow_handle(life.id).describe()).run_id != first:
            break
    else:
        raise AssertionError("it never continued as new")
    shown = (await life.row()).spec["timeout"]
    assert (await send(life, request))["outcome"] == "changed"
    assert (await life.row()).spec["timeout"] == shown
    assert (await apply(life, timeout="100ms"))["outcome"] == "changed"
    assert (await life.until("failed"))["reason"] == "TimedOut"


async def test_a_secret_takes_a_new_value_in_place_and_equal_values_are_told_by_their_digest(nebula: Nebula) -> None:
    handle = await nebula.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "first", "digest": "d"}},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    secret = Resource(nebula.client, handle)
    before = await secret.row()
    assert (await send(secret, {"spec": {"sealed": "sealed again", "digest": "d"}}))["outcome"] == "same"
    answer = await send(secret, {"spec": {"sealed": "second", "digest": "e"}, "metadata": {"labels": {"a": "b"}}})
    assert answer["outcome"] == "changed"
    assert {each["field"]: (each["from"], each["to"]) for each in answer["changes"]} == {
        "metadata.labels.a": (None, "b"),
        "value": ("***", "***"),
    }
    assert await handle.query("sealed") == "second"
    after = await secret.row()
    assert (after.spec["digest"], after.metadata.id) == ("e", before.metadata.id)
    assert "second" not in str(after)


async def test_a_delete_means_the_lives_that_its_sender_could_know_of(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    first = (await life.row()).metadata
    await send(life, await wish(life, image="second"), replace=True)
    going = (await life.row()).metadata
    assert going.id == first.id, "the first is on its way out"

    async def is_second() -> bool:
        return (await life.row()).spec["image"] == "second"

    late = {"id": first.id, "version": first.resource_version}
    await life.signal("delete", **late)  # sent before the second was asked for, or twice: it means the first alone
    await eventually(is_second)
    await life.signal("delete", **late)
    await life.until("running")
    assert "DeleteRequested" not in await life.reasons()
    await life.signal("delete", id=first.id, version=going.resource_version)  # it saw that another was to follow
    await life.gone()


async def test_a_delete_with_the_next_life_in_sight_takes_that_too(nebula: Nebula) -> None:
    life = await nebula.create(labels={**LONG_RUN, **sim_labels(delete_takes="500ms")})
    await life.until("running")
    await send(life, await wish(life, image="second"), replace=True)
    seen = (await life.row()).metadata
    await life.signal("delete", id=seen.id, version=seen.resource_version)
    await life.gone()
