"""GET /v1/watch: what there is, then what changes; confined, ended; and one poll for everybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from api import changes
from api.app import create_app
from api.command import bind
from nebulous import ids, temporal
from tests.stand import LIMIT_S, Stand, served

QUICK_S = 2.0  # the aim is one second; the rest is for a busy machine


@pytest.fixture
async def stand(desk: Any) -> AsyncIterator[Stand]:
    async with served(desk) as made:
        yield made


async def test_what_there_is_comes_first_and_then_each_change_within_a_second(stand: Stand) -> None:
    await stand.create("before")
    await stand.listed("before")
    async with stand.watch() as events:
        word, row = await events.next()
        shown = (await stand.http.get("/v1/containers/default/before")).json()
        assert (word, row) == ("added", shown)
        assert (await events.next())[0] == "synced"
        assert events.last

        began = time.monotonic()
        made = await stand.create("after")
        word, row = await events.next()
        assert (word, row["metadata"]["id"]) == ("added", made["metadata"]["id"])
        assert time.monotonic() - began < QUICK_S

        await stand.close("after")
        word, row = await events.next()
        assert (word, row["metadata"]["id"]) == ("deleted", made["metadata"]["id"])


async def test_filters_narrow_both_what_there_is_and_what_comes(stand: Stand) -> None:
    await stand.create("old", namespace="team", labels={"tier": "web"})
    await stand.create("other", namespace="team")
    await stand.listed("old", "other")
    by_label = stand.watch(label="tier=web")
    by_place = stand.watch(namespace="TEAM")
    by_name = stand.watch(name="New")
    async with by_label as labelled, by_place as placed, by_name as named:
        assert await labelled.names() == [("added", "old")]
        assert sorted(await placed.names()) == [("added", "old"), ("added", "other")]
        assert await named.names() == []
        await stand.create("new", labels={"tier": "Web"})
        await stand.create("last", namespace="team", labels={"tier": "web"})
        assert (await labelled.next())[1]["metadata"]["name"] == "last"
        assert (await placed.next())[1]["metadata"]["name"] == "last"
        assert (await named.next())[1]["metadata"]["name"] == "new"


async def test_every_kind_is_watched(stand: Stand) -> None:
    async with stand.watch(kind="sec") as events:
        assert await events.names() == []
        made = await stand.http.post("/v1/secrets", json={"metadata": {"name": "hf"}, "value": "s3cr3t"})
        assert made.status_code == 200
        word, row = await events.next()
        assert (word, row["kind"], row["value"]) == ("added", "Secret", None)
        assert "s3cr3t" not in json.dumps(row)


async def test_strangers_see_nothing_whatever_they_ask_for(stand: Stand) -> None:
    mine = stand.desk.organization
    await stand.create("private", labels={"a": "b"})
    await stand.listed("private")
    stranger = stand.desk.token("admin", "strangers")
    refused = await stand.http.get("/v1/watch", params={"owner": mine}, headers=stranger)
    assert refused.status_code == 404
    assert (await stand.http.get("/v1/watch", headers={"Authorization": ""})).status_code == 401

    async with stand.watch() as owner:
        await owner.until("synced")
        cursor = owner.last
    escape = f'x" OR NebuOrg = "{mine}'
    asked: list[dict[str, str]] = [{}, {"name": escape}, {"namespace": escape}, {"cursor": cursor}]
    async with contextlib.AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(stand.watch(stranger, **query)) for query in asked]
        for watch in watches:
            assert await watch.names() == []
        sentinel = await stack.enter_async_context(stand.watch())
        await sentinel.until("synced")
        # a program may write any memo: one that names the strangers' organization, under a workflow id that does not
        await stand.create("more")
        await _start_with_memo_of(stand, mine, "strangers")
        await _start_with_memo_of(stand, "strangers", mine)
        async with asyncio.timeout(LIMIT_S):
            assert (await sentinel.next())[1]["metadata"]["name"] == "more"
            await _create_as(stand, "theirs", stranger)
            word, row = await watches[0].next()
        assert (word, row["metadata"]["name"]) == ("added", "theirs")


async def test_viewers_see_no_values_of_variables(stand: Stand) -> None:
    viewer = stand.desk.token("viewer")
    async with stand.watch(viewer) as events:
        await events.until("synced")
        body = {"image": "alpine", "platform": "docker", "metadata": {"name": "v"}}
        made = await stand.http.post("/v1/containers", json={**body, "env_vars": [{"key": "A", "value": "clear"}]})
        assert made.status_code == 200
        _, row = await events.next()
        assert row["env_vars"][0]["value"] == "***"


async def test_a_name_that_was_deleted_and_made_again_between_two_looks_shows_both(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await stand.create("again")
    await stand.listed("again")
    async with stand.watch() as events:
        await events.until("synced")
        monkeypatch.setattr(changes, "QUICK_PAUSE_S", 1.5)
        await stand.create("marker")
        await events.next()  # a look was just made: the next one is 1.5 s away
        await stand.close("again")
        second = await stand.create("again")
        told = [await events.next(), await events.next()]
    assert [word for word, _ in told] == ["deleted", "added"]
    lives = [row["metadata"]["id"] for _, row in told]
    assert lives == [first["metadata"]["id"], second["metadata"]["id"]]
    assert lives[0] != lives[1]


async def test_fifty_watchers_cost_one_query_a_look_and_none_cost_none(desk: Any, backend: Any) -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=f"127.0.0.1:{port}")))
    metered = await temporal.connect(backend.temporal, runtime=runtime)
    app = create_app(desk.settings, metered, desk.redis)
    async with app.router.lifespan_context(app), served(desk, app) as stand, contextlib.AsyncExitStack() as stack:

        async def asked() -> int:
            return await _queries(port)

        watches = [await stack.enter_async_context(stand.watch()) for _ in range(50)]
        await asyncio.gather(*(watch.until("synced") for watch in watches))
        before, began = await asked(), time.monotonic()
        for name in ("one", "two", "three"):
            assert (await desk.create(name)).status_code == 200  # through another API, whose queries are not counted
            for word, row in await asyncio.gather(*(watch.next() for watch in watches)):
                assert (word, row["metadata"]["name"]) == ("added", name)
        looks = (time.monotonic() - began) / changes.QUICK_PAUSE_S + 2
        assert 0 < await asked() - before <= looks
        await stack.aclose()
        await _gone(app)
        before = await asked()
        await asyncio.sleep(changes.PAUSE_S * 1.5)  # it is the absence of an effect that is shown
        assert await asked() == before


async def test_the_server_ends_watches_when_it_stops(desk: Any) -> None:
    async with served(desk) as stand, stand.watch() as events:
        await events.until("synced")
        began = time.monotonic()
        stand.server.should_exit = True
        with pytest.raises(EOFError):
            await events.next()
        assert time.monotonic() - began < QUICK_S
        await _gone(desk.app)


async def test_temporal_may_be_away_for_a_while(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stand.watch() as events:
        await events.until("synced")
        with monkeypatch.context() as patch:
            patch.setattr(temporal, "changed_query", lambda *_: "NebuNoSuch = 1")  # which Temporal refuses
            await stand.create("unseen")
            with pytest.raises(RPCError):
                await stand.desk.client.count_workflows("NebuNoSuch = 1")
            await asyncio.sleep(changes.PAUSE_S)  # at least one look fails
        assert (await events.next())[1]["metadata"]["name"] == "unseen"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"kind": "contaner"}, "did you mean Container?"),
        ({"kind": "processor"}, "not in this release"),
        ({"label": "team"}, "not KEY=VALUE"),
        ({"name": "a\0"}, "NUL"),
        ({"cursor": "A" * 5000}, "4096"),
    ],
)
async def test_what_cannot_be_watched_is_refused_in_words(stand: Stand, query: dict[str, str], said: str) -> None:
    refused = await stand.http.get("/v1/watch", params=query)
    assert refused.status_code == 422
    assert said in json.dumps(refused.json()["error"])


async def test_more_watches_than_a_process_may_have_are_asked_to_wait(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.watch.WATCHERS_AT_ONCE", 1)
    async with stand.watch() as events:
        await events.until("synced")
        assert (await stand.http.get("/v1/watch")).status_code == 429


async def _create_as(stand: Stand, name: str, headers: dict[str, str]) -> None:
    body = {"image": "alpine", "platform": "docker", "metadata": {"name": name}}
    reply = await stand.http.post("/v1/containers", json=body, headers=headers)
    assert reply.status_code == 200, reply.text


async def _start_with_memo_of(stand: Stand, organization: str, claimed: str) -> None:
    address = ids.Address("container", organization, "default", f"liar-{ids.new_id()}")
    life = ids.new_id()
    await stand.desk.client.start_workflow(
        "Container",
        id=str(address),
        task_queue="nobody",
        memo={
            "metadata": {"name": address.name, "namespace": "default", "owner": claimed, "id": life},
            "spec": {"image": "alpine"},
            "status": {"status": "running"},
        },
        search_attributes=temporal.search_attributes(address, life, "running", None),
    )


async def _queries(port: int) -> int:
    """How many visibility queries Temporal's client has sent, by its own metrics."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    pattern = r'^temporal_(?:long_)?request(?:_total)?\{[^}]*operation="ListWorkflowExecutions"[^}]*\} (\d+)'
    return sum(int(count) for count in re.findall(pattern, text, re.MULTILINE))


async def _gone(app: Any) -> None:
    end = time.monotonic() + LIMIT_S
    while len(app.state.services.changes):
        assert time.monotonic() < end, "a watcher is left"
        await asyncio.sleep(0.02)
