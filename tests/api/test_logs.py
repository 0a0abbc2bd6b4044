"""Logs: plain and followed, live through the session plane and from the archive, cut, resumed, slow, gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from api.command import address_of, bind
from api.output import Place
from nebulous import temporal
from nebulous.errors import Unavailable
from nebulous.ids import Address, new_id, platform_queue
from nebulous.models.platforms import Instance
from nebulous.sessions import Session, SessionRequest, requests_key
from worker.sessions import SessionRelay

LIMIT_S = 15.0


@dataclass
class Writer:
    """A platform that has one instance, whose command writes what the test says, when it says."""

    key: str
    written: bytearray = field(default_factory=bytearray)
    ended: bool = False
    readers: int = 0
    tails: list[int | None] = field(default_factory=list)
    finds: int = -1  # how often the instance is still there; below zero: always
    vanish: Callable[[], None] = lambda: None
    failure: Exception | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    account: str = "sim:logs"

    async def find(self, key: str) -> list[Instance]:
        if self.finds == 0:
            self.vanish()
            return []
        self.finds -= 1
        return [Instance(key=key, id="i-1", account="sim:logs")] if key == self.key else []

    async def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
        assert instance.key == self.key
        self.readers += 1
        self.tails.append(tail)
        lines = bytes(self.written).splitlines(keepends=True)
        at = 0 if tail is None else len(b"".join(lines[: max(0, len(lines) - tail)]))
        try:
            while True:
                if self.failure:
                    raise self.failure
                if at < len(self.written):
                    piece = bytes(self.written[at : at + 1000])
                    at += len(piece)
                    yield piece
                elif self.ended or not follow:
                    return
                else:
                    async with self.changed:
                        await asyncio.wait_for(self.changed.wait(), LIMIT_S)
        finally:
            self.readers -= 1

    async def write(self, data: bytes, end: bool = False) -> None:
        self.written += data
        self.ended = end
        async with self.changed:
            self.changed.notify_all()


@dataclass
class Stage:
    """A running container whose logs a relay serves, and an API that answers over a real socket."""

    desk: Any
    http: httpx.AsyncClient
    writer: Writer
    life: str
    account: str
    relay: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        return "/v1/containers/default/foo/logs"

    def start_relay(self) -> None:
        relay = SessionRelay(self.desk.redis, platform_queue(self.account), self.writer)  # type: ignore[arg-type]
        self.relay = asyncio.create_task(relay.run())

    async def stop_relay(self) -> None:
        if self.relay:
            self.relay.cancel()
            await asyncio.gather(self.relay, return_exceptions=True)

    def archive(self, attempt: int, data: bytes) -> None:
        folder = self.desk.settings.data / "archive/logs" / self.life
        folder.mkdir(parents=True, exist_ok=True)
        whose = {"owner": self.desk.organization, "namespace": "default", "name": "foo"}
        (folder / "meta.json").write_text(json.dumps(whose))
        (folder / f"{attempt:04d}.log").write_bytes(data)

    @asynccontextmanager
    async def events(self, query: str = "", headers: dict[str, str] | None = None) -> AsyncIterator[AsyncIterator[Any]]:
        async with self.http.stream("GET", f"{self.path}?follow=true{query}", headers=headers) as reply:
            assert reply.status_code == 200
            assert reply.headers["content-type"].startswith("text/event-stream")
            yield _parsed(reply)

    async def delete(self) -> None:
        await self.desk.client.get_workflow_handle(f"container/{self.desk.organization}/default/foo").terminate()


async def _parsed(reply: httpx.Response) -> AsyncIterator[tuple[str, int, Any]]:
    """(event, id, data) of each event; comments are ("comment", 0, text)."""
    name, number = "", 0
    async for line in reply.aiter_lines():
        if line.startswith(":"):
            yield "comment", 0, line[1:].strip()
        elif line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield name, number, json.loads(line[6:])


async def _text(events: AsyncIterator[Any], length: int) -> tuple[bytes, int]:
    """Read log events until so many bytes are there; with the last id."""
    found, last = b"", 0
    async with asyncio.timeout(LIMIT_S):
        async for name, number, data in events:
            if name == "log":
                found, last = found + data["text"].encode("utf-8", "surrogateescape"), number
            if len(found) >= length:
                break
    return found, last


async def _end(events: AsyncIterator[Any]) -> tuple[bytes, dict[str, Any]]:
    found = b""
    async with asyncio.timeout(LIMIT_S):
        async for name, _, data in events:
            if name == "log":
                found += data["text"].encode("utf-8", "surrogateescape")
            if name == "end":
                return found, data
    raise AssertionError("the stream ended without `end`")


@pytest.fixture
async def stage(desk: Any) -> AsyncIterator[Stage]:
    address = Address("container", desk.organization, "default", "foo")
    life, key, account = new_id(), f"nebu-{new_id()}", f"sim:{new_id()}"
    rental = {"account": account, "instance_id": "i-1", "since": "2026-01-01T00:00:00Z"}
    await desk.client.start_workflow(
        "Container",
        id=str(address),
        task_queue="nobody",
        memo={
            "metadata": {"name": "foo", "namespace": "default", "owner": desk.organization, "id": life},
            "spec": {"image": "alpine"},
            "status": {"status": "running", "attempt": 1, "instance_id": "i-1", "account": account},
            "rentals": {key: rental},
        },
        search_attributes=temporal.search_attributes(address, life, "running", None),
    )
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(desk.app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=address_of(listener), headers=desk.token(), timeout=LIMIT_S) as http:
        made = Stage(desk, http, Writer(key), life, account)
        made.start_relay()
        yield made
        await made.stop_relay()
    server.should_exit = True
    await serving
    listener.close()


async def test_what_was_written_is_plain_text(stage: Stage) -> None:
    await stage.writer.write("héllo\nworld\n".encode())
    reply = await stage.http.get(stage.path)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.content == "héllo\nworld\n".encode()
    assert (await stage.http.get(f"{stage.path}?tail=1")).content == b"world\n"
    assert (await stage.http.get(f"{stage.path}?tail=0")).content == b""


async def test_a_followed_line_arrives_in_less_than_a_second(stage: Stage) -> None:
    async with stage.events() as events:
        await stage.writer.write(b"first\n")
        assert (await _text(events, 6))[0] == b"first\n"
        for _ in range(3):
            began = time.monotonic()
            await stage.writer.write(b"another\n")
            assert (await _text(events, 8))[0] == b"another\n"
            assert time.monotonic() - began < 1


async def test_following_ends_with_the_outcome_once_everything_was_read(stage: Stage) -> None:
    async with stage.events() as events:
        await stage.writer.write(b"last words\n", end=True)
        stage.archive(1, b"last words\n")
        assert (await _text(events, 11))[0] == b"last words\n"
        await stage.delete()
        rest, end = await _end(events)
    assert (rest, end) == (b"", {"status": "deleted", "reason": "Deleted", "exit_code": None})


async def test_a_cut_follow_goes_on_at_the_byte_where_it_was(stage: Stage) -> None:
    await stage.writer.write(b"one\ntwo\n")
    async with stage.events() as events:
        before, last = await _text(events, 8)
    await stage.writer.write(b"three\n")
    for query, headers in ((f"&offset={last}", {}), ("", {"Last-Event-ID": str(last)})):
        async with stage.events(query, headers) as events:
            after, _ = await _text(events, 6)
        assert before + after == b"one\ntwo\nthree\n"


async def test_earlier_attempts_come_first_from_the_archive(stage: Stage) -> None:
    stage.archive(0, b"attempt zero\n")
    await stage.writer.write(b"attempt one\n")
    assert (await stage.http.get(stage.path)).content == b"attempt zero\nattempt one\n"
    assert (await stage.http.get(f"{stage.path}?tail=2")).content == b"attempt zero\nattempt one\n"
    assert (await stage.http.get(f"{stage.path}?tail=1")).content == b"attempt one\n"
    async with stage.events("&tail=2") as events:
        assert (await _text(events, 25))[0] == b"attempt zero\nattempt one\n"


async def test_following_goes_from_live_to_archived_without_a_gap_or_a_repetition(stage: Stage) -> None:
    async with stage.events() as events:
        await stage.writer.write(b"live\n")
        assert (await _text(events, 5))[0] == b"live\n"
        stage.writer.failure = Unavailable("the machine went away")
        stage.archive(1, b"live\nand the rest\n")
        await stage.writer.write(b"")
        await stage.delete()
        assert (await _end(events))[0] == b"and the rest\n"


async def test_a_worker_that_dies_and_comes_back_costs_the_reader_nothing(stage: Stage) -> None:
    async with stage.events() as events:
        await stage.writer.write(b"before\n")
        assert (await _text(events, 7))[0] == b"before\n"
        await stage.stop_relay()
        await stage.writer.write(b"meanwhile\n")
        stage.start_relay()
        assert (await _text(events, 10))[0] == b"meanwhile\n"


async def test_bytes_that_are_no_utf8_and_cut_characters_arrive_as_they_were(stage: Stage) -> None:
    written = b"\xff\xfe" + "é€𝄞\n".encode() * 500 + b"\xc3"
    async with stage.events() as events:
        for at in range(0, len(written), 7):
            await stage.writer.write(written[at : at + 7])
        await stage.writer.write(b"\n")
        assert (await _text(events, len(written) + 1))[0] == written + b"\n"


async def test_a_megabyte_arrives_whole(stage: Stage) -> None:
    written = b"".join(b"line %07d\n" % number for number in range(80_000))
    await stage.writer.write(written)
    assert (await stage.http.get(stage.path)).content == written
    tail = await stage.http.get(f"{stage.path}?tail=3")
    assert tail.content == written[-39:]


async def test_the_end_of_a_live_log_is_read_without_the_rest_unless_it_is_followed(stage: Stage) -> None:
    await stage.writer.write(b"one\ntwo\nthree\n")
    assert (await stage.http.get(f"{stage.path}?tail=2")).content == b"two\nthree\n"
    assert stage.writer.tails == [2, 2]
    stage.archive(0, b"zero\n")
    assert (await stage.http.get(f"{stage.path}?tail=4")).content == b"zero\none\ntwo\nthree\n"
    assert (await stage.http.get(f"{stage.path}?tail=1")).content == b"three\n"
    stage.writer.tails.clear()
    async with stage.events("&tail=1") as events:  # whoever comes back later needs a place that means something
        assert await _text(events, 6) == (b"three\n", Place(1, 14).id)
    assert stage.writer.tails == [None, None]


async def test_the_end_of_a_log_that_is_archived_between_two_looks_is_still_its_end(stage: Stage) -> None:
    await stage.writer.write(b"one\ntwo\nthree\n")
    stage.writer.finds = 1
    stage.writer.vanish = lambda: stage.archive(1, b"one\ntwo\nthree\nfour\n")
    assert (await stage.http.get(f"{stage.path}?tail=2")).content == b"three\nfour\n"


async def test_a_reader_that_leaves_ends_the_relay(stage: Stage, until: Any) -> None:
    async with stage.events() as events:
        await stage.writer.write(b"x\n")
        await _text(events, 2)
        assert stage.writer.readers == 1

    async def readers() -> int:
        return stage.writer.readers

    await until(readers, 0)

    async def left() -> int:
        return len(
            [key async for key in stage.desk.redis.scan_iter("session:*") if await stage.desk.redis.ttl(key) < 0]
        )

    await until(left, 0)


async def test_a_slow_reader_holds_the_relay_back_and_fills_no_memory(stage: Stage, until: Any) -> None:
    await stage.writer.write(b"x" * 20_000_000)
    request = SessionRequest(key=stage.writer.key, follow=True)
    async with Session(stage.desk.redis, platform_queue(stage.account), request) as session:
        chunks = session.chunks()
        assert (await anext(chunks)).data

        async def waiting() -> bool:
            return await stage.desk.redis.xlen(request.stream) >= 32

        await until(waiting, True)
        assert await stage.desk.redis.memory_usage(request.stream) < 4_000_000
        await chunks.aclose()


async def test_without_a_worker_a_plain_log_is_503_and_a_followed_one_waits(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr("nebulous.sessions.TAKEN_WITHIN_S", 0.5)
    await stage.stop_relay()
    refused = await stage.http.get(stage.path)
    assert refused.status_code == 503
    assert "nebu worker" in refused.json()["error"]["hint"]
    async with stage.events() as events:
        async with asyncio.timeout(LIMIT_S):
            async for name, _, text in events:
                if name == "comment" and "no worker" in text:
                    break
        await stage.writer.write(b"at last\n")
        stage.start_relay()
        assert (await _text(events, 8))[0] == b"at last\n"


async def test_an_archive_that_cannot_be_read_hides_nothing_that_is_live(stage: Stage) -> None:
    folder = stage.desk.settings.data / "archive/logs" / stage.life
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder.name)  # leads to itself
    await stage.writer.write(b"one\ntwo\n")
    assert (await stage.http.get(stage.path)).content == b"one\ntwo\n"
    assert (await stage.http.get(f"{stage.path}?tail=1")).content == b"two\n"
    async with stage.events() as events:
        assert (await _text(events, 8))[0] == b"one\ntwo\n"
    await stage.delete()
    refused = await stage.http.get(f"/v1/containers/{stage.life}/logs")
    assert refused.status_code == 503
    assert "cannot use the archive" in refused.json()["error"]["message"]


async def test_deleted_ones_are_read_by_id_by_their_organization_alone(stage: Stage) -> None:
    stage.archive(1, b"what was\n")
    await stage.delete()
    path = f"/v1/containers/{stage.life}/logs"
    assert (await stage.http.get(path)).content == b"what was\n"
    async with stage.http.stream("GET", f"{path}?follow=true") as reply:
        text, end = await _end(_parsed(reply))
    assert (text, end["status"]) == (b"what was\n", "deleted")
    stranger = stage.desk.token("admin", "strangers")
    assert (await stage.http.get(path, headers=stranger)).status_code == 404
    for odd in ("..", "%2e%2e", "meta.json", "A" * 70):
        assert (await stage.http.get(f"/v1/containers/{odd}/logs")).status_code in {404, 422}


async def test_one_that_has_not_started_says_its_status_while_the_reader_waits(desk: Any, stage: Stage) -> None:
    await desk.create("early")
    async with (
        asyncio.timeout(LIMIT_S),
        stage.http.stream("GET", "/v1/containers/default/early/logs?follow=true") as reply,
    ):
        async for name, _, text in _parsed(reply):
            assert (name, text) == ("comment", "defined")
            break
    assert (await stage.http.get("/v1/containers/default/early/logs")).content == b""


async def test_since_is_refused_rather_than_ignored(stage: Stage) -> None:
    refused = await stage.http.get(f"{stage.path}?since=5m")
    assert refused.status_code == 422
    assert "tail" in refused.json()["error"]["hint"]


async def test_requests_that_nobody_understands_or_waits_for_are_dropped(stage: Stage, until: Any) -> None:
    waiting = requests_key(platform_queue(stage.account))
    stale = SessionRequest(key=stage.writer.key, expires_at=1.0)
    await stage.desk.redis.lpush(waiting, b"nonsense", b"{}", stale.model_dump_json())
    await stage.writer.write(b"fine\n")
    assert (await stage.http.get(stage.path)).content == b"fine\n"
    assert await stage.desk.redis.exists(stale.stream) == 0
