"""Both clients against a server that answers by script: retries, watches, apply, replies of newer servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from nebulous.client import Container, ContainerChange, InvalidRequest, Place
from nebulous.errors import Conflict, Rejected, Unavailable
from nebulous.models.containers import Status
from tests.doubles import rest

CREATE = "/v1/containers"
FOO = "/v1/containers/default/foo"
WATCH = "/v1/watch"


@pytest.fixture
def server() -> Iterator[rest.Server]:
    with rest.rest_server() as running:
        yield running


@pytest.fixture
def client(server: rest.Server, connect: Any, short_pauses: None) -> Any:
    return connect(server.url, "a-token", organization="acme", namespace="lab", patience=timedelta(seconds=0.2))


async def test_one_key_is_kept_over_the_repetitions_of_a_call_and_the_next_call_has_another(client: Any, server: Any):
    busy = rest.refusal(503, "Unavailable", "no worker answered")
    server.on("POST", CREATE, rest.hang_up(), busy, rest.container(), rest.container())
    for _ in range(2):
        await client.containers.create(image="busybox", name="foo")
    keys = [asked.headers["idempotency-key"] for asked in server.requests("POST", CREATE)]
    assert len(keys) == 4
    assert [len(set(keys[:3])), len(set(keys))] == [1, 2]


async def test_503_is_raised_when_it_stays_and_says_how_long_the_server_asks_to_wait(client: Any, server: Any):
    reply = rest.refusal(503, "Unavailable", "Temporal does not answer", "start it")
    server.on("GET", FOO.replace("default", "lab"), reply)
    with pytest.raises(Unavailable, match="Temporal does not answer") as failure:
        await client.containers.get("foo")
    assert failure.value.hint == "start it"
    assert len(server.asked) == 4
    reply.headers = [("Retry-After", "600"), ("Content-Type", "application/json")]
    with pytest.raises(Unavailable) as failure:
        await client.containers.get("foo")
    assert (failure.value.retry_after, len(server.asked)) == (600, 5)


async def test_what_was_asked_says_where(client: Any, server: Any):
    server.on("POST", CREATE, rest.container())
    await client.containers.create({"image": "busybox"}, name="foo", labels={"a": "b"}, env_vars=None)
    await client.containers.create(image="busybox", name="Agentsea/foo", namespace="other")
    first, second = server.requests("POST", CREATE)
    assert first.query == {"owner": ["acme"]}
    assert first.body["metadata"] == {"name": "foo", "namespace": "lab", "labels": {"a": "b"}}
    assert "env_vars" not in first.body
    assert second.query == {}
    assert second.body["metadata"] == {"name": "foo", "namespace": "other", "owner": "Agentsea"}
    server.on("POST", "/v1/containers/lab/foo/stop", rest.container())
    await client.containers.stop("Agentsea/foo")
    assert server.asked[-1].query == {"owner": ["Agentsea"]}
    with pytest.raises(InvalidRequest, match="one slash at most"):
        await client.containers.stop("a/b/c")


async def test_what_a_newer_server_adds_does_no_harm(client: Any, server: Any):
    row = rest.container(
        status="hibernating",
        mood="fine",
        spec={"telepathy": True, "volumes": [{"source": "a", "dest": "b", "driver": "QUANTUM"}]},
    )
    row["metadata"]["star_sign"] = "leo"
    server.on("GET", "/v1/containers/lab/foo", row)
    found = await client.containers.get("foo")
    assert isinstance(found, Container)
    assert (found.status.status, found.finished) == ("hibernating", False)
    assert found.spec.volumes
    assert found.spec.volumes[0].driver == "QUANTUM"
    assert found.raw["telepathy"] is True
    server.on("GET", "/v1/containers/lab/foo", rest.container(status="running"))
    assert (await client.containers.get("foo")).status.status is Status.RUNNING


async def test_something_else_on_that_port_is_recognised(client: Any, server: Any):
    server.on("GET", "/v1/containers/lab/foo", {"hello": "world"})
    with pytest.raises(Unavailable, match="the server's answer is no Metadata"):
        await client.containers.get("foo")
    server.on("GET", "/v1/users/me", rest.Reply(200, b"<html>", [("Content-Type", "text/html")]))
    with pytest.raises(Unavailable, match="is a Nebulous API there"):
        await client.me()


@pytest.mark.parametrize("outcome", ["new", "same", "changed", "next"])
async def test_an_apply_says_what_came_of_it(client: Any, server: Any, outcome: str):
    reply = rest.Reply(200, rest.container(), [("X-Nebu-Outcome", outcome), ("Content-Type", "application/json")])
    server.on("PUT", "/v1/containers/lab/foo", reply)
    applied = await client.containers.apply(image="busybox", name="foo", resource_version="7")
    assert (applied.outcome, applied.container.metadata.name) == (outcome, "foo")
    (asked,) = server.requests("PUT")
    assert asked.query == {"owner": ["acme"]}
    assert asked.body["metadata"]["resource_version"] == "7"
    await client.containers.apply(image="busybox", name="foo", replace=True)
    assert server.asked[-1].query == {"owner": ["acme"], "replace": ["true"]}


async def test_an_apply_that_needs_a_new_life_is_refused_and_a_plan_says_why(client: Any, server: Any):
    server.on("PUT", "/v1/containers/lab/foo", rest.refusal(409, "Conflict", "image needs a new life", "replace"))
    with pytest.raises(Conflict, match="needs a new life"):
        await client.containers.apply(image="alpine", name="foo")
    changes = [{"field": "image", "from": "busybox", "to": "alpine", "in_place": False}]
    server.on("PUT", "/v1/containers/lab/foo", {"outcome": "replace", "changes": changes})
    plan = await client.containers.plan(image="alpine", name="foo")
    (change,) = plan.changes
    assert (change.field, change.before, change.after, plan.in_place) == ("image", "busybox", "alpine", False)
    assert server.asked[-1].query == {"owner": ["acme"], "dry_run": ["true"]}
    with pytest.raises(InvalidRequest, match="is required to say which container"):
        await client.containers.apply(image="alpine")


def version(name: str, number: int, **more: Any) -> dict[str, Any]:
    row = rest.container(name, **more)
    row["metadata"]["resource_version"] = str(number)
    return row


def written(*parts: Any, cut: bool = True) -> rest.Reply:
    """A watch's events; ids only where the server has something to go on from."""
    return rest.events(*parts, cut=cut)


