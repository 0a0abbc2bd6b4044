"""WS …/exec on a port, with the session plane and this host as the platform: frames, ends, slow sides, the dead."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from activities.platforms.local import LocalPlatform
from api.command import LARGEST_HEADERS, address_of, bind, server
from nebulous import temporal
from nebulous.ids import Address, new_id, platform_queue
from nebulous.sessions import Session, SessionRequest
from tests.activities.platforms.local_builders import WORDS
from worker.sessions import SessionRelay

LIMIT_S = 60.0
TIMES = 20


@dataclass
class Stage:
    """A running container on this host, a relay, and an API on a port."""

    desk: Any
    url: str
    platform: LocalPlatform
    key: str
    relay: asyncio.Task[None] | None = None

    @property
    def queue(self) -> str:
        return platform_queue(self.platform.account)

    def start_relay(self) -> None:
        self.relay = asyncio.create_task(SessionRelay(self.desk.redis, self.queue, self.platform).run())

    async def stop_relay(self) -> None:
        if self.relay:
            self.relay.cancel()
            await asyncio.gather(self.relay, return_exceptions=True)

    @asynccontextmanager
    async def exec(self, *argv: str, path: str = "default/foo", **query: Any) -> AsyncIterator[ClientConnection]:
        words = urlencode([*(("command", word) for word in argv), *query.items()])
        url = f"{self.url.replace('http', 'ws')}/v1/containers/{path}/exec?{words}"
        headers = self.desk.token()
        async with connect(url, additional_headers=headers, compression=None, proxy=None, close_timeout=1) as socket:
            yield socket


async def ended(socket: ClientConnection) -> tuple[dict[int, bytes], dict[str, Any], int]:
    """Everything that comes: bytes by channel, the last JSON frame, the close code."""
    written: dict[int, bytes] = {1: b"", 2: b""}
    last: dict[str, Any] = {}
    async with asyncio.timeout(LIMIT_S):
        try:
            async for frame in socket:
                if isinstance(frame, bytes):
                    written[frame[0]] += frame[1:]
                elif "taken" not in (said := json.loads(frame)):
                    last = said
        except ConnectionClosed:
            pass
    return written, last, int(socket.close_code or 0)


async def heard(socket: ClientConnection, wanted: bytes) -> bytes:
    text = b""
    async with asyncio.timeout(LIMIT_S):
        while wanted not in text:
            frame = await socket.recv()
            text += frame[1:] if isinstance(frame, bytes) else b""
    return text


async def start(desk: Any, name: str, status: str, account: str, key: str | None) -> str:
    """A container's workflow as Temporal shows it."""
    address, life = Address("container", desk.organization, "default", name), new_id()
    rental = {"account": account, "instance_id": "i-1", "since": "2026-01-01T00:00:00Z"}
    await desk.client.start_workflow(
        "Container",
        id=str(address),
        task_queue="nobody",
        memo={
            "metadata": {"name": name, "namespace": "default", "owner": desk.organization, "id": life},
            "spec": {"image": "alpine"},
            "status": {"status": status, "attempt": 1, "instance_id": "i-1", "account": account},
            "rentals": {key: rental} if key else {},
        },
        search_attributes=temporal.search_attributes(address, life, status, None),
    )
    return life


