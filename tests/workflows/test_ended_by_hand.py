"""What a cancel or a terminate from the Temporal UI does to what has no end, and to a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus

from nebulous import ids
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker import hosting
from worker.embedded import Engine

RUNNING = WorkflowExecutionStatus.RUNNING


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look so often for what was ended that a test need not wait; before `nebula`, which begins to look."""
    monkeypatch.setattr(hosting, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(hosting, "PROBE_EVERY_S", 0.2)


def servants(nebula: Nebula) -> tuple[str, str, str]:
    """The workflows that must not end."""
    account = nebula.platform.account
    return ids.INSTALL_WORKFLOW, ids.platform_workflow(account), ids.sweep_workflow(account)


async def run_of(nebula: Nebula, workflow_id: str) -> tuple[str, WorkflowExecutionStatus | None]:
    described = await nebula.client.get_workflow_handle(workflow_id).describe()
    return described.run_id, described.status


async def works(nebula: Nebula) -> None:
    """A container finds a platform, is watched to its end, and is given back."""
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="200ms"))
    assert (await life.until("completed"))["exit_code"] == 0

    async def given_back() -> bool:
        return not (await life.row()).rentals

    await eventually(given_back)


async def test_a_cancel_means_nothing_to_install_platform_and_sweep(nebula: Nebula) -> None:
    before = {each: await run_of(nebula, each) for each in servants(nebula)}
    for _ in range(2):
        for each in servants(nebula):
            await nebula.client.get_workflow_handle(each).cancel()
        await works(nebula)
    assert {each: await run_of(nebula, each) for each in servants(nebula)} == before
    for each in servants(nebula):
        history = await nebula.client.get_workflow_handle(each).fetch_history()
        answered = [event for event in history.events if event.HasField("workflow_task_completed_event_attributes")]
        asked = [e for e in history.events if e.HasField("workflow_execution_cancel_requested_event_attributes")]
        assert answered[-1].event_id > asked[-1].event_id, f"{each} has heard of it, and goes on"


async def test_what_has_no_end_begins_again_after_a_terminate_and_the_install_keeps_its_id(
    often: None,
    nebula: Nebula,
) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    before = {each: (await run_of(nebula, each))[0] for each in servants(nebula)}
    for each in servants(nebula):
        await nebula.client.get_workflow_handle(each).terminate()

    async def back() -> bool:
        now = {each: await run_of(nebula, each) for each in servants(nebula)}
        return all(run != before[each] and status is RUNNING for each, (run, status) in now.items())

    await eventually(back)
    install = nebula.parts.install
    description = await nebula.client.get_workflow_handle(ids.INSTALL_WORKFLOW).describe()
    assert (await description.memo())["install"] == install
    await works(nebula)
    assert (await life.status())["status"] == "running", "what was rented before is watched, not destroyed"
    assert await nebula.owned()


async def test_a_worker_that_starts_after_a_terminate_takes_the_id_that_the_install_had(nebula: Nebula) -> None:
    for _ in range(2):
        await nebula.client.get_workflow_handle(ids.INSTALL_WORKFLOW).terminate()
        assert await hosting.install_id(nebula.client) == nebula.parts.install
        assert (await run_of(nebula, ids.INSTALL_WORKFLOW))[1] is RUNNING


async def test_a_cancelled_secret_is_deleted(nebula: Nebula) -> None:
    spec = {"spec": {"sealed": "s", "digest": "d"}, "install": nebula.parts.install}
    address = f"secret/local/default/{ids.two_words()}"
    handle = await nebula.client.start_workflow("Secret", spec, id=address, task_queue=ids.TASK_QUEUE)
    await eventually(lambda: handle.query("sealed"))
    await handle.cancel()
    await Resource(nebula.client, handle).gone()
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_a_cancel_that_was_there_before_the_first_task_means_delete_too(
    session_engine: Engine, tmp_path: Path
) -> None:
    """Also a run that was continued begins with one, and with machines that are rented."""
    host = ids.new_id()
    async with run_nebula(session_engine.temporal_address, tmp_path, host=host) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s"))
        await life.until("running")
        (rented,) = await nebula.owned()
        spec, client = (await life.row()).spec, nebula.client
    offer = {"platform": "sim", "account": f"sim:{host}"}
    rental = {"key": rented.key, "offer": offer, "attempt": 1, "since": "2026-01-01T00:00:00Z", "answered": True}
    state = {"phase": "releasing", "spec": spec, "rentals": {rented.key: rental}}
    handle = await client.start_workflow(
        "Container", state, id=f"container/local/default/{ids.two_words()}", task_queue=ids.TASK_QUEUE
    )
    for each in (handle.id, life.id):
        await client.get_workflow_handle(each).cancel()
    async with run_nebula(session_engine.temporal_address, tmp_path, host=host) as nebula:
        for each in (handle.id, life.id):
            await Resource(client, client.get_workflow_handle(each)).gone()
            assert (await client.get_workflow_handle(each).describe()).status is WorkflowExecutionStatus.COMPLETED
        assert await nebula.owned() == []
