"""Resources whose life goes over several runs: continued as new, or followed by another life."""

from __future__ import annotations

from typing import Any

from nebulous import ids
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.recordings.case import Case, again, another_run, delete, fault, named, released

AT_ONCE = {"boot": "0s"}


async def _nudged(life: Resource) -> None:
    await another_run(life, lambda: life.signal("observe", key="another", instance_id="x", state="running"))


async def continued_while_running(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(**AT_ONCE))
    await life.until("running")
    await _nudged(life)
    await life.signal("restart")

    async def restarted() -> bool:
        return (await life.status())["restarts"] == 1

    await eventually(restarted)
    return await delete(life)


async def continued_while_booting(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="3s"))
    await life.until("created")
    await _nudged(life)
    await life.until("running")
    return await delete(life)


async def continued_while_keeping(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", exit_code="3")
    life = await run.create(labels=script, keep_on_failure="1h")
    await life.until("failed")
    await _nudged(life)
    return await delete(life)


async def continued_once_finished(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    await released(life)
    await _nudged(life)
    await life.signal("start")

    async def twice() -> bool:
        status = await life.status()
        return (status["status"], status["attempt"]) == ("completed", 2)

    await eventually(twice)
    return await delete(life)


async def continued_while_searching(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", fail="OutOfCapacity*9")
    life = await run.create(labels=script, accelerators=["1:A100", "1:H100"])
    await life.until("completed", limit_s=60)
    await released(life)
    return await delete(life)


async def continued_while_restarting(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", exit_code="1,1,1,0")
    life = await run.create(labels=script, restart="OnFailure")
    await eventually(lambda: _waits(life))
    await _nudged(life)
    await life.until("completed")
    return await delete(life)


async def _waits(life: Resource) -> bool:
    status = await life.status()
    return (status["status"], status["restarts"]) == ("restarting", 2)


async def created_again_once_finished(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")
    await released(life)
    assert (await again(life, "second"))["outcome"] == "new"
    await _reborn(life, "second")
    return await delete(life)


async def created_again_while_deleting(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", delete_takes="1s"))
    await life.until("running")
    await life.signal("delete")
    assert (await again(life, "second"))["outcome"] == "next"
    await _reborn(life, "second")
    await life.until("running")
    assert (await again(life, "third"))["outcome"] == "same"
    return await delete(life)


async def created_again_and_deleted_before_it_began(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", delete_takes="1s"))
    await life.until("running")
    await life.signal("delete")
    assert (await again(life, "second"))["outcome"] == "next"
    return await delete(life)


async def stopped_before_it_began(run: Nebula) -> str:
    """The next life begins stopped, and is started by who knew only that it was to come."""
    life = await run.create(labels=sim_labels(boot="0s", delete_takes="1s"))
    await life.until("running")
    await life.signal("delete")
    assert (await again(life, "second"))["outcome"] == "next"
    for verb in ("stop", "start", "stop"):
        await life.signal(verb)
    seen = (await life.row()).metadata
    await _reborn(life, "second")
    await life.until("stopped")
    await life.signal("start", id=seen.id, version=seen.resource_version)
    await life.until("running")
    await life.signal("stop", id=seen.id, version=seen.resource_version)
    await life.until("stopped")
    return await delete(life)


async def _reborn(life: Resource, new_id: str) -> None:
    async def so() -> bool:
        return (await life.row()).metadata.id == new_id

    await eventually(so)


async def deleted_with_what_it_owns(run: Nebula) -> str:
    owner = await run.create(labels=sim_labels(**AT_ONCE))
    spec = {"image": "x", "platform": run.platform.account}
    metadata = {"owner_ref": owner.id, "labels": sim_labels(**AT_ONCE)}
    handle = await run.client.start_workflow(
        "Container",
        {"spec": spec, "metadata": metadata, "install": run.parts.install},
        id=f"{owner.id}-child",
        task_queue=ids.TASK_QUEUE,
    )
    await Resource(run.client, handle).until("running")
    return await delete(owner)


async def secret_continued(run: Nebula) -> str:
    handle = await run.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "s", "digest": "d"}, "install": run.parts.install},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    life = Resource(run.client, handle)
    await another_run(life, lambda: life.signal("delete", id="not-this-life"))
    request = {"spec": {"sealed": "t", "digest": "e"}, "metadata": {"id": "second"}}
    made = await run.client.get_workflow_handle(life.id).execute_update("create", request)
    assert made["outcome"] == "conflict", made
    return await delete(life)


async def secret_changed(run: Nebula) -> str:
    handle = await run.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "s", "digest": "d"}, "install": run.parts.install},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    life = Resource(run.client, handle)
    await handle.execute_update("apply", {"spec": {"sealed": "t", "digest": "e"}})
    return await delete(life)


async def platform_goes_on(run: Nebula) -> str:
    life = _of(run, ids.platform_workflow(run.platform.account))
    reports = iter(range(100))
    await another_run(life, lambda: _report(life, next(reports)))
    await _report(life, 100)
    return life.id


async def _report(life: Resource, number: int) -> None:
    await life.client.get_workflow_handle(life.id).signal("report", {"detail": f"report {number}"})


async def sweep_continued(run: Nebula) -> str:
    life = _of(run, ids.sweep_workflow(run.platform.account))

    async def continued() -> bool:
        described: Any = (await life.client.get_workflow_handle(life.id).describe()).raw_description
        info = described.workflow_execution_info
        return info.execution.run_id != info.first_run_id

    await eventually(continued, 90)
    return life.id


def _of(run: Nebula, workflow_id: str) -> Resource:
    return Resource(run.client, run.client.get_workflow_handle(workflow_id))


CONTAINER = [
    *named(
        continued_while_running,
        continued_while_booting,
        continued_while_keeping,
        continued_once_finished,
        continued_while_searching,
        continued_while_restarting,
        short=True,
    ),
    *named(
        created_again_once_finished,
        created_again_while_deleting,
        created_again_and_deleted_before_it_began,
        stopped_before_it_began,
        deleted_with_what_it_owns,
    ),
]
SECRET = [*named(secret_continued, short=True), *named(secret_changed)]
PLATFORM = named(platform_goes_on, short=True)
SWEEP = [Case("sweep_continued", sweep_continued, (fault("sweep", "AuthFailed", times=9),), short=True)]
