"""Of any two specs: the diff is empty exactly when applying changes nothing, and applying twice is applying once."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from temporalio.client import WorkflowUpdateFailedError

from nebulous import ids
from nebulous.models.changes import Wanted, between, lasting
from nebulous.models.containers import ContainerSpec
from nebulous.models.resources import Row
from tests.nebula import LIMIT_S, Resource, sim_labels
from tests.nebula import nebula as run_nebula
from tests.specs import labels, specs
from worker.embedded import Engine

Spec = dict[str, Any]
EXAMPLES = 60


@pytest.fixture(scope="module")
def running(
    session_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[asyncio.Runner, Resource]]:
    """One container, and the loop that its worker runs in: hypothesis calls plain functions."""
    ready: asyncio.Queue[Resource] = asyncio.Queue()
    over = asyncio.Event()

    async def live() -> None:
        async with run_nebula(session_engine.temporal_address, tmp_path_factory.mktemp("properties")) as nebula:
            life = await nebula.create(ids.two_words(), labels=sim_labels(boot="0s"))
            await life.until("running")
            await ready.put(life)
            await over.wait()

    with asyncio.Runner() as runner:
        living = runner.get_loop().create_task(live())
        yield runner, runner.run(asyncio.wait_for(ready.get(), LIMIT_S))
        over.set()
        runner.run(asyncio.wait_for(living, LIMIT_S))


async def send(life: Resource, spec: Spec, given_labels: dict[str, str]) -> str:
    """The outcome of applying, without leave to replace."""
    request = {"spec": spec, "metadata": {"labels": {**sim_labels(boot="0s"), **given_labels}}}
    try:
        answer = await life.client.get_workflow_handle(life.id).execute_update("apply", request)
    except WorkflowUpdateFailedError as error:
        return "conflict" if "cannot change in place" in str(error.cause) else str(error.cause)
    return answer["outcome"]


def differences(row: Row, spec: Spec, given_labels: dict[str, str]) -> Any:
    wanted = Wanted(spec, {**sim_labels(boot="0s"), **given_labels})
    return between(ContainerSpec, Wanted(row.spec, row.metadata.labels), wanted)


def wishes(row: Row) -> Any:
    """What was asked for; its status goes on by itself, by health checks for one."""
    return row.spec, row.metadata.labels, row.metadata.spec_version


@given(spec=specs(platform="sim"), given_labels=labels())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_diff_is_empty_exactly_when_apply_changes_nothing_and_twice_is_once(
    running: tuple[asyncio.Runner, Resource], spec: Spec, given_labels: dict[str, str]
) -> None:
    runner, life = running
    before = runner.run(life.row())
    # what only a new life can change stays as it is in half of all examples, or nearly all would be refused
    kept = ContainerSpec.model_fields.keys() - {each for each in spec if each in _IN_PLACE}
    for wanted in (spec, {**{name: before.spec[name] for name in kept & before.spec.keys()}, **_only(spec)}):
        seen = runner.run(life.row())
        found = differences(seen, wanted, given_labels)
        expected = "conflict" if lasting(found) else "changed" if found else "same"
        assert runner.run(send(life, wanted, given_labels)) == expected
        after = runner.run(life.row())
        if expected == "changed":
            assert differences(after, wanted, given_labels) == []
            assert runner.run(send(life, wanted, given_labels)) == "same"
            assert wishes(runner.run(life.row())) == wishes(after)
        else:
            assert wishes(after) == wishes(seen)


_IN_PLACE = frozenset(
    name for name, field in ContainerSpec.model_fields.items() if "in_place" in str(field.json_schema_extra)
)


def _only(spec: Spec) -> Spec:
    return {name: value for name, value in spec.items() if name in _IN_PLACE}
