"""What every kind shares: lives under one name, continue-as-new, messages in any order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from nebulous import ids, temporal
from nebulous.models.resources import Row
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine

SPEC = {"image": "busybox", "command": "true"}


async def second_post(life: Resource, spec: dict[str, Any], new_id: str) -> dict[str, str]:
    return await life.client.get_workflow_handle(life.id).execute_update(
        "create", {"spec": spec, "metadata": {**(await life.row()).metadata.model_dump(), "id": new_id}}
    )


async def test_the_same_spec_again_is_the_same_life_and_another_spec_conflicts(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    row = await life.row()
    assert (await second_post(life, row.spec, "other"))["outcome"] == "same"
    answer = await second_post(life, {**row.spec, "image": "else"}, "other")
    assert answer["outcome"] == "conflict"
    assert "another spec" in answer["message"]


async def test_a_finished_one_is_followed_by_a_new_life_under_its_name(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    first = (await life.row()).metadata.id

    async def released() -> bool:
        return not (await life.row()).rentals

    await eventually(released)
    assert (await second_post(life, (await life.row()).spec, "second"))["outcome"] == "new"

    async def reborn() -> bool:
        return (await life.row()).metadata.id == "second"

    await eventually(reborn)
    await life.until("completed")
    assert (await second_post(life, {"image": "never seen"}, first))["outcome"] == "past"


async def test_a_post_while_deleting_begins_after_the_proof_and_a_second_delete_drops_it(nebula: Nebula) -> None:
    slow = sim_labels(boot="0s", delete_takes="1s")
    life = await nebula.create(labels=slow)
    await life.until("running")
    await life.signal("delete")
    assert (await second_post(life, (await life.row()).spec, "second"))["outcome"] == "next"
    await life.signal("delete", id="second")
    await life.gone()
    assert await nebula.owned() == []


async def test_the_delete_that_people_repeat_drops_the_life_that_was_to_follow(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", delete_takes="1s"))
    await life.until("running")
    current = (await life.row()).metadata.id
    await life.signal("delete", id=current)
    assert (await second_post(life, (await life.row()).spec, "second"))["outcome"] == "next"
    await life.signal("delete", id=current)
    await life.gone()
    assert await nebula.owned() == []


async def test_the_workflow_id_decides_whose_it_is_and_the_metadata_only_spells_it(nebula: Nebula) -> None:
    name = ids.two_words()
    handle = await nebula.client.start_workflow(
        "Container",
        {"spec": {"image": "x"}, "metadata": {"name": name.upper(), "owner": "somebody-else", "namespace": "Default"}},
        id=f"container/local/default/{name}",
        task_queue=ids.TASK_QUEUE,
    )
    metadata = (await Resource(nebula.client, handle).row()).metadata
    assert (metadata.name, metadata.owner, metadata.namespace) == (name.upper(), "local", "Default")


async def test_a_state_that_cannot_be_read_any_more_keeps_what_is_rented(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    (instance,) = await nebula.owned()
    address = ids.Address("container", "local", "default", ids.two_words())
    key, offer = instance.key, {"platform": "sim", "account": nebula.platform.account}
    rental = {"key": key, "offer": offer, "attempt": 1, "since": "2026-01-01T00:00:00Z", "answered": True}
    state = {"phase": "running", "spec": {"image": "x"}, "rentals": {key: rental}, "retries": "a word", "status": 7}
    handle = await nebula.client.start_workflow("Container", state, id=str(address), task_queue=ids.TASK_QUEUE)
    broken = Resource(nebula.client, handle)
    await broken.until("invalid")

    async def given_back() -> bool:
        return not (await broken.row()).rentals and key not in [each.key for each in await nebula.owned()]

    await eventually(given_back)


async def rows(nebula: Nebula, life: Resource) -> tuple[Row, Row | None]:
    """The same resource by describe and by list."""
    listed = None
    async for execution in nebula.client.list_workflows(temporal.open_query("container", "local")):
        if execution.id == life.id:
            listed = await temporal.row(execution)
    return await life.row(), listed


@pytest.fixture
async def short_histories(short_history_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    async with run_nebula(short_history_engine.temporal_address, tmp_path) as running:
        yield running


async def test_continue_as_new_changes_nothing_that_readers_see(short_histories: Nebula) -> None:
    nebula = short_histories
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    before = await life.row()
    first_run = (await life.client.get_workflow_handle(life.id).describe()).run_id

    async def continued() -> bool:
        await life.signal("observe", key="another", instance_id="x", state="running")
        return (await life.client.get_workflow_handle(life.id).describe()).run_id != first_run

    await eventually(continued)

    async def listed_again() -> bool:
        described, listed = await rows(nebula, life)
        return listed == described == before

    await eventually(listed_again)
    await life.signal("stop")
    assert (await life.until("stopped"))["exit_code"] == 143
    assert "Rented" in await life.reasons()


async def test_a_secret_survives_continue_as_new(short_histories: Nebula) -> None:
    nebula = short_histories
    handle = await nebula.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "sealed-value", "digest": "d"}},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    secret = Resource(nebula.client, handle)
    await eventually(lambda: handle.query("sealed"))
    before = await secret.row()
    first_run = (await handle.describe()).run_id

    async def continued() -> bool:
        await secret.signal("delete", id="not-this-life")
        return (await nebula.client.get_workflow_handle(handle.id).describe()).run_id != first_run

    await eventually(continued)
    assert await secret.row() == before
    assert await nebula.client.get_workflow_handle(handle.id).query("sealed") == "sealed-value"
    await secret.signal("delete")
    await secret.gone()


async def test_a_long_search_goes_on_through_continue_as_new(short_histories: Nebula) -> None:
    nebula = short_histories
    script = sim_labels(boot="0s", run_for="0s", fail="OutOfCapacity*20")
    life = await nebula.create(labels=script, accelerators=["1:A100", "1:H100", "1:L4", "1:L40S"])
    assert (await life.until("completed"))["attempt"] == 1
    attempts = (await life.history())["attempts"]
    assert [line["outcome"] for line in attempts] == ["OutOfCapacity"] * 20 + ["rented"]
    assert [line["number"] for line in attempts] == list(range(1, 22))
    first = (await nebula.client.get_workflow_handle(life.id).describe()).raw_description.workflow_execution_info
    assert first.first_run_id != first.execution.run_id

    async def given_back() -> bool:
        return await nebula.owned() == []

    await eventually(given_back)


async def test_a_platform_survives_continue_as_new(short_histories: Nebula) -> None:
    nebula = short_histories
    handle = nebula.client.get_workflow_handle(ids.platform_workflow(nebula.platform.account))
    first_run = (await handle.describe()).run_id
    count = 0

    async def continued() -> bool:
        nonlocal count
        count += 1
        await handle.signal("report", {"detail": f"report {count}"})
        return (await handle.describe()).run_id != first_run

    await eventually(continued)

    async def shown() -> bool:
        memo = await (await handle.describe()).memo()
        return memo["status"]["detail"] == f"report {count}" and memo["status"]["account"] == nebula.platform.account

    await eventually(shown)
