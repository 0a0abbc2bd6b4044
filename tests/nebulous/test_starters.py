"""Programs that speak Temporal directly: typed starters against a real engine and worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest

from nebulous import ids, starters, temporal
from nebulous.errors import Conflict, Ended, InvalidRequest, NotFound, NotReady, Unavailable
from nebulous.models.containers import ContainerSpec, Status
from tests.nebula import Nebula, eventually, sim_labels
from worker.embedded import Engine

LIMIT = timedelta(seconds=20)


def spec(nebula: Nebula, **script: str) -> ContainerSpec:
    labels = sim_labels(boot="0s", **script)
    document: dict[str, Any] = {"image": "busybox", "platform": nebula.platform.account, "metadata": {"labels": labels}}
    return ContainerSpec.model_validate(document)


async def test_a_container_is_started_waited_for_and_deleted(nebula: Nebula):
    handle = await temporal.start_container(
        nebula.client, spec(nebula, run_for="0s"), name="First", namespace=ids.two_words(), organization="acme"
    )
    status = await handle.wait(limit=LIMIT)
    assert (status.status, status.exit_code) == (Status.COMPLETED, 0)
    metadata = await handle.metadata()
    assert metadata
    assert (metadata.name, metadata.owner) == ("First", "acme")
    assert (metadata.labels or {})["sim.nebulous/run_for"] == "0s"
    await handle.delete(wait=True, limit=LIMIT)
    with pytest.raises(NotFound, match="container/First does not exist any more"):
        await handle.status()


async def test_signals_reach_it(nebula: Nebula):
    handle = await temporal.start_container(nebula.client, spec(nebula), name=ids.two_words())
    await handle.wait("running", limit=LIMIT)
    await handle.restart()
    await handle.stop()
    assert (await handle.wait("stopped", limit=LIMIT)).reason == "StoppedByUser"
    await handle.start()
    assert (await handle.wait("running", limit=LIMIT)).attempt == 2
    with pytest.raises(NotReady, match=r"is running.*, and not completed after"):
        await handle.wait("completed", limit=timedelta(seconds=0.1))
    await handle.delete(wait=True, limit=LIMIT)


async def test_a_name_that_is_taken_is_a_conflict_also_when_it_has_finished(nebula: Nebula):
    name = ids.two_words()
    handle = await temporal.start_container(nebula.client, spec(nebula, run_for="0s", exit_code="3"), name=name)
    with pytest.raises(Ended, match=r"is failed \(Exited 3\)"):
        await handle.wait("completed", limit=LIMIT)
    with pytest.raises(
        Conflict, match=f"container/{name.upper()} exists already in namespace 'default' of 'local'"
    ) as error:
        await temporal.start_container(nebula.client, spec(nebula), name=name.upper())
    assert "delete it first, also if it has finished" in (error.value.hint or "")
    assert (await temporal.get_container(nebula.client, name).status()).exit_code == 3
    await handle.delete(wait=True, limit=LIMIT)


@pytest.mark.parametrize(
    ("document", "where", "said"),
    [
        ({"imagee": "busybox"}, {}, "imagee: unknown field; did you mean 'image'?"),
        ({"image": "busybox", "timeout": "30"}, {}, "timeout: '30' is not a duration"),
        ({"image": "busybox"}, {"name": "a b"}, "metadata.name: name 'a b' is not allowed"),
        ({"image": "busybox"}, {"namespace": "a/b"}, "metadata.namespace: namespace 'a/b' is not allowed"),
    ],
)
async def test_bad_input_is_told_before_anything_is_started(
    session_engine: Engine, document: dict[str, Any], where: dict[str, str], said: str
):
    nowhere = await temporal.connect("127.0.0.1:9", lazy=True)
    with pytest.raises(InvalidRequest) as error:
        await temporal.start_container(nowhere, document, **where)
    assert said in error.value.message


async def test_an_engine_out_of_reach_and_an_unknown_name_have_words():
    nowhere = await temporal.connect("127.0.0.1:9", lazy=True)
    with pytest.raises(Unavailable, match="Temporal does not answer"):
        await temporal.start_container(nowhere, {"image": "busybox"})


async def test_an_unknown_container_is_not_found(nebula: Nebula):
    handle = temporal.get_container(nebula.client, "nobody")
    for ask in (handle.status, handle.stop, handle.wait):
        with pytest.raises(NotFound, match="container/nobody does not exist in namespace 'default'"):
            await ask()


async def test_without_a_worker_it_is_started_and_waiting_says_so(
    session_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(starters, "WORKER_EXPECTED", timedelta(seconds=0.2))
    empty = f"empty-{ids.new_id()}"
    client = await temporal.connect(session_engine.temporal_address)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=empty, workflow_execution_retention_period=Duration(seconds=86400))
    )
    client = await temporal.connect(session_engine.temporal_address, empty)

    async def started() -> Any:
        try:
            return await temporal.start_container(client, {"image": "busybox"}, name="waiting")
        except (NotFound, Unavailable):  # a new namespace is known everywhere a moment later
            return None

    handle = await eventually(started)
    assert (await handle.status()).reason == "NotReadYet"
    with pytest.raises(Unavailable, match="container/waiting was started, and no worker is there to run it") as error:
        await handle.wait(limit=LIMIT)
    assert "nothing is lost meanwhile" in (error.value.hint or "")
    await handle.workflow.terminate()
