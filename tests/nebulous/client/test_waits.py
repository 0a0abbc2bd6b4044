"""Waiting by one watch, through both clients: what it makes of events, cuts and refusals; then against a real API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from nebulous.client import Container, Ended
from nebulous.client._async import api as async_api
from nebulous.client._async import looks as async_looks
from nebulous.client._sync import looks as sync_looks
from nebulous.errors import NotFound, NotReady, Unavailable
from tests.doubles import rest
from tests.doubles.lossy_proxy import proxy
from tests.nebula import eventually, sim_labels
from tests.served_api import ServedApi

FOO = "/v1/containers/lab/foo"
WATCH = "/v1/watch"
LIMIT = 20


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch is begun at once, and looks in between stay out."""
    for module in (async_looks, sync_looks):
        monkeypatch.setattr(module, "QUICK_S", 0.0)
        monkeypatch.setattr(module, "LOOK_ANYWAY_S", 60.0)


@pytest.fixture
def server() -> Iterator[rest.Server]:
    with rest.rest_server() as running:
        yield running


@pytest.fixture
def scripted(server: rest.Server, connect: Any, short_pauses: None, at_once: None) -> Any:
    """A client of the server that answers by script."""
    return connect(server.url, "a-token", organization="acme", namespace="lab", patience=timedelta(seconds=0.2))


def row(status: str, version: int, name: str = "foo", life: str = "", **more: Any) -> dict[str, Any]:
    made = rest.container(name, status=status, **more)
    made["metadata"] |= {"namespace": "lab", "resource_version": str(version), "id": life or made["metadata"]["id"]}
    return made


def told(*parts: tuple[str, dict[str, Any]], first: int = 1) -> rest.Reply:
    """A watch's events; the connection breaks behind them."""
    return rest.events(*[(first + at, word, body) for at, (word, body) in enumerate(parts)], cut=True)


async def test_a_wait_takes_what_one_watch_tells_over_a_cut(scripted: Any, server: Any):
    server.on("GET", FOO, row("pending", 1))
    first = told(("added", row("pending", 1)), ("synced", {}), ("modified", row("running", 2)))
    then = told(("modified", row("completed", 3, exit_code=0)), first=4)
    server.on("GET", WATCH, first, then)
    done = await scripted.containers.wait("foo", limit=LIMIT)
    assert (done.succeeded, done.metadata.resource_version) == (True, "3")
    begun, resumed = server.requests("GET", WATCH)[:2]  # the break behind the last event may be met by a third
    assert begun.query == {"kind": ["containers"], "owner": ["local"], "namespace": ["lab"], "name": ["foo"]}
    assert resumed.query == {**begun.query, "cursor": ["3"]}
    assert len(server.requests("GET", FOO)) == 2  # for its name, and once before the watch


async def test_an_end_that_nobody_looked_at_in_time_is_seen(scripted: Any, server: Any):
    server.on("GET", FOO, row("running", 2))
    again = [("modified", row("failed", 3, exit_code=3)), ("modified", row("running", 5, attempt=2))]
    server.on("GET", WATCH, told(("added", row("running", 2)), ("synced", {}), *again))
    assert (await scripted.containers.wait("foo", limit=LIMIT)).status.exit_code == 3
    with pytest.raises(Ended, match="is failed") as failure:
        await scripted.containers.wait("foo", "completed", limit=LIMIT)
    assert [each.status.exit_code for each in failure.value.containers] == [3]


async def test_one_that_ended_and_was_deleted_at_once_had_ended(scripted: Any, server: Any):
    server.on("GET", FOO, row("running", 2))
    server.on("GET", WATCH, told(("added", row("running", 2)), ("synced", {}), ("deleted", row("completed", 4))))
    assert (await scripted.containers.wait("foo", limit=LIMIT)).succeeded
    server.on("GET", WATCH, told(("added", row("running", 2)), ("synced", {}), ("deleted", row("stopping", 4))))
    with pytest.raises(NotFound, match="container 'foo' was deleted"):
        await scripted.containers.wait("foo", limit=LIMIT)


async def test_what_visibility_still_shows_from_before_the_wait_is_no_end(scripted: Any, server: Any):
    server.on("GET", FOO, row("pending", 7))
    late = [("modified", row("running", 8)), ("modified", row("completed", 9))]
    server.on("GET", WATCH, told(("added", row("stopped", 6)), ("synced", {}), *late))
    done = await scripted.containers.wait("foo", limit=LIMIT)
    assert (done.status.status, done.metadata.resource_version) == ("completed", "9")


async def test_another_life_is_told_apart(scripted: Any, server: Any):
    server.on("GET", FOO, row("running", 2, life="one"))
    deleted = [("deleted", row("stopping", 3, life="one")), ("added", row("completed", 1, life="two"))]
    server.on("GET", WATCH, told(("added", row("running", 2, life="one")), ("synced", {}), *deleted))
    with pytest.raises(NotFound, match="was deleted"):
        await scripted.containers.wait("foo", limit=LIMIT)
    server.on("GET", WATCH, told(("added", row("completed", 1, life="two")), ("synced", {})))
    with pytest.raises(NotFound, match="another has begun under its name"):
        await scripted.containers.wait("foo", limit=LIMIT)


@pytest.mark.parametrize(
    "refusal",
    [
        rest.refusal(404, "NotFound", "no such route"),
        rest.refusal(429, "RateLimited", "500 watches go on through this API"),
        rest.hang_up(),
        rest.Reply(200, b"event: added\ndata: no json\n\n", [("Content-Type", "text/event-stream")]),
    ],
    ids=["an older server", "too many watch", "no answer", "no events"],
)
async def test_where_there_is_no_watch_a_wait_asks_again(scripted: Any, server: Any, refusal: rest.Reply):
    server.on("GET", FOO, *[row("running", 2)] * 4, row("completed", 3))
    server.on("GET", WATCH, refusal)
    assert (await scripted.containers.wait("foo", limit=LIMIT)).succeeded
    assert server.requests("GET", WATCH)


