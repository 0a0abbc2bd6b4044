"""Saved histories replay: a change of a workflow that would break running ones fails here."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities.platforms.sim_script import FAILURES, FINE
from worker.build import WORKFLOWS, workflow_runner
from workflows.containers import ContainerWorkflow

HISTORIES = Path(__file__).parent.parent / "histories"
SAVED = sorted(HISTORIES.rglob("*.json"))


@pytest.mark.parametrize("saved", SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_a_saved_history_replays_with_the_code_of_today(saved: Path) -> None:
    replayer = Replayer(
        workflows=WORKFLOWS, workflow_runner=workflow_runner(strict=True), data_converter=pydantic_data_converter
    )
    recorded = json.loads(saved.read_text())
    workflow_id = recorded["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
    history = WorkflowHistory.from_json(workflow_id, recorded)
    await replayer.replay_workflow(history)


def test_every_workflow_type_has_a_saved_history() -> None:
    names = {workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS}
    assert names == {path.parent.name for path in SAVED}, "record the missing ones: make histories"


def named(kind: str) -> set[str]:
    """The cases that are saved of a workflow type."""
    return {path.stem.rpartition("-")[0] for path in SAVED if path.parent.name == kind}


def test_a_deletion_in_every_phase_of_a_container_is_saved() -> None:
    phases = set(ContainerWorkflow.steps(ContainerWorkflow.__new__(ContainerWorkflow)))
    missing = {f"deleted_while_{phase}" for phase in phases} - named("Container")
    assert not missing, "play them in tests/recordings/trouble.py, then: make histories"


def test_a_refusal_of_every_class_that_the_simulated_cloud_knows_is_saved() -> None:
    assert {f"create_{failure}" for failure in FAILURES if failure != FINE} <= named("Container")


@pytest.mark.parametrize("kind", ["Container", "Platform"])
def test_runs_that_were_continued_as_new_are_saved(kind: str) -> None:
    ends = [json.loads(path.read_text())["events"][-1]["eventType"] for path in SAVED if path.parent.name == kind]
    assert "EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW" in ends


def test_a_run_that_began_in_the_middle_of_a_life_is_saved() -> None:
    begun = [json.loads(path.read_text())["events"][0] for path in SAVED if path.parent.name == "Container"]
    inputs = [each["workflowExecutionStartedEventAttributes"]["input"]["payloads"][0]["data"] for each in begun]
    phases = {json.loads(base64.b64decode(each)).get("phase", "") for each in inputs}
    assert phases & {"running", "restarting"}
