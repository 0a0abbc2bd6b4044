"""Whatever people and programs send to a workflow by hand, it never gets stuck: machines would run on for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from nebulous import ids
from tests.nebula import Nebula, Resource, eventually, sim_labels

LONG_RUN = sim_labels(boot="0s")
#: The Temporal UI sends no argument at all when its field is left empty.
ODD: list[list[Any]] = [[], [None], ["x"], [[1]], [7], [{}, {}], [{"version": {}}]]


async def send(life: Resource, signal: str, args: list[Any]) -> None:
    await life.client.get_workflow_handle(life.id).signal(signal, args=args)


async def test_stop_start_and_restart_work_with_any_argument_and_with_none(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    for count, args in enumerate(ODD, 1):
        await life.until("running")
        await send(life, "restart", args)

        async def restarted(count: int = count) -> bool:
            return (await life.status())["restarts"] == count

        await eventually(restarted)
        await send(life, "stop", args)
        await life.until("stopped")
        await send(life, "start", args)
    await life.until("running")


async def test_a_delete_works_with_any_argument_and_with_none(nebula: Nebula) -> None:
    lives = [await nebula.create(labels=LONG_RUN) for _ in ODD]
    for life, args in zip(lives, ODD, strict=True):
        await send(life, "delete", args)
    await asyncio.gather(*(life.gone() for life in lives))
    assert await nebula.owned() == []


async def test_what_makes_no_sense_is_dropped(nebula: Nebula) -> None:
    life = await nebula.create(labels=LONG_RUN)
    await life.until("running")
    platform = nebula.client.get_workflow_handle(ids.platform_workflow(nebula.platform.account))
    for args in [*ODD, [{"platform": None}], [{"features": 7}]]:
        await send(life, "observe", args)
        await platform.signal("report", args=args)
    await platform.signal("report", {"detail": "still there"})

    async def shown() -> bool:
        status = (await (await nebula.client.get_workflow_handle(platform.id).describe()).memo())["status"]
        return status["detail"] == "still there" and status["platform"] == "sim"

    await eventually(shown)
    assert (await life.reasons())[-1] == "Started"


NONSENSE: list[list[Any]] = [
    *([], [None], ["x"], [{}, {}], [{"spec": 7}], [{"spec": {"imagge": "x"}}]),
    [{"spec": {"image": 7, "restart": "Sometimes"}}],
]


@pytest.mark.parametrize("update", ["create", "apply"])
async def test_an_update_that_makes_no_sense_is_refused_and_replaces_nothing(nebula: Nebula, update: str) -> None:
    running = await nebula.create(labels=LONG_RUN)
    ended = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
    await running.until("running")
    await ended.until("completed")
    for life in (running, ended):
        before, handle = (await life.row()).metadata.id, nebula.client.get_workflow_handle(life.id)
        for args in NONSENSE:
            with pytest.raises(WorkflowUpdateFailedError) as failure:
                await handle.execute_update(update, args=args)
            assert isinstance(failure.value.cause, ApplicationError)
        assert (await life.row()).metadata.id == before
    assert "'imagge'" not in str(await ended.row())


async def test_a_second_create_without_an_id_gets_one(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    spec = {**(await life.row()).spec, "image": "second"}
    handle = life.client.get_workflow_handle(life.id)
    answer = await handle.execute_update("create", {"spec": spec, "metadata": {"labels": LONG_RUN}})
    assert answer["outcome"] in ("new", "next")

    async def begun() -> bool:
        return (await life.row()).metadata.id == answer["id"] != ""

    await eventually(begun)


@pytest.mark.parametrize(
    "metadata",
    [{"resource_version": "x", "spec_version": "-5"}, {"resource_version": "9" * 5000}, {"id": ""}, {"id": None}],
    ids=["no numbers", "endless", "no id", "null"],
)
async def test_metadata_that_cannot_be_counted_on_are_made_anew(nebula: Nebula, metadata: dict[str, Any]) -> None:
    spec = {"image": "busybox", "platform": nebula.platform.account, "metadata": {"labels": LONG_RUN}}
    handle = await nebula.client.start_workflow(
        "Container",
        {"spec": spec, "metadata": metadata, "install": nebula.parts.install},
        id=f"container/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    life = Resource(nebula.client, handle)
    await life.until("running")
    made = (await life.row()).metadata
    assert made.id
    assert int(made.resource_version) > 0
    assert not made.outdates(made.resource_version)
