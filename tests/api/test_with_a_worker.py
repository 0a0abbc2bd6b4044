"""The API with a real worker and a simulated cloud behind it: what only the workflows can answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.nebula import eventually, sim_labels


async def test_a_container_runs_is_read_and_is_deleted_with_proof(world: Any) -> None:
    http = world.desk.http
    created = (await world.create(labels=sim_labels(boot="0s", run_for="0s", log="hello from sim"))).json()
    done = await world.until("completed")
    assert done["status"]["exit_code"] == 0
    assert done["metadata"]["id"] == created["metadata"]["id"]
    history = (await http.get("/v1/containers/default/foo/events")).json()
    assert history["events"]
    assert [attempt["outcome"] for attempt in history["attempts"]] == ["rented"]
    assert "hello from sim" in (await http.get("/v1/containers/default/foo/logs")).text
    deleted = await http.delete("/v1/containers/default/foo?wait=true")
    assert deleted.status_code == 200
    assert (await http.get("/v1/containers/default/foo")).status_code == 404
    assert "hello from sim" in (await http.get(f"/v1/containers/{created['metadata']['id']}/logs")).text


async def test_a_followed_log_ends_with_the_exit_code(world: Any) -> None:
    await world.create(labels=sim_labels(boot="0.2s", run_for="0.5s", exit_code="3", log="working"))
    async with asyncio.timeout(20):
        reply = await world.desk.http.get("/v1/containers/default/foo/logs?follow=true")
    assert "working" in reply.text
    end = json.loads(reply.text.rsplit("data: ", 1)[1])
    assert (end["status"], end["reason"], end["exit_code"]) == ("failed", "Exited", 3)


async def test_another_spec_under_a_living_name_is_409(world: Any) -> None:
    first = await world.create(labels=sim_labels(boot="0s"))
    await world.until("running")
    same = await world.create(labels=sim_labels(boot="0s"))
    assert (same.status_code, same.headers["X-Nebu-Outcome"]) == (200, "same")
    assert same.json()["metadata"]["id"] == first.json()["metadata"]["id"]
    other = await world.create(labels=sim_labels(boot="0s"), image="busybox")
    assert other.status_code == 409
    assert "nebu delete container foo" in other.json()["error"]["hint"]
    await labels_of_a_repeated_create_are_compared_unless_it_has_none(world, first.json()["metadata"]["id"])


async def labels_of_a_repeated_create_are_compared_unless_it_has_none(world: Any, life: str) -> None:
    """On what runs already: a second container for this would only cost time."""
    labelled = {"image": "alpine", "platform": world.platform, "metadata": {"name": "foo", "labels": {"team": "x"}}}
    other = await world.desk.http.post("/v1/containers", json=labelled)
    assert other.status_code == 409
    error = other.json()["error"]
    assert "it exists with other labels (sim.nebulous/boot, team) and is running" in error["message"]
    assert "nebu apply" in error["hint"]
    foreseen = await world.desk.http.post("/v1/containers?dry_run=true", json=labelled)
    assert (foreseen.status_code, "other labels" in foreseen.text) == (409, True)
    for nothing_said in ({}, {"labels": None}, {"labels": {}}):  # as the published clients repeat it
        body = {**labelled, "metadata": {"name": "foo", "namespace": None, **nothing_said}}
        again = await world.desk.http.post("/v1/containers", json=body)
        assert (again.status_code, again.headers["X-Nebu-Outcome"]) == (200, "same"), again.text
        assert again.json()["metadata"]["id"] == life
    assert (await world.row())["metadata"]["labels"] == sim_labels(boot="0s")


async def test_a_finished_name_gets_a_new_life_and_an_old_key_its_old_one(world: Any) -> None:
    first = await world.create(headers={"Idempotency-Key": "first"})
    await world.until("completed")
    repeated = await world.create(headers={"Idempotency-Key": "first"})
    assert repeated.json()["metadata"]["id"] == first.json()["metadata"]["id"]
    second = await world.create(headers={"Idempotency-Key": "second"})
    assert second.status_code in {200, 202}, second.text
    assert second.json()["metadata"]["id"] != first.json()["metadata"]["id"]

    async def begun() -> bool:
        return (await world.row())["metadata"]["id"] == second.json()["metadata"]["id"]

    await eventually(begun)


async def test_a_create_while_it_is_being_deleted_begins_after_the_proof(world: Any) -> None:
    first = await world.create(labels=sim_labels(boot="0s"))
    await world.until("running")
    assert (await world.desk.http.delete("/v1/containers/default/foo")).status_code == 202
    second = await world.create(labels=sim_labels(boot="0s"))
    assert second.status_code in {200, 202}, second.text
    life = second.json()["metadata"]["id"]
    assert life != first.json()["metadata"]["id"]

    async def begun() -> bool:
        row = await world.row()
        return "metadata" in row and row["metadata"]["id"] == life and row["status"]["status"] == "running"

    await eventually(begun)


async def test_twenty_different_specs_at_once_make_one_container_and_nineteen_refusals(world: Any) -> None:
    labels = sim_labels(boot="0s")
    replies = await asyncio.gather(*(world.create(labels=labels, command=f"echo {n}") for n in range(20)))
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200] + [409] * 19
    (won,) = (reply.json() for reply in replies if reply.status_code == 200)
    for reply in replies:
        if reply.status_code == 409:
            error = reply.json()["error"]
            assert (error["type"], "with another spec" in error["message"]) == ("Conflict", True)
            assert "nebu delete container foo" in error["hint"]
    row = await world.row()
    assert (row["metadata"]["id"], row["command"]) == (won["metadata"]["id"], won["command"])


async def said(world: Any, verb: str) -> tuple[int, str, str]:
    """What a verb answers: its code, what came of it, and how the container is."""
    reply = await world.desk.http.post(f"/v1/containers/default/foo/{verb}")
    return reply.status_code, reply.headers.get("X-Nebu-Outcome", ""), reply.json().get("status", {}).get("status", "")


async def test_stop_and_start_reach_the_container_and_say_when_there_is_nothing_to_do(world: Any) -> None:
    await world.create(labels=sim_labels(boot="0s"))
    await world.until("running")
    assert await said(world, "start") == (202, "same", "running")
    assert (await said(world, "stop"))[:2] == (202, "accepted")
    await world.until("stopped")

    async def settled() -> bool:  # the release goes on behind the outcome
        return await said(world, "stop") == (202, "same", "stopped")

    await eventually(settled)
    assert (await said(world, "start"))[:2] == (202, "accepted")
    row = await world.until("running")
    assert row["status"]["attempt"] == 2
    assert (await said(world, "restart"))[:2] == (202, "accepted")


async def test_a_stop_while_another_life_is_to_follow_is_of_that_too_and_a_start_takes_it_back(world: Any) -> None:
    http = world.desk.http
    await world.create(labels=sim_labels(boot="0s", delete_takes="2s"))
    first = await world.until("running")
    spec = {"image": "second", "platform": world.platform, "metadata": {"labels": sim_labels(boot="0s")}}
    replaced = await http.put("/v1/containers/default/foo?replace=true", json=spec)
    assert (replaced.status_code, replaced.headers["X-Nebu-Outcome"]) == (202, "next"), replaced.text
    following = (await world.row())["metadata"]["next_id"]
    assert following == replaced.json()["metadata"]["id"]
    for verb in ("stop", "start", "restart", "stop"):
        reply = await http.post(f"/v1/containers/default/foo/{verb}")
        assert (reply.status_code, reply.headers["X-Nebu-Outcome"]) == (202, "accepted"), reply.text
        assert reply.json()["metadata"]["id"] == first["metadata"]["id"]
    row = await world.until("stopped")
    assert (row["metadata"]["id"], row["image"], row["metadata"]["next_id"]) == (following, "second", None)
    assert (row["status"]["started_at"], row["status"]["message"]) == (None, "before it ran")
    assert (await said(world, "start"))[:2] == (202, "accepted")
    await world.until("running")


async def test_what_can_never_run_is_not_started_and_says_why(world: Any) -> None:
    await world.create(labels=sim_labels(fail="Rejected"))
    await world.until("invalid")
    for verb in ("start", "restart"):
        refused = await world.desk.http.post(f"/v1/containers/default/foo/{verb}")
        assert refused.status_code == 409
        assert "is invalid and can never run as it is: " in refused.json()["error"]["message"]
        assert "nebu apply" in refused.json()["error"]["hint"]
    assert (await said(world, "stop"))[:2] == (202, "same")


async def test_a_start_while_it_ends_for_another_reason_begins_the_next_attempt(world: Any) -> None:
    await world.create(labels=sim_labels(boot="0s", delete_takes="500ms"), timeout="300ms", stop_grace="1s")

    async def started_again() -> bool:
        row = await world.row()
        if row["status"]["status"] == "stopping" or row["status"]["status"] == "failed":
            await world.desk.http.post("/v1/containers/default/foo/start")
        return row["status"]["attempt"] == 2

    await eventually(started_again)


async def test_a_secret_is_revealed_to_admins_refused_when_different_and_reaches_the_command(world: Any) -> None:
    http = world.desk.http
    body = {"metadata": {"name": "hf"}, "value": "s3cr3t"}
    assert (await http.post("/v1/secrets", json=body)).status_code == 200
    assert (await http.get("/v1/secrets/default/hf?reveal=true")).json()["value"] == "s3cr3t"
    assert (await http.post("/v1/secrets", json=body)).headers["X-Nebu-Outcome"] == "same"
    assert (await http.post("/v1/secrets", json={**body, "value": "other"})).status_code == 409
    made = await world.create(env_vars=[{"key": "HF", "secret_name": "hf"}])
    assert made.status_code == 200, made.text
    await world.until("completed")
    assert (await http.delete("/v1/secrets/default/hf?wait=true")).status_code == 200
