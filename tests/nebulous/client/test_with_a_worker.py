"""Both clients against a real API, a real worker and a simulated cloud."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from nebulous import Client
from nebulous.client import Container, Ended, InvalidRequest, Unreachable
from nebulous.errors import Conflict, NotFound, NotReady, Rejected, Unauthenticated, Unavailable
from nebulous.models.container_fields import EnvVar
from nebulous.models.containers import ContainerSpec, Status
from nebulous.models.resources import MetadataRequest
from tests.doubles.lossy_proxy import proxy
from tests.nebula import eventually, sim_labels
from tests.served_api import ServedApi

QUICK = sim_labels(boot="0s", run_for="0s", log="hello from sim")
STAYS = sim_labels(boot="0s")
LIMIT = timedelta(seconds=20)


@pytest.fixture
def spec(api: ServedApi) -> dict[str, Any]:
    """What any test may create: it ends at once, with a word."""
    return {"image": "busybox", "command": "true", "platform": api.platform.account, "labels": QUICK}


async def names(listing: Any) -> list[str]:
    return [each.metadata.name async for each in listing]


async def test_a_container_is_created_waited_for_read_and_deleted(client: Any, spec: dict[str, Any], organization: str):
    done = await client.containers.create(name="hello", wait=True, limit=LIMIT, **spec)
    assert isinstance(done, Container)
    assert (done.status.status, done.status.exit_code, done.succeeded) == (Status.COMPLETED, 0, True)
    assert (done.metadata.owner, done.metadata.namespace, str(done)) == (organization, "default", "container/hello")
    assert (done.spec.image, done.spec.command) == ("busybox", "true")
    assert b"hello from sim" in await client.containers.logs(done).read()
    assert [line async for line in client.containers.logs("hello", tail=1).lines()] == ["simulated: exit 0"]
    assert "Started" in [event.reason for event in await client.containers.events(done)]
    assert [attempt.outcome for attempt in await client.containers.attempts("hello")] == ["rented"]
    await client.containers.delete(done, wait=True, limit=LIMIT)
    with pytest.raises(NotFound, match="hello"):
        await client.containers.get("hello")
    assert b"hello from sim" in await client.containers.logs(done).read()  # by its id


async def test_a_followed_log_ends_with_the_exit_code(client: Any, spec: dict[str, Any]):
    labels = sim_labels(boot="0.2s", run_for="0.5s", exit_code="3", log="working")
    container = await client.containers.create(**{**spec, "labels": labels})
    log = client.containers.logs(container, follow=True)
    async with asyncio.timeout(20):
        text = b"".join([chunk async for chunk in log])
    assert b"working" in text
    assert (log.end["status"], log.exit_code) == ("failed", 3)


async def test_a_model_goes_in_and_comes_back(client: Any, spec: dict[str, Any]):
    asked = ContainerSpec(
        metadata=MetadataRequest(name="typed", namespace="lab", labels=STAYS),
        command=["echo", "a b"],
        platform=spec["platform"],
        env_vars=[EnvVar(key="A", value="1")],
        restart="OnFailure",
    )
    made = await client.containers.create(asked)
    assert (made.spec.command, made.spec.env_vars, made.spec.image) == (["echo", "a b"], asked.env_vars, None)
    again = await client.containers.create(asked, image=None)
    assert again.metadata.id == made.metadata.id
    await listed(lambda: client.containers.list(namespace="lab"), {"typed"})
    found = await client.containers.by_id(made.metadata.id)
    assert (found.metadata.id, found.metadata.labels) == (made.metadata.id, STAYS)


async def listed(listing: Callable[[], Any], wanted: set[str]) -> list[str]:
    """The list once it is that; lists, and ids, are some milliseconds behind."""

    async def there() -> list[str]:
        found = await names(listing())
        return found if set(found) == wanted else []

    return await eventually(there)


async def test_stop_start_and_restart_are_waited_for(client: Any, spec: dict[str, Any]):
    fields = {**spec, "labels": STAYS}
    running = await client.containers.create(name="again", wait="running", limit=LIMIT, **fields)
    await client.containers.restart(running)
    await client.containers.stop("again")
    stopped = await client.containers.wait(running, "stopped", limit=LIMIT)
    assert stopped.finished
    assert not stopped.succeeded
    await client.containers.start(stopped)
    again = await client.containers.wait(stopped, "running", limit=LIMIT)
    assert again.status.attempt == stopped.status.attempt + 1
    with pytest.raises(NotReady, match=r"is running.*, and not completed after"):
        await client.containers.wait(again, "completed", limit=timedelta(seconds=0.1))


async def test_waiting_for_what_can_no_longer_come_ends_in_words(client: Any, spec: dict[str, Any]):
    fields = {**spec, "labels": sim_labels(boot="0s", run_for="0s", exit_code="3")}
    with pytest.raises(Ended, match=r"container/bad is failed \(Exited 3\).*, and was waited for to be completed"):
        await client.containers.create(name="bad", wait="completed", limit=LIMIT, **fields)
    assert (await client.containers.wait("bad")).status.exit_code == 3
    with pytest.raises(InvalidRequest, match="'complete' is no status") as failure:
        await client.containers.wait("bad", "complete")
    assert failure.value.hint == "did you mean 'completed'?"


async def test_another_life_under_the_name_is_not_the_one_waited_for(client: Any, spec: dict[str, Any]):
    first = await client.containers.create(name="reborn", wait=True, limit=LIMIT, **spec)
    second = await client.containers.create(
        name="reborn", wait=True, limit=LIMIT, **{**spec, "labels": STAYS, "restart": "Always"}
    )
    assert second.metadata.id != first.metadata.id
    assert second.status.status == Status.RUNNING
    asks = ("get", "wait", "stop", "delete", "events")
    for ask in (getattr(client.containers, verb) for verb in asks):
        with pytest.raises(NotFound, match="another has begun under its name"):
            await ask(first)
    assert (await client.containers.get("reborn")).status.status == Status.RUNNING


async def test_a_create_during_a_deletion_is_waited_for_over_the_old_end(client: Any, spec: dict[str, Any]):
    labels = {**STAYS, **sim_labels(delete_takes="0.5s")}
    first = await client.containers.create(name="next", wait="running", limit=LIMIT, **{**spec, "labels": labels})
    await client.containers.delete(first)
    second = await client.containers.create(name="next", wait=True, limit=LIMIT, **spec)
    assert second.metadata.id != first.metadata.id
    assert second.succeeded


async def test_lists_go_on_over_pages(client: Any, spec: dict[str, Any]):
    made = {f"c{number}" for number in range(5)}
    for name in made:
        await client.containers.create(name=name, **{**spec, "labels": {**QUICK, "odd": str(int(name[1]) % 2)}})
    assert len(await listed(lambda: client.containers.list(page=2), made)) == 5
    assert set(await names(client.containers.list(labels={"odd": "1"}, page=1))) == {"c1", "c3"}
    assert await names(client.containers.list(namespace="elsewhere")) == []
    with pytest.raises(Rejected, match="status 'runing' is none of a container"):
        await names(client.containers.list(status="runing"))


async def test_secrets_reach_commands_and_are_shown_to_admins(client: Any, api: ServedApi, spec: dict[str, Any]):
    made = await client.secrets.create("hf", "s3cr3t")
    assert (await client.secrets.get("hf")).metadata.id == made.metadata.id
    assert await client.secrets.reveal("hf") == "s3cr3t"
    with pytest.raises(Conflict):
        await client.secrets.create("hf", "other")
    with pytest.raises(InvalidRequest, match="no secret 'gone'"):
        await client.containers.create(**{**spec, "env_vars": [{"key": "A", "secret_name": "gone"}]})
    assert (
        await client.containers.create(
            wait=True, limit=LIMIT, **{**spec, "env_vars": [{"key": "HF", "secret_name": "hf"}]}
        )
    ).succeeded
    assert "hf" in await names(client.secrets.list())
    await client.secrets.delete("hf")


async def test_the_server_tells_of_itself(client: Any, api: ServedApi, organization: str):
    platforms = {row.account: row for row in await client.platforms()}
    assert platforms[api.platform.account].usable
    assert "GB300" in [row.name for row in await client.accelerators()]
    me = await client.me()
    assert (me.organization, me.role, me.organizations[organization].org_role) == (organization, "admin", "admin")


async def test_what_the_api_refuses_is_raised(client: Any, api: ServedApi, connect: Any, spec: dict[str, Any]):
    await client.containers.create(name="one", **{**spec, "labels": STAYS})
    with pytest.raises(Conflict, match="one") as conflict:
        await client.containers.create(name="one", **{**spec, "labels": STAYS, "command": "false"})
    assert conflict.value.hint
    with pytest.raises(NotFound, match="nope"):
        await client.containers.stop("nope")
    with pytest.raises(Unauthenticated, match="this needs a token"):
        await connect(api.url, namespace="x").me()
    with pytest.raises(Unauthenticated, match="has expired"):
        await connect(api.url, api.token("x", ttl=timedelta(hours=-1))).me()
    with pytest.raises(InvalidRequest, match="unknown accelerator 'L40SS'") as invalid:
        await client.containers.create(**{**spec, "accelerators": ["1:L40SS"]})
    assert invalid.value.problems[0][0] == ["accelerators", 0]


BAD = [
    {"imagee": "busybox", "command": "true"},
    {"image": "busybox", "timeout": "30"},
    {"image": "busybox", "restart": "never"},
    {"image": "busybox", "accelerators": ["A100"]},
    {"image": "busybox", "env_vars": [{"key": "1A", "value": "x"}]},
    {"image": "busybox", "ports": [{"port": 70000}]},
    {"image": "busybox", "metadata": {"name": "a/b/c"}},
    {"image": "busybox", "metadata": {"name": "logs"}},
    {},
]


@pytest.mark.parametrize("document", BAD, ids=str)
async def test_bad_input_is_told_before_anything_is_sent_in_the_words_of_the_api(
    client: Any, document: dict[str, Any], kind: str
):
    with pytest.raises(InvalidRequest) as remote:
        await client.api.create("containers", document)
    await client.aclose()  # nothing can be sent from here on
    with pytest.raises(InvalidRequest) as local:
        await client.containers.create(document)
    assert (local.value.message, local.value.problems) == (remote.value.message, remote.value.problems)


async def test_a_create_whose_answer_was_lost_is_repeated_with_its_key_and_makes_one(
    api: ServedApi, organization: str, connect: Any, spec: dict[str, Any], short_pauses: None
):
    with proxy(api.url) as between:
        client = connect(between.url, api.token(organization))
        between.swallow = 2
        made = await client.containers.create(**{**spec, "labels": STAYS})  # no name: each key would give another
        first, *more = between.keys()
        assert len(more) == 2
        assert set(more) == {first}
        await client.containers.wait(made, "running", limit=LIMIT)
        assert await names(client.containers.list()) == [made.metadata.name]
        between.swallow = 4
        with pytest.raises(Unreachable, match="does not answer"):
            await client.containers.get(made.metadata.name)
        await client.aclose()


async def test_a_key_given_by_the_caller_is_good_for_one_life(client: Any, spec: dict[str, Any]):
    first = await client.containers.create(name="keyed", wait=True, limit=LIMIT, idempotency_key="k1", **spec)
    again = await client.containers.create(name="keyed", idempotency_key="k1", **spec)
    assert again.metadata.id == first.metadata.id


async def test_a_followed_log_survives_a_restart_of_the_api(client: Any, api: ServedApi, spec: dict[str, Any]):
    labels = sim_labels(boot="0s", run_for="3s", log="a line that is written")
    container = await client.containers.create(wait="running", limit=LIMIT, **{**spec, "labels": labels})
    log, got = client.containers.logs(container, follow=True), b""
    async with asyncio.timeout(40):
        async for chunk in log:
            if not got:
                await asyncio.to_thread(api.stop)
                await asyncio.to_thread(api.start)
            got += chunk
    assert log.exit_code == 0
    assert got == await client.containers.logs(container).read()


async def test_a_wait_survives_a_restart_of_the_api(client: Any, api: ServedApi, spec: dict[str, Any]):
    labels = sim_labels(boot="0s", run_for="2s")
    container = await client.containers.create(wait="running", limit=LIMIT, **{**spec, "labels": labels})
    waiting = asyncio.create_task(client.containers.wait(container, limit=timedelta(seconds=40)))
    await asyncio.to_thread(api.stop)
    await asyncio.to_thread(api.start)
    assert (await waiting).succeeded


async def test_a_server_that_stays_away_is_unreachable(connect: Any, short_pauses: None):
    client = connect("http://127.0.0.1:9", patience=timedelta(seconds=0.1))
    with pytest.raises(Unreachable, match="Connection refused"):
        await client.platforms()
    with pytest.raises(Unavailable):
        await client.containers.logs("x", follow=True).read()
    with pytest.raises(Unavailable):
        async for _ in client.containers.watch():
            pass


def test_threads_share_one_blocking_client(api: ServedApi, organization: str, spec: dict[str, Any]):
    with Client(api.url, api.token(organization)) as client, ThreadPoolExecutor(8) as threads:

        def run(number: int) -> bytes:
            fields = {**spec, "labels": sim_labels(boot="0s", run_for="0s", log=f"number {number}")}
            return client.containers.logs(client.containers.create(wait=True, limit=LIMIT, **fields)).read()

        for number, text in enumerate(threads.map(run, range(16))):
            assert f"number {number}\n".encode() in text