@pytest.fixture
async def stage(desk: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    platform = LocalPlatform(new_id(), tmp_path, "test")
    launch = WORDS.launch("exec sleep 300")
    await WORDS.run(platform, launch)
    await start(desk, "foo", "running", platform.account, launch.key)
    listener = bind("127.0.0.1", 0)
    serving = server(desk.settings)
    serving.config.app, serving.config.lifespan = desk.app, "off"
    serving.config.timeout_graceful_shutdown = 1
    running = asyncio.create_task(serving.serve(sockets=[listener]))
    made = Stage(desk, address_of(listener), platform, launch.key)
    made.start_relay()
    yield made
    await made.stop_relay()
    serving.should_exit = True
    await running
    listener.close()
    await WORDS.gone(platform, launch.key)


async def test_a_command_speaks_on_two_channels_and_ends_with_its_code(stage: Stage) -> None:
    async with stage.exec("sh", "-c", "echo out; echo err >&2; exit 7") as socket:
        assert await ended(socket) == ({1: b"out\n", 2: b"err\n"}, {"exit": 7}, 1000)


async def test_it_is_found_by_its_id_too(stage: Stage, until: Any) -> None:
    life = (await stage.desk.http.get("/v1/containers/default/foo")).json()["metadata"]["id"]

    async def listed() -> int:
        return (await stage.desk.http.get(f"/v1/containers/{life}")).status_code

    await until(listed, 200)
    async with stage.exec("true", path=life) as socket:
        assert (await ended(socket))[1:] == ({"exit": 0}, 1000)


async def test_input_goes_in_and_its_end_is_seen(stage: Stage) -> None:
    async with stage.exec("cat") as socket:
        await socket.send(b"\0hello ")
        await socket.send(b"\0world\n")
        await socket.send('{"eof": true}')
        assert await ended(socket) == ({1: b"hello world\n", 2: b""}, {"exit": 0}, 1000)


async def test_a_terminal_has_a_size_that_changes(stage: Stage) -> None:
    async with stage.exec("sh", tty="true", rows="11", cols="22") as socket:
        await socket.send(b"\0stty size\r")
        await heard(socket, b"11 22\r\n")
        await socket.send('{"resize": {"rows": 33, "cols": 44}}')
        await socket.send(b"\0stty size\r")
        await heard(socket, b"33 44\r\n")
        await socket.send(b"\0exit 5\r")
        assert (await ended(socket))[1:] == ({"exit": 5}, 1000)


async def test_twenty_at_once_work_and_do_not_mix(stage: Stage) -> None:
    async def one(number: int) -> Any:
        async with stage.exec("sh", "-c", "cat; exit $0", str(number)) as socket:
            for _ in range(10):
                await socket.send(b"\0%d\n" % number)
            await socket.send('{"eof": true}')
            return await ended(socket)

    came = await asyncio.gather(*map(one, range(TIMES)))
    assert came == [({1: b"%d\n" % number * 10, 2: b""}, {"exit": number}, 1000) for number in range(TIMES)]


async def test_megabytes_go_through_both_ways_at_once(stage: Stage) -> None:
    sent = random.Random(4).randbytes(5_000_000)
    async with stage.exec("cat") as socket:

        async def feed() -> None:
            for at in range(0, len(sent), 30_000):
                await socket.send(b"\0" + sent[at : at + 30_000])
            await socket.send('{"eof": true}')

        feeding = asyncio.create_task(feed())
        written, last, _ = await ended(socket)
        await feeding
    assert written[1] == sent
    assert last == {"exit": 0}


async def test_a_command_that_reads_nothing_holds_its_writer_back_and_still_speaks(stage: Stage, until: Any) -> None:
    async with stage.exec("sh", "-c", "while ! [ -e go ]; do sleep 0.05; done; echo spoke; wc -c") as socket:
        sent = 0
        taken = 0
        held_back = False
        while not held_back:
            while sent - taken < 256 * 1024:  # as the client does: no more on its way than this
                await socket.send(b"\0" + b"x" * 16384)
                sent += 16384
            try:
                async with asyncio.timeout(1):
                    taken = json.loads(await socket.recv())["taken"]
            except TimeoutError:
                held_back = True
        assert sent < 4_000_000
        keys = [key async for key in stage.desk.redis.scan_iter("session:*:in")]
        assert max([await stage.desk.redis.memory_usage(key) for key in keys]) < 4_000_000
        async with stage.exec("touch", "go") as other:
            assert (await ended(other))[1] == {"exit": 0}
        await socket.send('{"eof": true}')
        written, last, _ = await ended(socket)
    assert written[1].split() == [b"spoke", str(sent).encode()]
    assert last == {"exit": 0}


async def test_a_client_that_reads_nothing_holds_the_command_back_and_fills_no_memory(stage: Stage, until: Any) -> None:
    script = "i=0; while [ $i -lt 400 ]; do head -c 100000 /dev/zero; i=$((i+1)); echo $i > progress; done"
    async with stage.exec("sh", "-c", script):
        (work,) = stage.platform._root.glob("*/work")  # type: ignore[attr-defined]
        seen, same_since = "", time.monotonic()
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() - same_since < 1:  # held back: it makes no progress any more
            assert time.monotonic() < limit
            now = (work / "progress").read_text() if (work / "progress").exists() else ""
            if now != seen or not now:
                seen, same_since = now, time.monotonic()
            await asyncio.sleep(0.05)
        assert int(seen) < 400
        streams = [key async for key in stage.desk.redis.scan_iter("session:*") if not key.endswith(b"e")]
        for key in streams:
            if await stage.desk.redis.type(key) == b"stream":
                assert await stage.desk.redis.memory_usage(key) < 4_000_000


def _running(mark: str) -> list[int]:
    found: list[int] = []
    for process in psutil.process_iter(["cmdline"]):
        if mark in (process.info["cmdline"] or []):
            found.append(process.pid)
    return found


async def test_a_command_whose_client_left_is_ended_and_nothing_is_left(stage: Stage, until: Any) -> None:
    mark = str(random.randint(10**8, 10**9))
    async with stage.exec("sh", "-c", f"echo here; trap '' HUP; sleep {mark} & wait") as socket:
        await heard(socket, b"here")

        async def begun() -> bool:
            return bool(_running(mark))

        await until(begun, True)

    async def alive() -> list[int]:
        return _running(mark)

    await until(alive, [])

    async def without_an_end() -> int:
        keys = [key async for key in stage.desk.redis.scan_iter("session:*")]
        return sum([await stage.desk.redis.ttl(key) == -1 for key in keys])

    await until(without_an_end, 0)


async def test_a_worker_that_goes_away_is_told_within_seconds(stage: Stage) -> None:
    async with stage.exec("cat") as socket:
        await socket.send(b"\0x\n")
        await heard(socket, b"x\n")
        began = time.monotonic()
        await stage.stop_relay()
        _, last, code = await ended(socket)
        assert time.monotonic() - began < 10
    assert code == 4503
    assert "went away" in last["error"]["message"]


async def test_without_a_worker_it_is_4503_and_says_what_to_start(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr("nebulous.sessions.TAKEN_WITHIN_S", 0.5)
    await stage.stop_relay()
    async with stage.exec("true") as socket:
        _, last, code = await ended(socket)
    assert (code, last["error"]["hint"]) == (4503, "start one: nebu worker")


async def test_the_api_that_dies_leaves_a_command_that_ends(stage: Stage, until: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nebulous.sessions.LEASE_S", 1)
    mark = str(random.randint(10**8, 10**9))
    request = SessionRequest(kind="exec", key=stage.key, argv=["sleep", mark])
    session = Session(stage.desk.redis, stage.queue, request)
    await session.__aenter__()
    assert _running(mark)
    assert session._renewal  # type: ignore[attr-defined]
    session._renewal.cancel()  # as kill -9 would: nobody renews, nobody says good-bye

    async def alive() -> list[int]:
        return _running(mark)

    await until(alive, [])


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        ("completed", "container 'bar' is completed: nothing runs in it any more", "nebu start bar"),
        ("pending", "container 'bar' does not run yet: it is pending", "nebu wait bar -n default --for running"),
        ("creating", "container 'bar' does not run yet: it is creating", "nebu wait bar"),
    ],
)
async def test_one_that_does_not_run_is_4409_with_what_to_do(stage: Stage, status: str, said: str, hint: str) -> None:
    await start(stage.desk, "bar", status, stage.platform.account, None)
    async with stage.exec("true", path="default/bar") as socket:
        _, last, code = await ended(socket)
    assert (code, last["error"]["type"], last["error"]["message"]) == (4409, "Conflict", said)
    assert hint in last["error"]["hint"]
    assert socket.close_reason == said


async def test_one_whose_machine_went_a_moment_ago_is_a_conflict_and_not_missing(stage: Stage) -> None:
    await start(stage.desk, "bar", "running", stage.platform.account, "nebu-given-back")
    said = "the machine of this container was given back meanwhile"
    async with stage.exec("true", path="default/bar") as socket:
        _, last, code = await ended(socket)
    assert (code, last["error"]["type"], last["error"]["message"]) == (4409, "Conflict", said)
    files = "/v1/containers/default/bar/files"
    for reply in (
        await stage.desk.http.get(files, params={"path": "/", "stat": True}),
        await stage.desk.http.get(files, params={"path": "/"}),
        await stage.desk.http.put(files, params={"path": "/"}, content=b""),
    ):
        assert (reply.status_code, reply.json()["error"]["message"]) == (409, said)
    missing = await stage.desk.http.get("/v1/containers/default/foo/files", params={"path": "nope", "stat": True})
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "NotFound")