async def test_a_server_that_goes_away_for_good_ends_the_wait(scripted: Any, server: Any):
    server.on("GET", FOO, row("running", 2), row("running", 2), rest.hang_up())
    server.on("GET", WATCH, told(("added", row("running", 2)), ("synced", {})), rest.hang_up())
    with pytest.raises(Unavailable, match="does not answer"):
        await scripted.containers.wait("foo", limit=LIMIT)


async def test_several_share_one_watch_and_come_back_in_their_order(scripted: Any, server: Any):
    for name in ("a", "b", "c"):
        server.on("GET", f"/v1/containers/lab/{name}", row("running", 1, name))
    other = ("modified", row("completed", 2, "other"))
    ends = [("modified", row("completed", 2, name)) for name in ("c", "a", "b")]
    present = [("added", row("running", 1, name)) for name in ("a", "b", "c", "other")]
    server.on("GET", WATCH, told(*present, ("synced", {}), other, *ends))
    found = await scripted.containers.wait(["a", "b", "c"], limit=LIMIT)
    assert [each.metadata.name for each in found] == ["a", "b", "c"]
    each = [one.metadata.name async for one in scripted.containers.as_completed(["a", "b", "c"], limit=LIMIT)]
    assert each == ["c", "a", "b"]
    begun = [asked.query for asked in server.requests("GET", WATCH) if "cursor" not in asked.query]
    assert [query.get("name") for query in begun] == [None, None]  # one for each of the two waits


async def test_the_same_name_in_two_organizations_is_two(scripted: Any, server: Any):
    server.on("GET", FOO, *[row("running", 1, life="one")] * 2, row("completed", 2, life="one"))
    waited = [Container.of(row("running", 1, life="one")) for _ in range(2)]
    waited[0].metadata.owner, waited[1].metadata.owner = "acme", "other"
    found = await scripted.containers.wait(waited, limit=LIMIT)
    assert all(each.succeeded for each in found)
    assert {asked.query["owner"][0] for asked in server.requests("GET", FOO)} == {"acme", "other"}
    assert not server.requests("GET", WATCH)  # which is one organization's


async def test_who_is_late_is_named(scripted: Any, server: Any):
    names = [f"n{number}" for number in range(5)]
    for name in names:
        server.on("GET", f"/v1/containers/lab/{name}", row("completed" if name == "n0" else "running", 1, name))
    server.on("GET", WATCH, told(("synced", {})))
    with pytest.raises(NotReady) as failure:
        await scripted.containers.wait(names, limit=1)
    assert failure.value.message == (
        "container/n1 is running; container/n2 is running; container/n3 is running; "
        "1 more are under way, and not finished after 1s"
    )
    assert [each.metadata.name for each in failure.value.containers] == names[1:]
    assert await scripted.containers.wait([]) == []


# --- a real API, a real worker, a simulated cloud --------------------------------------------------------


@pytest.fixture
def create(client: Any, api: ServedApi) -> Callable[..., Any]:
    async def made(name: str, **labels: str) -> Any:
        return await client.containers.create(
            name=name, image="busybox", platform=api.platform.account, labels=sim_labels(boot="0s", **labels)
        )

    return made


async def test_five_are_waited_for_on_one_connection_that_breaks(
    api: ServedApi, organization: str, connect: Any, create: Callable[..., Any], at_once: None
):
    made = [await create(f"n{number}", run_for="3s", exit_code=str(number)) for number in range(5)]
    with proxy(api.url) as between:
        client = connect(between.url, api.token(organization))

        def watches() -> list[str]:
            heads = b"".join(between.sent).decode("latin-1").splitlines()
            return [head for head in heads if head.startswith("GET /v1/watch")]

        waiting = asyncio.create_task(client.containers.wait([*made[:3], "n3", "n4"], limit=LIMIT))
        await eventually(watched(watches), what="the watch")
        between.cut()
        ended = await waiting
        assert [each.status.exit_code for each in ended] == [0, 1, 2, 3, 4]
        assert 1 <= len(watches()) <= 3
        await client.aclose()


def watched(watches: Callable[[], list[str]]) -> Callable[[], Any]:
    async def there() -> bool:
        return bool(watches())

    return there


async def test_each_is_told_as_soon_as_it_is_there(client: Any, create: Callable[..., Any], at_once: None):
    slow, quick = await create("slow"), await create("quick", run_for="0s")
    each = client.containers.as_completed([slow, quick], limit=LIMIT)
    async with asyncio.timeout(LIMIT):
        async for container in each:
            assert container.metadata.name == "quick"
            await client.containers.stop(slow)
            break
    assert (await client.containers.wait(slow, limit=LIMIT)).status.status == "stopped"


async def test_more_waits_than_may_watch_and_none_keeps_its_connection(
    client: Any, create: Callable[..., Any], at_once: None
):
    names = [f"n{number}" for number in range(async_api.WATCHES_AT_ONCE + 3)]
    await asyncio.gather(*(create(name, run_for="1s") for name in names))
    done = await asyncio.gather(*(client.containers.wait(name, limit=LIMIT) for name in names))
    assert all(each.succeeded for each in done)
    watches, taken = client.api.watches, 0

    async def all_free() -> bool:  # a thread lets go of its connection at the next sign of life
        nonlocal taken
        taken += watches.acquire(blocking=False)
        return taken == async_api.WATCHES_AT_ONCE

    await eventually(all_free, what="every watch is closed")
