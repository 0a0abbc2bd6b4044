"""Saved histories replay: a change of a workflow that would break running ones fails here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from worker.build import WORKFLOWS, workflow_runner

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