async def told(watch: Any, count: int) -> list[tuple[str, str]]:
    """The next so many changes, as word and name."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(20), watch:
        async for change in watch:
            assert isinstance(change, ContainerChange)
            found.append((change.kind, change.container.metadata.name if change.container else ""))
            if len(found) == count:
                break
    return found


async def test_a_watch_tells_what_is_there_and_each_change_once_over_broken_connections(client: Any, server: Any):
    a, b = version("a", 1), version("b", 1)
    server.on(
        "GET",
        WATCH,
        written((None, "added", a)),  # cut in the middle of the snapshot: it comes again
        written((None, "added", a), (None, "added", b), (1, "synced", {}), "ping", (2, "modified", version("a", 2))),
        rest.hang_up(),
        written((2, "modified", version("a", 2)), (3, "synced", {}), (4, "deleted", version("b", 2))),
    )
    watch = client.containers.watch(namespace="lab", labels={"x": "y"})
    expected = [("added", "a"), ("added", "b"), ("synced", ""), ("modified", "a"), ("deleted", "b")]
    assert await told(watch, 5) == expected
    assert watch.cursor == "4"
    queries = [asked.query for asked in server.requests("GET", WATCH)]
    usual = {"kind": ["container"], "namespace": ["lab"], "owner": ["acme"], "label": ["x=y"]}
    assert queries == [usual, usual, {**usual, "cursor": ["2"]}, {**usual, "cursor": ["2"]}]


async def test_a_watch_that_was_away_too_long_finds_out_what_went(client: Any, server: Any):
    a, b = version("a", 1), version("b", 1)
    server.on(
        "GET",
        WATCH,
        written((None, "added", a), (None, "added", b), (1, "synced", {})),
        written((None, "reset", {}), (None, "added", version("b", 1, id="another")), (9, "synced", {}), "ping"),
    )
    watch = client.containers.watch()
    expected = [("added", "a"), ("added", "b"), ("synced", ""), ("deleted", "b"), ("added", "b"), ("deleted", "a")]
    assert await told(watch, 6) == expected
    assert watch.cursor == "9"


async def test_a_watch_goes_on_from_the_cursor_of_another_and_says_when_it_cannot(client: Any, server: Any):
    server.on(
        "GET",
        WATCH,
        written((5, "modified", version("a", 2)), (6, "deleted", version("b", 2)), (7, "synced", {})),
        written((None, "reset", {}), (None, "added", version("c", 1)), (8, "synced", {})),
    )
    expected = [("modified", "a"), ("deleted", "b"), ("synced", ""), ("reset", ""), ("added", "c"), ("deleted", "a")]
    assert await told(client.containers.watch(cursor="4"), 6) == expected
    assert [asked.query.get("cursor") for asked in server.requests("GET", WATCH)] == [["4"], ["7"]]


async def test_a_watch_that_is_refused_is_not_tried_again(client: Any, server: Any):
    server.on("GET", WATCH, rest.refusal(422, "Rejected", "there is no such namespace"))
    with pytest.raises(Rejected, match="no such namespace"):
        await told(client.containers.watch(), 1)
    assert len(server.asked) == 1


async def test_a_log_that_is_left_early_lets_go_of_its_connection(client: Any, server: Any):
    logs = "/v1/containers/lab/foo/logs"
    server.on("GET", logs, rest.events((2, "log", {"text": "a\nb"}), (3, "log", {"text": "\nc"}), (None, "end", {})))
    async with client.containers.logs("foo", follow=True) as log:
        async for chunk in log:
            assert chunk == b"a\nb"
            break
    assert log.offset == 2
    assert [line async for line in client.containers.logs("foo", follow=True).lines()] == ["a", "b", "c"]


async def test_a_log_goes_on_at_an_offset(client: Any, server: Any):
    logs = "/v1/containers/lab/foo/logs"
    server.on("GET", logs, rest.events((9, "log", {"text": "d"}), (None, "end", {"exit_code": 0})))
    log = client.containers.logs("foo", follow=True, offset=8)
    assert log.offset == 8
    assert (await log.read(), log.exit_code) == (b"d", 0)
    assert server.asked[0].query == {"follow": ["true"], "owner": ["acme"], "offset": ["8"]}


async def test_what_the_server_notices_is_logged(client: Any, server: Any, caplog: pytest.LogCaptureFixture):
    headers = [("X-Nebu-Notice", "looks like a credential"), ("Content-Type", "application/json")]
    server.on("POST", CREATE, rest.Reply(200, rest.container(), headers))
    await client.containers.create(image="busybox")
    assert [record.getMessage() for record in caplog.records if record.name == "nebulous.client"] == [
        "looks like a credential"
    ]


async def test_what_has_no_types_yet_is_there_without(client: Any, server: Any, kind: str):
    place = Place("containers", "foo", "lab")
    path = "/v1/containers/lab/foo"
    server.on("POST", CREATE, {"outcome": "new"})
    assert await client.api.foresee("containers", {"image": "busybox"}) == {"outcome": "new"}
    assert server.asked[-1].query == {"dry_run": ["true"]}
    server.on("GET", f"{path}/stats", {"cpu_percent": 1.5})
    assert await client.api.stats(place) == {"cpu_percent": 1.5}
    server.on("GET", f"{path}/files", {"kind": "file"})
    assert await client.api.stat(place, "/etc/a b") == {"kind": "file"}
    assert server.asked[-1].query == {"path": ["/etc/a b"], "stat": ["true"]}
    server.on("PUT", f"{path}/files", {}, rest.refusal(422, "Rejected", "no space is left"))
    await client.api.write_files(place, "/data", pieces(kind))
    assert (server.asked[-1].body, server.asked[-1].query) == (b"onetwo", {"path": ["/data"]})
    with pytest.raises(Rejected, match="no space is left"):
        await client.api.write_files(place, "/data", pieces(kind))
    server.on("GET", "/v1/slow", rest.refusal(503, "Unavailable", "later"), {"a": 1})
    with pytest.raises(Unavailable, match="later"):
        await client.api.glance("/v1/slow", 5.0)
    assert await client.api.glance("/v1/slow", 5.0) == {"a": 1}


def pieces(kind: str) -> Any:
    """Bytes that come bit by bit, as each client takes them."""

    async def slowly() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            yield piece

    return slowly() if kind == "async" else iter((b"one", b"two"))


async def test_files_come_as_they_are_read(client: Any, server: Any, kind: str):
    server.on("GET", "/v1/containers/lab/foo/files", rest.Reply(200, b"tar", [("Content-Type", "application/x-tar")]))
    place = Place("containers", "foo", "lab")
    if kind == "async":
        async with client.api.read_files(place, "/data") as archive:
            assert b"".join([piece async for piece in archive]) == b"tar"
    else:
        with await client.api.read_files(place, "/data") as archive:
            assert b"".join(archive) == b"tar"
