"""The watch over containers that live: what their workflows publish is seen, and being watched costs them nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from activities.platforms.sim import SimPlatform
from api.command import Server, address_of, bind
from nebulous import ids
from nebulous.client import Api
from tests.nebula import eventually, sim_labels
from worker.build import running

LIMIT_S = 20.0


@dataclass
class Lives:
    """An API on a port, a worker with a simulated cloud behind it, and what a client's watch tells."""

    desk: Any
    platform: str
    http: httpx.AsyncClient
    told: asyncio.Queue[tuple[str, dict[str, Any]]]

    async def create(self, name: str = "foo", **labels: str) -> dict[str, Any]:
        body = {
            "image": "alpine",
            "platform": self.platform,
            "metadata": {"name": name, "labels": sim_labels(**labels)},
        }
        reply = await self.http.post("/v1/containers", json=body)
        assert reply.status_code in {200, 202}, reply.text
        return reply.json()

    async def until(self, *words: str, **status: Any) -> list[tuple[str, dict[str, Any]]]:
        """What is told up to one of these words with this status."""
        wanted = words or ("added", "modified")
        told: list[tuple[str, dict[str, Any]]] = []
        async with asyncio.timeout(LIMIT_S):
            while True:
                told.append(await self.told.get())
                latest, row = told[-1]
                if latest in wanted and all(row["status"][key] == value for key, value in status.items()):
                    return told

    async def events(self, name: str = "foo") -> int:
        handle = self.desk.client.get_workflow_handle(f"container/{self.desk.organization}/default/{name}")
        return (await handle.describe()).history_length


@pytest.fixture
async def lives(desk: Any) -> AsyncIterator[Lives]:
    sim = SimPlatform("sim", ids.new_id(), desk.settings.data, desk.settings.sim)
    listener = bind("127.0.0.1", 0)
    server = Server(uvicorn.Config(desk.app, lifespan="off", log_config=None, timeout_graceful_shutdown=5))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url, headers, told = address_of(listener), desk.token(), asyncio.Queue[tuple[str, dict[str, Any]]]()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with Api(url, headers["Authorization"].removeprefix("Bearer ")) as api:
            for word, row in api.watch():
                if stop.is_set():
                    return
                loop.call_soon_threadsafe(told.put_nowait, (word, row))

    stop, reader = threading.Event(), threading.Thread(target=read)
    async with (
        running(desk.settings, desk.client, desk.redis, platforms=[sim]),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=LIMIT_S) as http,
    ):

        async def reported() -> bool:
            return sim.account in {row["account"] for row in (await http.get("/v1/platforms")).json()["platforms"]}

        await eventually(reported)
        reader.start()
        made = Lives(desk, sim.account, http, told)
        assert await asyncio.wait_for(told.get(), LIMIT_S) == ("synced", {})
        yield made
        stop.set()
        await made.create("last")  # a last word, so that the reader looks up
        await asyncio.to_thread(reader.join)
    server.should_exit = True
    await serving
    listener.close()


async def test_every_change_is_told_also_one_that_no_search_attribute_shows(lives: Lives) -> None:
    made = await lives.create(boot="0s", run_for="0.2s", delete_takes="2s")
    told = await lives.until(status="completed")
    assert told[0][0] == "added"
    assert {row["metadata"]["id"] for _, row in told} == {made["metadata"]["id"]}
    assert told[-1][1]["status"]["cost_per_hr"] is not None
    released = (await lives.until(status="completed", cost_per_hr=None))[-1][1]
    assert {each["type"]: each["status"] for each in released["status"]["conditions"]}["Released"] == "True"
    versions = [int(row["metadata"]["resource_version"]) for _, row in told]
    assert versions == sorted(set(versions))


async def test_being_watched_adds_nothing_to_the_history_of_what_idles(lives: Lives) -> None:
    await lives.create(boot="0s")
    await lives.until(status="running")
    before = await lives.events()
    for name in ("a", "b"):
        await lives.create(name, boot="0s")
        await lives.until(status="running")
    assert await lives.events() == before


async def test_a_new_life_under_a_finished_name_is_told_as_deleted_and_added(lives: Lives) -> None:
    first = await lives.create(boot="0s", run_for="0s")
    await lives.until(status="completed", cost_per_hr=None)
    second = await lives.create(boot="0s")
    told = await lives.until(status="running")
    ends = [(word, row["metadata"]["id"]) for word, row in told if word != "modified"]
    assert ends == [("deleted", first["metadata"]["id"]), ("added", second["metadata"]["id"])]
    assert told[0][1]["status"]["status"] == "completed"


async def test_a_deletion_is_told_once_it_is_proven(lives: Lives) -> None:
    await lives.create(boot="0s", delete_takes="0.5s")
    await lives.until(status="running")
    assert (await lives.http.delete("/v1/containers/default/foo")).status_code == 202
    told = await lives.until("deleted")
    assert (await lives.http.get("/v1/containers/default/foo")).status_code == 404
    assert "stopping" in [row["status"]["status"] for _, row in told]
    assert json.dumps(told[-1][1])
