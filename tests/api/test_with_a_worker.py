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


async def test_stop_and_start_reach_the_container(world: Any) -> None:
    await world.create(labels=sim_labels(boot="0s"))
    await world.until("running")
    assert (await world.desk.http.post("/v1/containers/default/foo/stop")).status_code == 202
    await world.until("stopped")
    assert (await world.desk.http.post("/v1/containers/default/foo/start")).status_code == 202
    row = await world.until("running")
    assert row["status"]["attempt"] == 2


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
