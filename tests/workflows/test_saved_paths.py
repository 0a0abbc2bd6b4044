"""The saved histories are of every path: a phase, message, error class or kind without one fails here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from nebulous import errors
from tests.workflows.test_replay import HISTORIES, SAVED
from worker.build import WORKFLOWS
from workflows.containers import ContainerWorkflow
from workflows.entity import Step

ADVICE = "add one to tests/recordings, then: python -m tests.record_histories ITS_NAME"
#: No workflow meets these: what clients of the API are told, and what happens to payloads outside of workflows.
ELSEWHERE = {
    *("Unreachable", "InvalidRequest", "Ended", "Forbidden", "Unauthenticated", "KeyMissing"),
    *("CommandFailed", "PartlyCopied"),
}
DEFINITIONS = {kind: workflow._Definition.must_from_class(kind) for kind in WORKFLOWS}


@dataclass
class Seen:
    """What replaying containers went through."""

    phases: set[str] = field(default_factory=set)  # all that there are
    entered: set[str] = field(default_factory=set)
    resumed: set[str] = field(default_factory=set)  # by the first step of a run that was continued as new
    deleted: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)


SEEN = Seen()


class Noted(dict[str, Step]):
    """A phase table that says which phase is entered."""

    def get(self, key: str, default: Any = None) -> Any:
        if key in self:
            SEEN.entered.add(key)
        return super().get(key, default)


@workflow.defn(name="Container")
class NotingContainer(ContainerWorkflow):
    """A container that says what it goes through; decides nothing."""

    @workflow.init
    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__(state)
        self._noted = Noted(super().steps())
        SEEN.phases.update(self._noted)
        if workflow.info().continued_run_id and "phase" in state:
            SEEN.resumed.add(self.state.phase)

    @workflow.run
    async def run(self, state: dict[str, Any]) -> None:
        await super().run(state)

    def steps(self) -> Mapping[str, Step]:
        return self._noted

    def want_deleted(self, reason: str, message: str) -> None:
        if not self.state.deleting:
            SEEN.deleted.add(self.state.phase)
        super().want_deleted(reason, message)

    def record(self, reason: str, message: str, warning: bool = False) -> None:
        if reason == "StopRequested":
            SEEN.stopped.add(self.state.phase)
        super().record(reason, message, warning)


def recorded(path: Path) -> WorkflowHistory:
    saved = json.loads(path.read_text())
    return WorkflowHistory.from_json(saved["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"], saved)


@pytest.fixture(scope="module")
def seen() -> Seen:
    asyncio.run(replayed())
    return SEEN


async def replayed() -> None:
    replayer = Replayer(
        workflows=[NotingContainer],
        workflow_runner=UnsandboxedWorkflowRunner(),
        data_converter=pydantic_data_converter,
    )
    for path in sorted((HISTORIES / "Container").glob("*.json")):
        await replayer.replay_workflow(recorded(path))


def missing(what: str, names: set[str]) -> str:
    return f"no saved history of {what} {', '.join(sorted(names))}: {ADVICE}"


def test_every_phase_of_a_container_is_entered_in_one(seen: Seen) -> None:
    assert not (left := seen.phases - seen.entered), missing("a container that is", left)


def test_a_container_is_deleted_in_every_phase(seen: Seen) -> None:
    assert not (left := seen.phases - seen.deleted), missing("a container that is deleted while", left)


def test_a_container_is_stopped_in_every_phase_before_its_outcome(seen: Seen) -> None:
    before = seen.phases - {"stopping", "keeping", "releasing", "finished", "close"}
    assert not (left := before - seen.stopped), missing("a container that is stopped while", left)


def test_a_container_goes_on_in_a_new_run_where_it_may_stay_long(seen: Seen) -> None:
    long = {"running", "booting", "restarting", "keeping", "finished", "renting"}
    assert not (left := long - seen.resumed), missing("a container that is continued while", left)


# --- by what stands in the files ----------------------------------------------------------------------------


def events(kind: str = "*") -> Iterator[dict[str, Any]]:
    for path in SAVED:
        if kind in ("*", path.parent.name):
            yield from json.loads(path.read_text())["events"]


def failure_types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "applicationFailureInfo" in value:
            yield value["applicationFailureInfo"].get("type", "")
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from failure_types(inner)


def test_every_class_of_errors_is_met_in_one() -> None:
    found = {name for event in events() for name in failure_types(event)}
    assert not (left := set(errors.BY_TYPE) - ELSEWHERE - found), missing("the failure", left)


def test_a_platform_without_a_worker_is_met_in_one() -> None:
    late = [event.get("activityTaskTimedOutEventAttributes", {}) for event in events("Container")]
    kinds = [each["failure"]["timeoutFailureInfo"]["timeoutType"] for each in late if each]
    assert "TIMEOUT_TYPE_SCHEDULE_TO_START" in kinds


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_every_message_of_a_kind_is_in_one(kind: type) -> None:
    definition = DEFINITIONS[kind]
    known = {str(name) for name in (*definition.signals, *definition.updates) if name}
    found: set[str] = set()
    for event in events(str(definition.name)):
        found.add(event.get("workflowExecutionSignaledEventAttributes", {}).get("signalName", ""))
        accepted = event.get("workflowExecutionUpdateAcceptedEventAttributes", {})
        found.add(accepted.get("acceptedRequest", {}).get("input", {}).get("name", ""))
    assert not (left := known - found), missing(f"{definition.name} with the message", left)


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_every_kind_is_continued_as_new_and_goes_on_in_one(kind: type) -> None:
    name = str(DEFINITIONS[kind].name)
    ends = any("workflowExecutionContinuedAsNewEventAttributes" in event for event in events(name))
    begins = any(
        event.get("workflowExecutionStartedEventAttributes", {}).get("continuedExecutionRunId")
        for event in events(name)
    )
    assert ends, missing(name, {"that ends as continued"})
    assert begins, missing(name, {"that goes on"})


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_every_kind_is_cancelled_in_one(kind: type) -> None:
    name = str(DEFINITIONS[kind].name)
    cancelled = any("workflowExecutionCancelRequestedEventAttributes" in event for event in events(name))
    assert cancelled, missing(name, {"that is cancelled"})
