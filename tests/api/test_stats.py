"""GET …/stats: what a running container uses, and in words why there is nothing to tell."""

from __future__ import annotations

from typing import Any

import pytest

from activities.platforms.sim_usage import GIB
from nebulous import ids, temporal
from tests.nebula import sim_labels

STATS = "/v1/containers/default/foo/stats"


async def test_a_running_container_is_measured_by_name_and_by_id(world: Any) -> None:
    http = world.desk.http
    created = (await world.create("foo", sim_labels(boot="0s"), accelerators=["2:A100-80GB"])).json()
    await world.until("running")
    for path in (STATS, f"/v1/containers/{created['metadata']['id']}/stats"):
        reply = await http.get(path)
        assert reply.status_code == 200, reply.text
        used = reply.json()
        assert used["simulated"]
        assert 20 <= used["cpu_percent"] <= 95
        assert 0 < used["memory_bytes"] < used["memory_limit_bytes"] == 16 * GIB
        assert [(each["index"], each["name"]) for each in used["accelerators"]] == [
            (0, "A100-80GB-SXM"),
            (1, "A100-80GB-SXM"),
        ]
        assert all(0 < each["memory_bytes"] < each["memory_limit_bytes"] == 80 * GIB for each in used["accelerators"])


async def test_the_finished_and_the_unborn_have_nothing_to_measure(world: Any) -> None:
    http = world.desk.http
    await world.create("foo")
    await world.until("completed")
    reply = await http.get(STATS)
    assert reply.status_code == 409
    assert reply.json()["error"] == {
        "type": "Conflict",
        "message": "container 'foo' is completed: nothing runs that could be measured",
        "hint": "what came of it: nebu describe foo",
    }
    await world.create("boots", sim_labels(boot="1h"))
    await world.until("created", name="boots")
    reply = await http.get("/v1/containers/default/boots/stats")
    assert reply.status_code == 409
    assert "nebu wait boots --for running" in reply.json()["error"]["hint"]


async def test_what_is_unknown_is_404_and_a_viewer_may_look(world: Any) -> None:
    assert (await world.desk.http.get("/v1/containers/default/nope/stats")).status_code == 404
    await world.create("foo", sim_labels(boot="0s"))
    await world.until("running")
    viewer, stranger = world.desk.token("viewer"), world.desk.token("admin", "others")
    assert (await world.desk.http.get(STATS, headers=viewer)).status_code == 200
    assert (await world.desk.http.get(STATS, headers=stranger)).status_code == 404


async def test_a_platform_that_does_not_tell_and_one_that_nobody_serves(
    desk: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nebulous.sessions.TAKEN_WITHIN_S", 0.5)
    for name, account in (("foo", "sim:testhost"), ("bar", "docker:elsewhere")):
        await _rented(desk, client, name, account)
    silent = await desk.http.get(STATS)  # the report of this account has no features
    assert silent.status_code == 422
    assert silent.json()["error"]["message"] == "platform 'sim' does not tell what a container uses"
    away = await desk.http.get("/v1/containers/default/bar/stats")
    assert away.status_code == 503
    assert "no worker answers on queue 'platform-docker:elsewhere'" in away.json()["error"]["message"]


async def _rented(desk: Any, client: Any, name: str, account: str) -> None:
    """A container that its memo says to run, on an account."""
    address = ids.Address("container", desk.organization, "default", name)
    metadata = {"name": name, "namespace": "default", "owner": desk.organization, "id": ids.new_id()}
    rentals = {"nebu-key": {"account": account, "instance_id": "i-1"}}
    await client.start_workflow(
        "Container",
        {},
        id=str(address),
        task_queue="nobody",
        memo={"metadata": metadata, "spec": {}, "status": {"status": "running"}, "rentals": rentals},
        search_attributes=temporal.search_attributes(address, metadata["id"], "running", None),
    )
