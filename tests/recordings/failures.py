"""Containers that meet a failure which `trouble.py` does not play."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.common import WorkflowIDConflictPolicy

from activities import pace
from nebulous import ids, temporal
from nebulous.models.platforms import PlatformReport
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.recordings.case import Case, delete, fault, named, released

AT_ONCE = {"boot": "0s"}
ENDS = {"boot": "0s", "run_for": "0s"}
DESERTED = "sim:deserted"


def ends(
    name: str, status: str, script: dict[str, str], *faults: dict[str, Any], limit_s: float = 60, **spec: Any
) -> Case:
    """A container that is left alone until its outcome, and its machine is given back."""

    async def play(run: Nebula) -> str:
        life = await run.create(labels=sim_labels(**script), **spec)
        await life.until(status, limit_s=limit_s)
        await released(life)
        return life.id

    return Case(name, play, faults)


async def told_of(life: Resource, reason: str) -> None:
    """Wait for an event."""

    async def so() -> bool:
        return reason in await life.reasons()

    await eventually(so, 60, reason)


async def dependants_not_deleted(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(**ENDS), ttl_after_finished="100ms")
    await told_of(life, "StillOwning")
    await life.gone(90)
    return life.id


async def stop_refused(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(**AT_ONCE))
    await life.until("running")
    await life.signal("stop")
    await life.until("stopped")
    return await delete(life)


async def restart_refused(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(**AT_ONCE))
    await life.until("running")
    await life.signal("restart")
    await told_of(life, "AuthFailed")
    return await delete(life)


async def lost_before_a_restart(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(**AT_ONCE))
    await life.until("running")
    await life.signal("restart")

    async def recovered() -> bool:
        status = await life.status()
        return (status["status"], status["recoveries"]) == ("running", 1)

    await eventually(recovered)
    return await delete(life)


async def without_a_worker(run: Nebula) -> str:
    report = PlatformReport(platform="sim", account=DESERTED, queue=ids.platform_queue(DESERTED), simulated=True)
    await run.client.start_workflow(
        "Platform",
        report.model_dump(mode="json"),
        id=ids.platform_workflow(DESERTED),
        task_queue=ids.TASK_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=temporal.search_attributes(
            ids.Address("platform", "", "", DESERTED), "", "ready", None, platform=DESERTED
        ),
    )

    async def known() -> bool:
        query = temporal.open_query("platform", None, f'NebuPlatform = "{DESERTED}"')
        return any([await temporal.row(each) async for each in run.client.list_workflows(query)])

    await eventually(known)
    patience, pace.NO_WORKER_AFTER = pace.NO_WORKER_AFTER, timedelta(milliseconds=300)
    try:
        life = await run.create(platform=DESERTED)
        await life.until("pending")
    finally:
        pace.NO_WORKER_AFTER = patience
    return await delete(life)


PREEMPTED_TOO_OFTEN = ",".join(["50ms"] * 11)

FAILED = [
    ends("platform_unusable", "failed", ENDS, platform="runpod", provision_timeout="1s"),
    ends("rented_by_another", "completed", ENDS, fault("create", "Conflict", when="after")),
    ends("never_ready", "failed", {"boot": "1m"}, provision_timeout="2s"),
    ends("no_accelerator", "invalid", AT_ONCE, fault("start", "NoAccelerator")),
    ends("ate_too_much", "failed", {**ENDS, "oom": "true"}),
    ends("gave_up", "failed", {**ENDS, "exit_code": "7"}, restart="OnFailure", max_retries=1),
    ends("vanished", "completed", {"boot": "0s", "vanish_after": "300ms", "run_for": "2s"}),
    ends("preempted_too_often", "failed", {"boot": "0s", "preempt_after": PREEMPTED_TOO_OFTEN}, limit_s=120),
    Case("dependants_not_deleted", dependants_not_deleted, (fault("delete_owned", "AuthFailed"),)),
    Case("stop_refused", stop_refused, (fault("stop", "AuthFailed"),)),
    Case("restart_refused", restart_refused, (fault("stop", "AuthFailed"),)),
    Case("lost_before_a_restart", lost_before_a_restart, (fault("stop", "NotFound"),)),
    *named(without_a_worker),
]
