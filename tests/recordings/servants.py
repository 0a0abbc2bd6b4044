"""What has no end: grown long, and cancelled by hand; and secrets that others follow."""

from __future__ import annotations

from nebulous import ids
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.recordings.case import Play, again, another_run, delete, named


def _of(run: Nebula, workflow_id: str) -> Resource:
    return Resource(run.client, run.client.get_workflow_handle(workflow_id))


async def _hears(life: Resource) -> None:
    """Send something that nobody waits for, and wait until its task is done."""
    handle = life.client.get_workflow_handle(life.id)
    await handle.signal("report")

    async def idle() -> bool:
        return not (await handle.describe()).raw_description.HasField("pending_workflow_task")

    await eventually(idle)


async def install_continued(run: Nebula) -> str:
    life = _of(run, ids.INSTALL_WORKFLOW)
    await another_run(life, lambda: _hears(life))
    await _hears(life)
    description = await life.client.get_workflow_handle(life.id).describe()
    assert (await description.memo())["install"] == run.parts.install
    return life.id


def _cancelled(name: str, workflow_id: str = "") -> Play:
    async def play(run: Nebula) -> str:
        life = _of(run, workflow_id or f"{name}/{run.platform.account}")
        await life.client.get_workflow_handle(life.id).cancel()
        await _hears(life)
        return life.id

    play.__name__ = f"{name}_cancelled"
    return play


async def _secret(run: Nebula) -> Resource:
    handle = await run.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "s", "digest": "d"}, "install": run.parts.install},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    await eventually(lambda: handle.query("sealed"))
    return Resource(run.client, handle)


async def secret_cancelled(run: Nebula) -> str:
    life = await _secret(run)
    await life.client.get_workflow_handle(life.id).cancel()
    await life.gone()
    return life.id


async def secret_followed(run: Nebula) -> str:
    """Created again while what belongs to it goes."""
    life = await _secret(run)
    spec = {"image": "busybox", "platform": run.platform.account}
    metadata = {"labels": sim_labels(boot="0s", delete_takes="1s"), "owner_ref": life.id}
    handle = await run.client.start_workflow(
        "Container",
        {"spec": spec, "metadata": metadata, "install": run.parts.install},
        id=f"container/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    await Resource(run.client, handle).until("running")
    await life.signal("delete")

    async def going() -> bool:
        return (await life.row()).metadata.deleted_at is not None

    await eventually(going)
    assert (await again(life, "second", sealed="t", digest="e"))["outcome"] == "next"

    async def followed() -> bool:
        return (await life.row()).metadata.id == "second"

    await eventually(followed)
    return await delete(life)


INSTALL = [*named(install_continued, short=True), *named(_cancelled("install", ids.INSTALL_WORKFLOW))]
PLATFORM = named(_cancelled("platform"))
SWEEP = named(_cancelled("sweep"))
SECRET = named(secret_cancelled, secret_followed)
