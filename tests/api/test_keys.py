"""An Idempotency-Key stands for one body: the same again is the same request, another one is told so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.keys import digest
from tests.nebula import eventually, sim_labels

FOO = "/v1/containers/default/foo"
KEY = {"Idempotency-Key": "once"}
LONG_RUN = sim_labels(boot="0s")


def reused(reply: Any, key: str = "once") -> bool:
    """True for the answer to a key that comes back with another body; it says which, why, and what to do."""
    if reply.status_code != 422:
        return False
    error = reply.json()["error"]
    assert error["type"] == "Rejected"
    assert f"Idempotency-Key {key!r} was used with another body already" in error["message"]
    assert "foo" in error["message"]
    assert "under a new key" in error["hint"]
    return True


async def send(desk: Any, method: str, body: dict[str, Any] | str, path: str = "", key: str = "once") -> Any:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    if isinstance(body, str):
        return await desk.http.request(method, path, content=body, headers=headers)
    return await desk.http.request(method, path, json=body, headers=headers)


def body(**fields: Any) -> dict[str, Any]:
    return {"image": "alpine", "platform": "docker", "metadata": {"name": "foo"}, **fields}


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/containers"), ("PUT", FOO)])
async def test_another_body_is_refused_and_the_same_in_other_order_is_the_same(
    desk: Any, method: str, path: str
) -> None:
    made = await send(desk, method, body(), path)
    assert made.status_code == 200
    assert reused(await send(desk, method, body(image="busybox"), path))
    assert reused(await send(desk, method, body(timeout="1h"), path))
    written = '{"platform":"docker",\n  "metadata": {"name":"foo"} , "image":"alpine"}'
    again = await send(desk, method, written, path)
    assert (again.status_code, again.json()) == (200, made.json())
    assert "request" not in made.json()["metadata"]  # the digest is nobody's business
    assert (await desk.http.get(FOO)).json() == made.json()


async def test_another_name_under_the_same_key_is_another_body(desk: Any) -> None:
    assert (await send(desk, "POST", body(), "/v1/containers")).status_code == 200
    assert reused(await send(desk, "POST", body(metadata={"name": "bar"}), "/v1/containers"))
    assert reused(await send(desk, "PUT", body(metadata={}), "/v1/containers/default/bar"))
    assert (await desk.http.get("/v1/containers/default/bar")).status_code == 404
    lives = [
        (await send(desk, "POST", body(metadata={"name": name}), "/v1/containers", key=name)).json()["metadata"]["id"]
        for name in ("a", "b")
    ]
    assert len(set(lives)) == 2


async def test_without_a_name_the_key_gives_it_and_still_stands_for_one_body(desk: Any) -> None:
    nameless = {"image": "alpine", "platform": "docker"}
    first = await send(desk, "POST", nameless, "/v1/containers")
    assert (await send(desk, "POST", nameless, "/v1/containers")).json() == first.json()
    other = await send(desk, "POST", {**nameless, "image": "busybox"}, "/v1/containers")
    assert (other.status_code, "was used with another body" in other.text) == (422, True)


async def test_of_two_bodies_at_once_under_one_key_one_is_made_and_the_other_refused(desk: Any) -> None:
    bodies = [body(image=f"image{number}") for number in range(6)]
    replies = await asyncio.gather(*(send(desk, "POST", each, "/v1/containers") for each in bodies))
    made = [reply for reply in replies if reply.status_code == 200]
    assert len(made) == 1
    assert sum(reused(reply) for reply in replies) == 5
    assert (await desk.http.get(FOO)).json()["image"] == made[0].json()["image"]


async def test_a_secrets_value_is_told_apart_and_kept_nowhere(desk: Any) -> None:
    secret = {"metadata": {"name": "foo"}, "value": "hunter2-hunter2"}
    assert (await send(desk, "POST", secret, "/v1/secrets")).status_code == 200
    assert (await send(desk, "POST", secret, "/v1/secrets")).status_code == 200
    assert reused(await send(desk, "POST", {**secret, "value": "hunter3"}, "/v1/secrets"))
    handle = desk.client.get_workflow_handle(f"secret/{desk.organization}/default/foo")
    described = await handle.describe()
    kept = (await described.memo())["metadata"]["request"]
    assert len(kept) == 16
    assert "hunter2" not in str(await described.memo())
    assert digest(b"k" * 32, secret) != digest(b"l" * 32, secret)  # keyed: nobody can try values against it


async def test_a_change_keeps_what_it_was_asked_for_too(world: Any) -> None:
    created = {"image": "alpine", "platform": world.platform, "metadata": {"name": "foo", "labels": LONG_RUN}}
    assert (await send(world.desk, "POST", created, "/v1/containers", key="first")).status_code == 200
    await world.until("running")
    asked = {"timeout": "1h", "metadata": {"labels": {"team": "x"}}}
    assert (await send(world.desk, "PATCH", asked, FOO)).headers["X-Nebu-Outcome"] == "changed"
    assert reused(await send(world.desk, "PATCH", {**asked, "timeout": "2h"}, FOO))
    again = await send(world.desk, "PATCH", '{"metadata":{"labels":{"team":"x"}}, "timeout":"1h"}', FOO)
    assert again.status_code == 200
    assert (await world.row())["timeout"] == "1h"
    # what made it is remembered as it was asked for, not as the container is by now
    assert (await send(world.desk, "POST", created, "/v1/containers", key="first")).json() == await world.row()
    assert reused(await send(world.desk, "POST", {**created, "timeout": "1h"}, "/v1/containers", key="first"), "first")
    assert reused(await send(world.desk, "PATCH", {"timeout": "3h"}, FOO, key="first"), "first")


async def test_a_race_of_two_changes_under_one_key_makes_one(world: Any) -> None:
    await world.create(labels=LONG_RUN)
    await world.until("running")
    asked = [{"timeout": f"{number}h"} for number in range(1, 5)]
    replies = await asyncio.gather(*(send(world.desk, "PATCH", each, FOO) for each in asked))
    done = [reply for reply in replies if reply.status_code == 200]
    assert len(done) == 1
    assert sum(reused(reply) for reply in replies) == 3
    assert (await world.row())["timeout"] == done[0].json()["timeout"]


async def test_a_finished_life_a_coming_one_and_one_that_is_over_know_their_bodies(world: Any) -> None:
    labels = {"metadata": {"name": "foo", "labels": sim_labels(boot="0s", run_for="0s", delete_takes="1s")}}
    first = {"image": "alpine", "platform": world.platform, **labels}
    assert (await send(world.desk, "POST", first, "/v1/containers")).status_code == 200
    await world.until("completed")
    assert reused(await send(world.desk, "POST", {**first, "image": "x"}, "/v1/containers"))
    second = {**first, "image": "busybox"}
    assert (await send(world.desk, "PUT", second, f"{FOO}?replace=true", key="two")).status_code in (200, 202)
    assert reused(await send(world.desk, "PUT", first, f"{FOO}?replace=true", key="two"), "two")

    async def reborn() -> bool:
        return (await world.row()).get("image") == "busybox"

    await eventually(reborn)
    over = await send(world.desk, "POST", {**first, "image": "x"}, "/v1/containers")
    assert reused(over), over.text  # of the last lives the bodies are known as long as their ids
    same = await send(world.desk, "POST", first, "/v1/containers")
    assert (same.status_code, "which is over" in same.text) == (409, True)
    await world.desk.http.delete(f"{FOO}?wait=true")
    assert reused(await send(world.desk, "PUT", first, f"{FOO}?replace=true", key="two"), "two")
