"""A watch that was cut goes on where it was: by cursor, in another process, in the client; else it begins afresh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api import changes
from api.app import create_app
from nebulous.client import Api
from tests.doubles.proxy import cutting_proxy
from tests.stand import LIMIT_S, Stand, served


@pytest.fixture
async def stand(desk: Any) -> AsyncIterator[Stand]:
    async with served(desk) as made:
        yield made


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_cursor_goes_on_with_what_changed_since_and_nothing_else(stand: Stand, how: str) -> None:
    for name in ("stays", "goes"):
        await stand.create(name)
    await stand.listed("stays", "goes")
    async with stand.watch() as events:
        await events.until("synced")
        await stand.create("seen")
        await events.next()
        cursor = events.last
    await stand.create("missed")
    await stand.create("flash")
    await stand.close("goes")
    await stand.listed("missed", "flash", gone=("goes",))
    await stand.close("flash")
    await stand.listed(gone=("flash",))
    headers, query = ({"Last-Event-ID": cursor}, {}) if how == "header" else ({}, {"cursor": cursor})
    async with stand.watch(headers, **query) as events:
        assert sorted(await events.names()) == [("added", "missed"), ("deleted", "goes")]
        await stand.close("seen")
        word, row = await events.next()
        assert (word, row["metadata"]["name"]) == ("deleted", "seen")


async def test_another_api_process_resumes_as_exactly(stand: Stand) -> None:
    await stand.create("seen")
    await stand.listed("seen")
    async with stand.watch() as events:
        await events.until("synced")
        await stand.create("seen-too")
        await events.until("added")
        cursor = events.last
    await stand.close("seen")
    await stand.listed("seen-too", gone=("seen",))
    app = create_app(stand.desk.settings, stand.desk.client, stand.desk.redis)
    async with app.router.lifespan_context(app), served(stand.desk, app) as other, other.watch(cursor=cursor) as events:
        assert await events.names() == [("deleted", "seen")]


@pytest.mark.parametrize("cursor", ["forged", "", "é", "A" * 4000, "of another watch", "too old"])
async def test_a_cursor_that_cannot_be_used_gives_everything_afresh(
    stand: Stand, cursor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stand.create("there")
    await stand.listed("there")
    if cursor in {"of another watch", "too old"}:
        async with stand.watch(**({"namespace": "default"} if cursor == "of another watch" else {})) as events:
            await events.until("synced")
            if cursor == "too old":
                monkeypatch.setattr("api.marks.OLDEST", -changes.CLOCKS_DIFFER)
            cursor = events.last
    async with stand.watch(cursor=cursor) as events:
        words = [word for word, _ in await events.until("synced")]
    assert words == (["reset"] if cursor else []) + ["added", "synced"]


async def test_a_reader_who_is_too_slow_is_dropped_told_and_comes_back(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "WAITING_AT_MOST", 3)
    monkeypatch.setattr(changes, "QUICK_PAUSE_S", 1.5)
    async with stand.watch() as events:
        await events.until("synced")
        await stand.create("marker")
        await events.next()
        names = [f"burst{number}" for number in range(5)]
        await asyncio.gather(*(stand.create(name) for name in names))
        word, about = await events.next()
        assert (word, "come back" in about["message"]) == ("dropped", True)
        cursor = events.last
        with pytest.raises(EOFError):
            await events.next()
    async with stand.watch(cursor=cursor) as events:
        assert sorted(await events.names()) == [("added", name) for name in names]


async def test_the_clients_watch_survives_cuts_without_a_gap_or_a_double(stand: Stand) -> None:
    await stand.create("first")
    await stand.listed("first")
    async with cutting_proxy(stand.url) as proxy:
        told: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        token = stand.desk.token()["Authorization"].removeprefix("Bearer ")

        def read() -> None:
            with contextlib.suppress(Exception), Api(proxy.url, token) as api:
                for word, row in api.watch("containers"):
                    told.put((word, row["metadata"]["name"] if row else ""))

        async def next_told() -> tuple[str, str]:
            return await asyncio.to_thread(told.get, timeout=LIMIT_S)

        threading.Thread(target=read, daemon=True).start()
        assert [await next_told(), await next_told()] == [("added", "first"), ("synced", "")]
        for number in range(3):
            await stand.create(f"live{number}")
            assert await next_told() == ("added", f"live{number}")
            proxy.refuse = True
            proxy.cut()
            await stand.create(f"away{number}")
            await stand.close(f"live{number}")
            await stand.listed(f"away{number}", gone=(f"live{number}",))
            proxy.refuse = False
            assert sorted([await next_told(), await next_told()]) == [
                ("added", f"away{number}"),
                ("deleted", f"live{number}"),
            ]
        assert told.empty()
        assert len(proxy.sent) == 4
        for resumed in proxy.sent[1:]:
            assert b"event: reset" not in resumed
            assert b'"first"' not in resumed


async def test_get_w_that_is_cut_goes_on_and_ends_by_ctrl_c(stand: Stand, tmp_path: Path) -> None:
    await stand.create("first")
    await stand.listed("first")
    async with cutting_proxy(stand.url) as proxy:
        token = stand.desk.token()["Authorization"].removeprefix("Bearer ")
        access = {"NEBU_SERVER": proxy.url, "NEBU_API_KEY": token, "NEBU_CONFIG": str(tmp_path / "config.yaml")}
        command = [sys.executable, "-m", "nebulous", "get", "containers", "-w", "-o", "name"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | access, stdout=pipe, stderr=pipe)
        assert process.stdout
        async with asyncio.timeout(3 * LIMIT_S):
            assert await process.stdout.readline() == b"container/first\n"
            proxy.refuse = True
            proxy.cut()
            await stand.create("meanwhile")
            await stand.listed("meanwhile")
            proxy.refuse = False
            assert await process.stdout.readline() == b"container/meanwhile\n"
            process.send_signal(signal.SIGINT)
            assert await process.communicate() == (b"", b"")
    assert process.returncode == 130
