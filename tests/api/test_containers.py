"""Containers through the API, on a Temporal with no worker: create, read, list, delete, refuse."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from nebulous import temporal
from nebulous.ids import Address


async def test_a_created_container_is_shown_as_it_was_sent(desk: Any) -> None:
    created = await desk.create(env_vars=[{"key": "HELLO", "value": "world"}], command=["echo", "a b"])
    assert created.status_code == 200, created.text
    row = created.json()
    assert row["metadata"]["name"] == "foo"
    assert row["metadata"]["owner"] == row["metadata"]["owner_id"] == desk.organization
    assert row["metadata"]["namespace"] == "default"
    assert row["env"] == row["env_vars"] == [{"key": "HELLO", "value": "world", "secret_name": None}]
    assert row["command"] == "echo 'a b'"
    assert row["argv"] == ["echo", "a b"]
    assert row["restart"] == "Never"
    assert row["volumes"] is None
    assert row["status"]["status"] == "defined"
    got = await desk.http.get("/v1/containers/default/foo")
    assert got.json() == row
    assert (await desk.http.get("/v1/containers/-/FOO")).json()["metadata"]["id"] == row["metadata"]["id"]


async def test_the_same_spec_again_is_the_same_container_with_no_worker_alive(desk: Any) -> None:
    first = await desk.create()
    again = await desk.create()
    assert again.status_code == 200
    assert again.json()["metadata"]["id"] == first.json()["metadata"]["id"]
    assert (first.headers["X-Nebu-Outcome"], again.headers["X-Nebu-Outcome"]) == ("new", "same")


async def test_twenty_at_once_make_one_container(desk: Any) -> None:
    replies = await asyncio.gather(*(desk.create() for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["metadata"]["id"] for reply in replies}) == 1


async def test_a_repeated_idempotency_key_gives_the_same_life_also_without_a_name(desk: Any) -> None:
    body = {"image": "alpine", "platform": "docker"}
    first, again = [
        (await desk.http.post("/v1/containers", json=body, headers={"Idempotency-Key": "k1"})).json() for _ in range(2)
    ]
    assert first["metadata"] == again["metadata"]
    other = (await desk.http.post("/v1/containers", json=body, headers={"Idempotency-Key": "k2"})).json()
    assert other["metadata"]["name"] != first["metadata"]["name"]


async def test_a_repeated_request_does_not_raise_the_dead(desk: Any) -> None:
    first = await desk.create(headers={"Idempotency-Key": "once"})
    await _handle(desk, "foo").terminate()
    assert (await desk.http.get("/v1/containers/default/foo")).status_code == 404
    again = await desk.create(headers={"Idempotency-Key": "once"})
    assert again.json()["metadata"]["id"] == first.json()["metadata"]["id"]
    assert (await desk.http.get("/v1/containers/default/foo")).status_code == 404
    assert (await desk.create()).json()["metadata"]["id"] != first.json()["metadata"]["id"]


async def test_another_spec_needs_the_worker_and_says_so_when_none_answers(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    await desk.create()
    refused = await desk.create(image="busybox")
    assert refused.status_code == 503
    assert "nebu worker" in refused.json()["error"]["hint"]
    assert refused.headers["Retry-After"] == "1"


async def test_a_create_behind_a_deletion_is_never_answered_with_the_old_life(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    await desk.create()
    assert (await desk.http.delete("/v1/containers/default/foo")).status_code == 202
    assert (await desk.create()).status_code == 503


async def test_stop_start_restart_and_delete_are_accepted_with_no_worker_alive(desk: Any) -> None:
    life = (await desk.create()).json()["metadata"]["id"]
    for word in ("stop", "start", "restart"):
        reply = await desk.http.post(f"/v1/containers/default/foo/{word}")
        assert (reply.status_code, reply.json()["metadata"]["id"]) == (202, life)
    assert (await desk.http.delete("/v1/containers/default/foo")).status_code == 202
    sent = [
        (event.workflow_execution_signaled_event_attributes.signal_name, payload)
        async for event in _handle(desk, "foo").fetch_history_events()
        if event.HasField("workflow_execution_signaled_event_attributes")
        for payload in [event.workflow_execution_signaled_event_attributes.input.payloads[0].data]
    ]
    assert [name for name, _ in sent] == ["stop", "start", "restart", "delete"]
    for _, payload in sent:
        assert json.loads(payload) == {"id": life, "version": "1"}, "each says what its sender had seen"


async def test_what_does_not_exist_is_404_for_every_verb(desk: Any) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/stop"),
        ("GET", "/events"),
        ("GET", "/logs"),
    ):
        for place in ("default/nothing", "nothing23", "default/not%20a%20name"):
            reply = await desk.http.request(method, f"/v1/containers/{place}{path}")
            assert reply.status_code == 404, (method, place, path)
            assert reply.json()["error"]["type"] == "NotFound"


async def test_it_is_found_by_id_in_any_organization_of_the_caller(desk: Any, until: Any) -> None:
    life = (await desk.create()).json()["metadata"]["id"]
    both = desk.token("viewer", "elsewhere", roles={desk.organization: "viewer"})

    async def found() -> int:
        return (await desk.http.get(f"/v1/containers/{life}", headers=both)).status_code

    await until(found, 200)
    assert (await desk.http.get(f"/v1/containers/{life}", headers=desk.token("admin", "other"))).status_code == 404


async def test_lists_filter_page_and_stay_within_the_organization(desk: Any, until: Any) -> None:
    for number in range(5):
        team = "a" if number < 3 else "b"
        await desk.create(f"c{number}", metadata={"namespace": f"ns{number % 2}", "labels": {"team": team, "n": "1"}})

    async def names(query: str = "") -> list[str]:
        reply = await desk.http.get(f"/v1/containers{query}")
        assert reply.status_code == 200, reply.text
        return sorted(row["metadata"]["name"] for row in reply.json()["containers"])

    await until(names, ["c0", "c1", "c2", "c3", "c4"])
    assert await names("?label=team=a&label=n=1") == ["c0", "c1", "c2"]
    assert await names("?label=team=b&namespace=NS1") == ["c3"]
    assert await names("?label=team=A") == await names("?label=team=a&label=team=b") == []
    assert await names("?name=C4&status=defined") == ["c4"]
    assert await names("?status=running") == []
    seen: list[str] = []
    page = (await desk.http.get("/v1/containers?limit=2")).json()
    while True:
        assert len(page["containers"]) <= 2
        seen += [row["metadata"]["name"] for row in page["containers"]]
        if page["cursor"] is None:
            break
        page = (await desk.http.get("/v1/containers", params={"limit": 2, "cursor": page["cursor"]})).json()
    assert sorted(seen) == ["c0", "c1", "c2", "c3", "c4"]
    stranger = await desk.http.get("/v1/containers", headers=desk.token("admin", "strangers"))
    assert stranger.json() == {"containers": [], "cursor": None}


@pytest.mark.parametrize("odd", ["a\\b", "it's", "100%", "a_b", "a b", "größe"])
async def test_labels_are_found_to_the_letter(desk: Any, until: Any, odd: str) -> None:
    await desk.create("odd", metadata={"labels": {"k": odd}})
    await desk.create("even", metadata={"labels": {"k": "a b c", "l": odd}})

    async def names() -> list[str]:
        reply = await desk.http.get("/v1/containers", params={"label": f"k={odd}"})
        return [row["metadata"]["name"] for row in reply.json()["containers"]]

    await until(names, ["odd"])


async def test_a_filter_cannot_break_out_of_the_organization(desk: Any) -> None:
    await desk.create()
    theirs = desk.token("admin", "strangers")
    for value in ('x" OR NebuOrg = "' + desk.organization, "x') OR (1=1", 'x\\" OR ""="', "a' OR 'a'='a"):
        for filtered in ("namespace", "queue", "name", "label"):
            given = f"k={value}" if filtered == "label" else value
            reply = await desk.http.get("/v1/containers", params={filtered: given}, headers=theirs)
            assert reply.status_code == (422 if filtered == "label" and '"' in value else 200), reply.text
            assert reply.json().get("containers", []) == []


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("status=runing", 422, "running"),
        ("label=team", 422, "KEY=VALUE"),
        ("limit=0", 422, "limit"),
        ("limit=many", 422, "limit"),
        ("limit=100000", 422, "limit"),
        ("cursor=%21%21", 400, "cursor"),
        ("cursor=AAAA", 400, "cursor"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_in_words(desk: Any, query: str, code: int, word: str) -> None:
    reply = await desk.http.get(f"/v1/containers?{query}")
    assert reply.status_code == code, reply.text
    assert word in reply.text


async def test_a_row_that_cannot_be_read_hides_no_other(desk: Any, until: Any) -> None:
    await desk.create()
    for name, memo in (("broken", {"metadata": 7, "status": []}), ("bare", {}), ("odd", {"spec": {"command": [1]}})):
        address = Address("container", desk.organization, "default", name)
        proper = {"metadata": {"name": name, "namespace": "default", "owner": desk.organization, "id": "x"}}
        await desk.client.start_workflow(
            "Container",
            id=str(address),
            task_queue="nobody",
            memo={**proper, "status": {}, **memo} if name == "odd" else memo,
            search_attributes=temporal.search_attributes(address, "x", "defined", None),
        )

    async def names() -> list[str]:
        rows = (await desk.http.get("/v1/containers")).json()["containers"]
        return sorted(row["metadata"]["name"] for row in rows)

    await until(names, ["bare", "broken", "foo", "odd"])
    assert (await desk.http.get("/v1/containers/default/odd")).json()["command"] is None
    assert (await desk.http.get("/v1/containers/default/bare")).json()["status"]["reason"] == "NotReadYet"


async def test_delete_waits_for_the_end_when_asked(desk: Any, until: Any) -> None:
    await desk.create()
    waiting = asyncio.create_task(desk.http.delete("/v1/containers/default/foo?wait=true"))
    handle = _handle(desk, "foo")

    async def signalled() -> bool:
        return (await handle.describe()).history_length >= 3

    await until(signalled, True)
    assert not waiting.done()
    await handle.terminate()
    assert (await waiting).status_code == 200
    assert (await desk.http.delete("/v1/containers/default/foo")).status_code == 404


async def test_viewers_see_names_of_variables_and_not_their_values(desk: Any) -> None:
    await desk.create(env_vars=[{"key": "HELLO", "value": "world"}])
    seen = (await desk.http.get("/v1/containers/default/foo", headers=desk.token("viewer"))).json()
    assert seen["env"] == seen["env_vars"] == [{"key": "HELLO", "value": "***", "secret_name": None}]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"imge": "x"}, ["imge", "did you mean 'image'"]),
        ({"restart": "Sometimes"}, ["restart", "Never"]),
        ({"accelerators": ["4:A1000"]}, ["accelerators[0]", "A1000", "A100"]),
        ({"accelerators": ["A100"]}, ["accelerators", "COUNT:NAME"]),
        ({"timeout": "soon"}, ["timeout", "soon", "1h30m"]),
        ({"platform": "dokcer"}, ["platform", "did you mean 'docker'"]),
        ({"platform": "runpod"}, ["runpod", "RUNPOD_API_KEY", "nebu serve --simulate runpod"]),
        ({"platform": "gce", "accelerators": ["1:A40"]}, ["gce has no A40", "runpod"]),
        ({"platform": "gce", "accelerators": ["3:A100"]}, ["gce has no 3:A100", "nearest on gce: 2:A100, 4:A100"]),
        ({"platform": "gce", "accelerators": ["1:H100"]}, ["only as spot and by flex-start", "spot: true"]),
        ({"platform": "ec2", "idle_timeout": "5m"}, ["idle_timeout", "asks for none", "`timeout`"]),
        ({"platform": "ec2", "accelerators": ["1:L4"], "idle_timeout": "0s"}, ["idle_timeout must be longer than 0s"]),
        ({"platform": "gce", "resources": {"min_memory": 9000}}, ["no machine with", "the largest is"]),
        ({"volumes": [{"source": "s3://b/x", "dest": "/x"}]}, ["`volumes` is not available on docker"]),
        ({"platform": None, "queue": "q"}, ["`queue` is not available", "sim"]),
        ({"meters": [{"metric": "runtime", "currency": "USD", "cost": 1}]}, ["`meters` is not available on docker"]),
        ({"health_check": {"path": "/"}}, ["health_check has a path and no port", "ports"]),
        ({"keep_on_failure": "25h"}, ["keep_on_failure", "at most 24h"]),
        ({"notify": "ftp://example.com"}, ["notify", "http:// or https://"]),
        ({"ssh_keys": [{"public_key": "AAAA"}]}, ["ssh_keys[0].public_key", "ssh-ed25519 AAAA… name"]),
        (
            {"env_vars": [{"key": "T", "secret_name": "nope"}]},
            ["env_vars[0].secret_name", "nope", "nebu create secret"],
        ),
        ({"env_vars": [{"key": "T", "secret_name": "no/pe"}]}, ["env_vars[0].secret_name", "no/pe"]),
        ({"image": None}, ["image or command is required"]),
        ({"command": ""}, ["command is empty"]),
        ({"metadata": {"name": "a/b/c"}}, ["a/b/c", "one slash"]),
        ({"metadata": {"name": "x" * 64}}, ["64 characters", "63"]),
        ({"metadata": {"name": "logs"}}, ["reserved"]),
        ({"metadata": {"owner_ref": "container/else/default/x"}}, ["owner_ref"]),
        ({"proxy_port": 80}, ["proxy_port", "not enforced"]),
    ],
)
async def test_what_can_never_work_is_422_in_words_and_creates_nothing(
    desk: Any, fields: dict[str, Any], words: list[str]
) -> None:
    refused = await desk.create(**fields)
    assert refused.status_code == 422, refused.text
    error = refused.json()["error"]
    said = f"{error['message']} {error['hint']}"
    assert [word for word in words if word not in said] == [], said
    assert (await desk.http.get("/v1/containers")).json()["containers"] == []


async def test_problems_say_where_in_the_document_they_are(desk: Any) -> None:
    refused = await desk.create(env_vars=[{"key": "A", "value": "1"}, {"key": "a b", "value": "1"}], nope=1)
    problems = {tuple(each["path"]): each["message"] for each in refused.json()["error"]["problems"]}
    assert set(problems) == {("env_vars", 1), ("nope",)}


async def test_simulated_platforms_take_every_field_and_what_seed_asks_of_clouds(desk: Any) -> None:
    made = await desk.create(platform="sim", volumes=[{"source": "s3://b/x", "dest": "/x"}], queue="q", spot=True)
    assert made.status_code == 200, made.text
    simulated = await desk.create("bar", platform="ec2", accelerators=["1:A40"])
    assert simulated.status_code == 200, simulated.text


async def test_private_ports_are_fine_on_docker(desk: Any) -> None:
    assert (await desk.create(ports=[{"port": 80}])).status_code == 200


async def test_a_value_that_looks_like_a_credential_and_an_ignored_image_are_said(desk: Any) -> None:
    made = await desk.create(env_vars=[{"key": "HF_TOKEN", "value": "hf_0123456789"}])
    assert "secret_name" in made.headers["X-Nebu-Notice"]
    assert "hf_0123456789" not in made.headers["X-Nebu-Notice"]
    plain = await desk.create("bar", env_vars=[{"key": "HELLO", "value": "world"}])
    assert "X-Nebu-Notice" not in plain.headers


async def test_a_resource_version_that_is_not_the_current_one_is_409(desk: Any) -> None:
    await desk.create()
    assert (await desk.create(metadata={"resource_version": "7"})).status_code == 409


async def test_a_name_that_dns_cannot_tell_from_a_neighbours_is_409(desk: Any, until: Any) -> None:
    await desk.create("my.app_1")

    async def listed() -> int:
        return len((await desk.http.get("/v1/containers")).json()["containers"])

    await until(listed, 1)
    refused = await desk.create("my-app-1")
    assert refused.status_code == 409
    assert "my.app_1" in refused.json()["error"]["message"]
    assert (await desk.create("my-app-1", metadata={"namespace": "other"})).status_code == 200
    assert (await desk.create("my.app_1")).status_code == 200
    assert (await desk.create("my-app-2")).status_code == 200


async def test_later_clients_send_a_null_namespace_and_post_again(desk: Any) -> None:
    body = {"image": "alpine", "platform": "docker", "metadata": {"name": "foo", "namespace": None}, "env": None}
    ids_seen = {(await desk.http.post("/v1/containers", json=body)).json()["metadata"]["id"] for _ in range(2)}
    assert len(ids_seen) == 1


def _handle(desk: Any, name: str) -> Any:
    return desk.client.get_workflow_handle(f"container/{desk.organization}/default/{name}")
