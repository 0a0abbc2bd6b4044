"""An API on a real port for tests that read a stream, and a reader of the watch that it gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from api.command import Server, address_of, bind, configured

LIMIT_S = 20.0


class Reader:
    """One watch as it comes: (event, id, data), without comments."""

    def __init__(self, reply: httpx.Response) -> None:
        self._lines = reply.aiter_lines()
        self.last = ""

    async def next(self) -> tuple[str, Any]:
        """The next event; the test fails when none comes."""
        name, data = "", None
        async with asyncio.timeout(LIMIT_S):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = json.loads(value)
                elif not line and name:
                    return name, data
        raise EOFError

    async def until(self, word: str) -> list[tuple[str, Any]]:
        """All events up to this one."""
        found: list[tuple[str, Any]] = []
        while not found or found[-1][0] != word:
            found.append(await self.next())
        return found

    async def names(self, word: str = "synced") -> list[tuple[str, str]]:
        """(event, name) of all events before `word`."""
        return [(event, row["metadata"]["name"]) for event, row in (await self.until(word))[:-1] if row]


@dataclass
class Stand:
    """An application that answers over a real socket."""

    desk: Any
    http: httpx.AsyncClient
    server: Server
    url: str

    @asynccontextmanager
    async def watch(self, headers: dict[str, str] | None = None, **query: Any) -> AsyncIterator[Reader]:
        async with self.http.stream("GET", "/v1/watch", params=query, headers=headers) as reply:
            assert reply.status_code == 200, await reply.aread()
            assert reply.headers["content-type"].startswith("text/event-stream")
            yield Reader(reply)

    async def create(self, name: str, **metadata: Any) -> dict[str, Any]:
        """A container that nobody works on."""
        reply = await self.http.post(
            "/v1/containers", json={"image": "alpine", "platform": "docker", "metadata": {"name": name, **metadata}}
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def close(self, name: str, namespace: str = "default") -> None:
        """Its workflow ends, as it does on proof of absence."""
        handle = self.desk.client.get_workflow_handle(f"container/{self.desk.organization}/{namespace}/{name}")
        await handle.terminate()

    async def listed(self, *names: str, gone: tuple[str, ...] = ()) -> None:
        """Wait until visibility shows these and not those."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            query = f'NebuKind = "container" AND NebuOrg = "{self.desk.organization}" AND ExecutionStatus = "Running"'
            there = {execution.id.rpartition("/")[2] async for execution in self.desk.client.list_workflows(query)}
            if there >= set(names) and not there & set(gone):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not {names} without {gone} after {LIMIT_S} s")


@asynccontextmanager
async def served(desk: Any, app: Any = None) -> AsyncIterator[Stand]:
    """Put an application, by default the desk's, on a port."""
    listener = bind("127.0.0.1", 0)
    server = Server(configured(app or desk.app, desk.settings, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    url = address_of(listener)
    async with httpx.AsyncClient(base_url=url, headers=desk.token(), timeout=LIMIT_S) as http:
        yield Stand(desk, http, server, url)
    server.should_exit = True
    await serving
    listener.close()