async def test_one_that_does_not_exist_is_4404(stage: Stage) -> None:
    async with stage.exec("true", path="default/nope") as socket:
        _, last, code = await ended(socket)
    assert (code, last["error"]["type"]) == (4404, "NotFound")


@pytest.mark.parametrize(
    ("argv", "said"),
    [([], "there is no command"), ([""], "there is no command"), (["a\0b"], "NUL"), (["x" * 70_000], "too long")],
)
async def test_a_command_that_cannot_be_one_is_4422(stage: Stage, argv: list[str], said: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("websockets.http11.MAX_LINE_LENGTH", LARGEST_HEADERS)  # as `nebu api` sets it at its start
    async with stage.exec(*argv) as socket:
        _, last, code = await ended(socket)
    assert code == 4422
    assert said in last["error"]["message"]


@pytest.mark.parametrize(
    "frame", ["no json", "[]", '{"resize": {"rows": 0, "cols": 1}}', '{"what": 1}', b"\x05data", b""]
)
async def test_a_frame_that_nobody_understands_is_4400_and_ends_the_command(stage: Stage, frame: str | bytes) -> None:
    async with stage.exec("cat") as socket:
        await socket.send(frame)
        _, last, code = await ended(socket)
    assert (code, last["error"]["type"]) == (4400, "BadRequest")


async def test_a_frame_of_more_than_a_megabyte_is_refused(stage: Stage) -> None:
    async with stage.exec("cat") as socket:
        await socket.send(b"\0" + b"x" * 1_100_000)
        _, _, code = await ended(socket)
    assert code == 1009


async def test_the_log_says_nothing_of_what_is_executed(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with stage.exec("echo", "s3cr3t") as socket:
        await ended(socket)
    assert "s3cr3t" not in caplog.text
