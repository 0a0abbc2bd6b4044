"""PUT and PATCH on a Temporal with no worker: what can be told beforehand, and what is refused before it is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from api.applies import merge

FOO = "/v1/containers/default/foo"
BODY = {"image": "alpine", "platform": "docker"}


async def put(desk: Any, query: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return await desk.http.put(f"{FOO}{query}", json={**BODY, **fields}, headers=headers)


async def test_put_creates_what_is_not_there(desk: Any) -> None:
    made = await put(desk, metadata={"labels": {"team": "x"}})
    assert (made.status_code, made.headers["X-Nebu-Outcome"]) == (200, "new")
    row = made.json()
    assert (row["metadata"]["name"], row["metadata"]["labels"]) == ("foo", {"team": "x"})
    got = await desk.http.get(FOO)
    assert got.json() == row
    assert got.headers["ETag"] == made.headers["ETag"] == f'"{row["metadata"]["id"]}.1"'


async def test_put_of_the_same_is_the_same_with_no_worker_alive(desk: Any) -> None:
    first = await put(desk)
    again = await put(desk, restart="Never", env=None, timeout=None)  # defaults that nobody had to write
    assert (again.status_code, again.headers["X-Nebu-Outcome"]) == (200, "same")
    assert again.json() == first.json()


async def test_a_repeated_put_gives_the_life_that_it_made(desk: Any) -> None:
    headers = {"Idempotency-Key": "once", "If-None-Match": "*"}
    first, again = await put(desk, headers=headers), await put(desk, headers=headers)
    assert first.json() == again.json()
    other = await put(desk, headers={"If-None-Match": "*"}, timeout="1h", query="?dry_run=true")
    assert (other.status_code, "it exists meanwhile" in other.json()["error"]["message"]) == (409, True)


async def test_a_change_needs_the_worker_and_nothing_is_half_done_when_none_answers(
    desk: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    first = await put(desk)
    refused = await put(desk, timeout="1h")
    assert refused.status_code == 503
    error = refused.json()["error"]
    assert "no worker answered" in error["message"]
    assert "nebu worker" in error["hint"]
    assert "dropped" in error["hint"]
    patched = await desk.http.patch(FOO, json={"timeout": "1h"})
    assert patched.status_code == 503
    assert (await desk.http.get(FOO)).json() == first.json()


async def test_a_dry_run_tells_each_field_and_changes_nothing(desk: Any) -> None:
    foreseen = (await put(desk, "?dry_run=true", timeout="5m", metadata={"labels": {"a": "b"}})).json()
    assert foreseen["outcome"] == "new"
    assert {each["field"]: (each["from"], each["to"]) for each in foreseen["changes"]} == {
        "metadata.labels.a": (None, "b"),
        "image": (None, "alpine"),
        "platform": (None, "docker"),
        "timeout": (None, "5m"),
    }
    assert (await desk.http.get(FOO)).status_code == 404
    made = await put(desk, env_vars=[{"key": "A", "value": "1"}, {"key": "B", "value": "2"}])
    changed = await put(
        desk,
        "?dry_run=true",
        image="busybox",
        timeout="5m",
        env=[{"key": "B", "value": "3"}, {"key": "A", "value": "1"}],
    )
    assert changed.headers["ETag"] == made.headers["ETag"]
    assert changed.json() == {
        "outcome": "next",
        "changes": [
            {"field": "image", "from": "alpine", "to": "busybox", "in_place": False},
            {"field": "env_vars.B.value", "from": "2", "to": "3", "in_place": False},
            {"field": "timeout", "from": None, "to": "5m", "in_place": True},
        ],
        "resource_version": made.headers["ETag"].strip('"'),
    }
    patched = await desk.http.patch(f"{FOO}?dry_run=true", json={"timeout": "5m"})
    assert patched.json()["outcome"] == "changed"
    refused = await desk.http.patch(f"{FOO}?dry_run=true", json={"image": "busybox"})
    assert (refused.status_code, "image cannot change in place" in refused.text) == (409, True)
    assert (await desk.http.get(FOO)).json() == made.json()


async def test_a_dry_run_while_it_is_being_deleted_is_a_next_life(desk: Any) -> None:
    await put(desk)
    await desk.http.delete(FOO)
    assert (await put(desk, "?dry_run=true")).json()["outcome"] in {"same", "next"}  # nobody has seen the deletion yet


async def test_a_secret_to_be_can_be_taken_for_there_by_a_dry_run_only(desk: Any) -> None:
    env = [{"key": "T", "secret_name": "token"}]
    missing = await put(desk, "?dry_run=true", env_vars=env)
    assert (missing.status_code, "no secret 'token'" in missing.text) == (422, True)
    assumed = await put(desk, "?dry_run=true&assume=secret/default/token&assume=nonsense", env_vars=env)
    assert assumed.json()["outcome"] == "new"
    assert (await put(desk, "?assume=secret/default/token", env_vars=env)).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"metadata": {"name": "bar"}}, 422, "the path says name 'foo', metadata says 'bar'"),
        ({"metadata": {"namespace": "team"}}, 422, "the path says namespace 'default', metadata says 'team'"),
        ({"metadata": {"name": "nowhere/foo"}}, 404, "there is no organization 'nowhere'"),
        ({"metadata": "foo"}, 422, "metadata: should be `key: value` lines"),
        ({"imagge": "x"}, 422, "did you mean 'image'?"),
        ({"platform": "ec3"}, 422, "unknown platform 'ec3'"),
        ({"env_vars": [{"key": "A", "secret_name": "none"}]}, 422, "there is no secret 'none'"),
        ({"command": "x" * 40_000}, 413, "at most 32768 are allowed"),
    ],
)
async def test_everything_that_create_checks_is_checked_before_anything_changes(
    desk: Any, body: dict[str, Any], status: int, said: str
) -> None:
    first = await put(desk)
    for query in ("", "?dry_run=true", "?replace=true"):
        refused = await put(desk, query, **body)
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (status, True), refused.text
    assert (await desk.http.get(FOO)).json() == first.json()


async def test_a_name_that_may_be_none_creates_nothing(desk: Any) -> None:
    for name in ("logs", "a%20b", "x" * 64):
        assert (await desk.http.put(f"/v1/containers/default/{name}", json=BODY)).status_code == 422


@pytest.mark.parametrize(
    ("headers", "metadata", "said"),
    [
        ({"If-Match": '"another.1"'}, {}, "it is another life by now"),
        ({"If-Match": '"7"'}, {}, "resource_version is '1', not '7'"),
        ({"If-None-Match": "*"}, {}, "it exists meanwhile"),
        ({}, {"resource_version": "7"}, "resource_version is '1', not '7'"),
    ],
)
async def test_a_stale_write_is_409_and_says_what_the_version_is_now(
    desk: Any, headers: dict[str, str], metadata: dict[str, str], said: str
) -> None:
    await put(desk)
    refused = await put(desk, "?dry_run=true", headers, timeout="1h", metadata=metadata)
    assert refused.status_code == 409
    assert said in refused.json()["error"]["message"]


async def test_a_write_to_what_is_gone_does_not_raise_it_again(desk: Any) -> None:
    for headers in ({"If-Match": '"x.3"'}, {"If-Match": "*"}):
        for query in ("", "?dry_run=true"):
            refused = await put(desk, query, headers)
            assert (refused.status_code, "does not exist" in refused.text and "any more" not in refused.text) == (
                409,
                True,
            )
    assert (await desk.http.get(FOO)).status_code == 404


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"metadata": {"name": "bar"}}, "metadata.name cannot be patched"),
        ({"metadata": 7}, "metadata: should be an object"),
        ({"metadata": {"resource_version": 7}}, "metadata.resource_version: should be text"),
        ({"timeout": "soon"}, "timeout"),
        ({"status": {"status": "running"}}, "status: unknown field"),
        ({"image": None}, "image or command is required"),
        ({"kind": "Secret"}, "kind: 'Secret' is not allowed"),
        ({"metadata": {"labels": {"a": [1]}}}, "metadata.labels.a: should be text"),
    ],
)
async def test_a_patch_that_makes_no_sense_is_422(desk: Any, patch: dict[str, Any], said: str) -> None:
    await put(desk)
    refused = await desk.http.patch(FOO, json=patch)
    assert (refused.status_code, said in refused.json()["error"]["message"]) == (422, True), refused.text


async def test_a_patch_of_nothing_is_404_and_of_no_object_400(desk: Any) -> None:
    assert (await desk.http.patch(FOO, json={})).status_code == 404
    await put(desk)
    assert (await desk.http.patch(FOO, json=[1])).status_code == 400
    text = {"Content-Type": "text/plain"}
    assert (await desk.http.patch(FOO, content=b"{}", headers=text)).status_code == 415
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    same = await desk.http.patch(FOO, content=b"{}", headers=merge_patch)
    assert (same.status_code, same.headers["X-Nebu-Outcome"]) == (200, "same")


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_is_what_rfc_7396_lists_in_its_appendix(target: Any, patch: Any, merged: Any) -> None:
    before = repr(target)
    assert merge(target, patch) == merged
    assert repr(target) == before


async def test_the_openapi_document_lists_both_with_their_bodies(desk: Any) -> None:
    paths = (await desk.http.get("/openapi.json")).json()["paths"]
    operations = paths["/v1/containers/{namespace}/{name}"]
    schema = operations["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("ContainerSpec")
    assert "application/merge-patch+json" in operations["patch"]["requestBody"]["content"]
    assert "409" in operations["put"]["responses"]
    assert "patch" in paths["/v1/secrets/{id}"]
