"""What a person reads in the Temporal UI, without our code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from nebulous import temporal
from tests.nebula import Nebula, eventually, sim_labels

HISTORIES = Path(__file__).parent.parent / "histories"
EXPLAINED = {"EVENT_TYPE_ACTIVITY_TASK_SCHEDULED", "EVENT_TYPE_TIMER_STARTED"}


@pytest.mark.parametrize("saved", sorted(HISTORIES.rglob("*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_activity_and_timer_says_in_words_what_it_is_for(saved: Path) -> None:
    events = [event for event in json.loads(saved.read_text())["events"] if event["eventType"] in EXPLAINED]
    assert all(event.get("userMetadata", {}).get("summary") for event in events)


async def test_the_current_details_say_status_place_instance_and_the_latest_event(nebula: Nebula) -> None:
    life = await nebula.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    handle = nebula.client.get_workflow_handle(life.id)
    told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    (instance,) = await nebula.owned()
    for said in (
        "## running",
        "sim sim-",
        instance.id,
        instance.key,
        "Attempt",
        "**Next**: wait for the command",
        "Latest event: Started",
    ):
        assert said in told.current_details
    assert {signal.name for signal in told.definition.signal_definitions} >= {"stop", "start", "restart", "delete"}


async def test_search_attributes_find_it_by_what_people_know(nebula: Nebula) -> None:
    life = await nebula.create(labels={**sim_labels(boot="0s"), "team": "vision"})
    await life.until("running")
    found = temporal.open_query(
        "container", "LOCAL", 'NebuLabels = "team=vision"', 'NebuStatus = "running"', 'NebuNamespace = "default"'
    )

    async def listed() -> list[str]:
        return [execution.id async for execution in nebula.client.list_workflows(found)]

    assert life.id in await eventually(listed)
