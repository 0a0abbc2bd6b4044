"""The plain paths: each kind's life as most people see it."""

from __future__ import annotations

from typing import Any

from activities.platforms.base import Ask
from nebulous import ids
from nebulous.errors import AuthFailed, NebulousError, OutOfCapacity
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.recordings.case import delete, named


async def completed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"), ttl_after_finished="500ms")
    await life.gone()
    return life.id


async def restarted(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="1,0"), restart="OnFailure")
    await life.until("completed")
    await life.signal("delete")
    await life.gone()
    return life.id


async def failed_over(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", fail="OutOfCapacity,QuotaExceeded")
    life = await run.create(labels=script, accelerators=["1:A100"])
    await life.until("completed")
    return life.id


async def pending_then_failed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(fail="OutOfCapacity*99"), provision_timeout="1s")
    await life.until("failed")
    return life.id


async def recovered(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", preempt_after="0.2s"))

    async def back() -> bool:
        return (await life.status())["recoveries"] == 1 and (await life.status())["status"] == "running"

    await eventually(back)
    await life.signal("delete")
    await life.gone()
    return life.id


async def stopped_and_started(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("stop")
    await life.until("stopped")
    await life.signal("start")
    await life.until("running")
    await life.signal("restart")
    await eventually(lambda: _restarted(life))
    await life.handle.cancel()
    await life.gone()
    return life.id


async def _restarted(life: Resource) -> bool:
    return (await life.status())["restarts"] == 1


async def unanswered(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", unanswered="1"), timeout="300ms")
    await life.until("failed")
    return life.id


async def invalid(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(run_for="soon"))
    await life.until("invalid")
    return life.id


async def changed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="7"), restart="Always")
    await life.until("restarting")
    await _apply(life, max_retries=4, timeout="1h")
    await _apply(life, restart="Never")
    await life.until("failed")
    await _apply(life, ttl_after_finished="500ms")
    await life.gone()
    return life.id


async def replaced(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    first = (await life.client.get_workflow_handle(life.id).describe()).run_id
    await _apply(life, replace=True, image="else")
    handle = life.client.get_workflow_handle(life.id, run_id=first)
    await eventually(lambda: _closed(handle))
    await life.signal("delete")
    await life.gone()
    return f"{life.id}@{first}"


async def _closed(handle: Any) -> bool:
    return (await handle.describe()).close_time is not None


async def _apply(life: Resource, *, replace: bool = False, **spec: Any) -> None:
    row = await life.row()
    request = {"spec": {**row.spec, **spec}, "metadata": {"labels": row.metadata.labels}, "replace": replace}
    await life.client.get_workflow_handle(life.id).execute_update("apply", request)


async def unhealthy(run: Nebula) -> str:
    check = {"command": "true", "interval": "100ms", "retries": 1}
    script = sim_labels(boot="0s", unhealthy_after="300ms,0s")
    life = await run.create(labels=script, restart="OnFailure", max_retries=1, health_check=check)
    await life.until("failed")
    await life.signal("delete")
    await life.gone()
    return life.id


async def idle(run: Nebula) -> str:
    script = sim_labels(boot="0s", idle_after="0s")
    life = await run.create(labels=script, accelerators=["1:L4"], idle_timeout="500ms")
    await life.until("stopped")
    return await delete(life)


async def _refused(run: Nebula, error: NebulousError) -> None:
    """Let the platform's best offer be one that somebody was refused."""
    (best, *_) = await run.platform.offers(Ask(accelerators=["1:L4"]))
    await run.parts.blocks(run.platform).learn(best, error)


async def refused_to_others(run: Nebula) -> str:
    await _refused(run, OutOfCapacity("to somebody else"))
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"), accelerators=["1:L4"])
    await life.until("completed")
    return await delete(life)


async def all_refused_to_others(run: Nebula) -> str:
    await _refused(run, AuthFailed("to everybody"))
    life = await run.create(accelerators=["1:L4"])
    await life.until("pending")
    return await delete(life)


async def kept_and_told(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", exit_code="3")
    life = await run.create(labels=script, keep_on_failure="1h", notify="http://127.0.0.1:9/nobody")

    async def told() -> bool:
        return "NotifyFailed" in await life.reasons()

    await eventually(told)
    await life.signal("stop")

    async def given_back() -> bool:
        return not (await life.row()).rentals

    await eventually(given_back)
    return life.id


async def secret(run: Nebula) -> str:
    handle = await run.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "s", "digest": "d"}, "install": run.parts.install},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    life = Resource(run.client, handle)
    await eventually(lambda: handle.query("sealed"))
    await life.signal("delete")
    await life.gone()
    return life.id


async def platform(run: Nebula) -> str:
    return ids.platform_workflow(run.platform.account)


async def sweep(run: Nebula) -> str:
    return ids.sweep_workflow(run.platform.account)


async def install(run: Nebula) -> str:
    return ids.INSTALL_WORKFLOW


CONTAINER = named(
    completed,
    restarted,
    failed_over,
    pending_then_failed,
    recovered,
    stopped_and_started,
    unanswered,
    invalid,
    changed,
    replaced,
    unhealthy,
    idle,
    refused_to_others,
    all_refused_to_others,
    kept_and_told,
)
SECRET = named(secret)
PLATFORM = named(platform)
SWEEP = named(sweep)
INSTALL = named(install)
