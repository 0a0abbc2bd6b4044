"""PUT and PATCH with a real worker and a simulated cloud: changes in place, new lives, and races."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.nebula import eventually, sim_labels

FOO = "/v1/containers/default/foo"
LONG_RUN = sim_labels(boot="0s")


async def put(world: Any, query: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"image": "alpine", "platform": world.platform, "metadata": {"labels": LONG_RUN}, **fields}
    return await world.desk.http.put(f"{FOO}{query}", json=body, headers=headers)


async def patch(world: Any, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return await world.desk.http.patch(FOO, json=fields, headers=headers)


async def running(world: Any) -> dict[str, Any]:
    assert (await put(world)).status_code == 200
    return await world.until("running")


async def test_what_can_change_in_place_changes_and_the_container_runs_on(world: Any) -> None:
    before = await running(world)
    changed = await put(world, timeout="1h", metadata={"labels": {**LONG_RUN, "team": "x"}})
    assert (changed.status_code, changed.headers["X-Nebu-Outcome"]) == (200, "changed"), changed.text
    row = await world.row()
    assert row == changed.json()
    assert (row["timeout"], row["metadata"]["labels"]["team"]) == ("1h", "x")
    assert row["metadata"]["id"] == before["metadata"]["id"]
    assert row["status"]["instance_id"] == before["status"]["instance_id"]
    events = (await world.desk.http.get(f"{FOO}/events")).json()["events"]
    assert "timeout: none → 1h" in next(each["message"] for each in events if each["reason"] == "Changed")
    assert (await put(world)).headers["X-Nebu-Outcome"] == "changed"  # what is not written is not wanted
    assert (await world.row())["timeout"] is None


async def test_what_needs_a_new_life_is_409_with_the_fields_and_how_to_replace(world: Any) -> None:
    before = await running(world)
    refused = await put(world, image="busybox", command="true", timeout="1h")
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert error["type"] == "Conflict"
    assert "image, command cannot change in place" in error["message"]
    assert "--replace" in error["hint"]
    assert {each["field"]: each["in_place"] for each in error["changes"]} == {
        "image": False,
        "command": False,
        "timeout": True,
    }
    assert await world.row() == before
    patched = await patch(world, image="busybox")
    assert (patched.status_code, [each["field"] for each in patched.json()["error"]["changes"]]) == (409, ["image"])


async def test_replace_begins_a_new_life_and_a_repeated_request_no_second_one(world: Any) -> None:
    before = await running(world)
    headers = {"Idempotency-Key": "once"}
    accepted = await put(world, "?replace=true", headers, image="busybox")
    assert (accepted.status_code, accepted.headers["X-Nebu-Outcome"]) == (202, "next"), accepted.text
    life = accepted.json()["metadata"]["id"]
    assert life != before["metadata"]["id"]
    assert (await put(world, "?replace=true", headers, image="busybox")).json()["metadata"]["id"] == life

    async def begun() -> bool:
        row = await world.row()
        return row["metadata"]["id"] == life and row["status"]["status"] == "running"

    await eventually(begun)
    assert (await world.row())["image"] == "busybox"
    again = await put(world, "?replace=true", headers, image="busybox")
    assert (again.status_code, again.json()["metadata"]["id"]) == (200, life)


async def test_events_tell_viewers_what_changed_and_no_values_of_variables(world: Any) -> None:
    assert (await put(world, env=[{"key": "TOKEN", "value": "before"}])).status_code == 200
    await world.until("running")
    accepted = await put(world, "?replace=true", env=[{"key": "TOKEN", "value": "after"}], timeout="1h")
    assert accepted.status_code == 202

    async def begun() -> bool:
        return (await world.row())["metadata"]["id"] == accepted.json()["metadata"]["id"]

    events = (await world.desk.http.get(f"{FOO}/events", headers=world.desk.token("viewer"))).text
    await eventually(begun)
    assert "env_vars.TOKEN.value" in events
    assert "before" not in events
    assert "after" not in events


async def test_a_stale_version_is_refused_in_the_body_and_in_the_header(world: Any) -> None:
    await running(world)
    got = await world.desk.http.get(FOO)
    tag, version = got.headers["ETag"], got.json()["metadata"]["resource_version"]
    assert (await put(world, headers={"If-Match": tag}, timeout="1h")).headers["X-Nebu-Outcome"] == "changed"
    now = (await world.row())["metadata"]["resource_version"]
    stale = [
        await put(world, headers={"If-Match": tag}, timeout="2h"),
        await put(world, timeout="2h", metadata={"labels": LONG_RUN, "resource_version": version}),
        await patch(world, {"If-Match": tag}, timeout="2h"),
        await patch(world, timeout="2h", metadata={"resource_version": version}),
    ]
    for reply in stale:
        assert reply.status_code == 409
        assert f"resource_version is {now!r}, not {version!r}" in reply.json()["error"]["message"]
    assert (await world.row())["timeout"] == "1h"


async def test_of_ten_applies_with_one_version_one_wins(world: Any) -> None:
    await running(world)
    tag = (await world.desk.http.get(FOO)).headers["ETag"]
    replies = await asyncio.gather(
        *(put(world, headers={"If-Match": tag}, timeout=f"{hours}h") for hours in range(1, 11))
    )
    assert sorted(reply.status_code for reply in replies) == [200] + [409] * 9
    (won,) = [reply for reply in replies if reply.status_code == 200]
    assert (await world.row())["timeout"] == won.json()["timeout"]


async def test_two_people_who_patch_different_fields_at_once_both_get_their_way(world: Any) -> None:
    await running(world)
    replies = await asyncio.gather(patch(world, timeout="1h"), patch(world, max_retries=4))
    assert [reply.status_code for reply in replies] == [200, 200], [reply.text for reply in replies]
    row = await world.row()
    assert (row["timeout"], row["max_retries"]) == ("1h", 4)


async def test_a_patch_merges_labels_and_null_removes(world: Any) -> None:
    await running(world)
    assert (await patch(world, metadata={"labels": {"a": "1", "b": "2"}}, timeout="1h")).status_code == 200
    assert (await patch(world, metadata={"labels": {"a": None, "c": 3}}, timeout=None)).status_code == 200
    row = await world.row()
    assert row["metadata"]["labels"] == {**LONG_RUN, "b": "2", "c": "3"}
    assert row["timeout"] is None
    any_version = await patch(world, {"If-Match": "*"}, max_retries=1)
    assert any_version.headers["X-Nebu-Outcome"] == "changed"
    by_id = await world.desk.http.patch(f"/v1/containers/{row['metadata']['id']}", json={"timeout": "3h"})
    assert by_id.json()["timeout"] == "3h"


async def test_a_put_behind_a_deletion_is_the_next_life_and_a_patch_is_refused(world: Any) -> None:
    labels = sim_labels(boot="0s", delete_takes="500ms")
    assert (await put(world, metadata={"labels": labels})).status_code == 200
    before = await world.until("running")
    await world.desk.http.delete(FOO)

    async def leaving() -> bool:
        return bool((await world.row())["metadata"]["deleted_at"])

    await eventually(leaving)
    refused = await patch(world, timeout="1h")
    assert (refused.status_code, "is being deleted" in refused.text) == (409, True)
    assert (await put(world, "?dry_run=true")).json()["outcome"] == "next"
    accepted = await put(world)
    assert (accepted.status_code, accepted.headers["X-Nebu-Outcome"]) == (202, "next")

    async def begun() -> bool:
        row = await world.row()
        return row["metadata"]["id"] == accepted.json()["metadata"]["id"] != before["metadata"]["id"]

    await eventually(begun)


async def test_two_puts_of_one_new_name_make_one_and_the_other_changes_or_is_refused(world: Any) -> None:
    replies = await asyncio.gather(*(put(world, command=f"echo {n}") for n in range(10)))
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [200] + [409] * 9, [reply.text for reply in replies]


async def test_a_secret_takes_a_new_value_in_place_and_keeps_it_when_its_labels_are_patched(world: Any) -> None:
    http, path = world.desk.http, "/v1/secrets/default/hf"
    assert (await http.put(path, json={"value": "one"})).headers["X-Nebu-Outcome"] == "new"
    assert (await http.put(path, json={"value": "one"})).headers["X-Nebu-Outcome"] == "same"
    dry = await http.put(f"{path}?dry_run=true", json={"value": "two"})
    assert dry.json()["outcome"] == "changed"
    assert dry.json()["changes"] == [{"field": "value", "from": "***", "to": "***", "in_place": True}]
    changed = await http.put(path, json={"value": "two"})
    assert (changed.status_code, changed.headers["X-Nebu-Outcome"]) == (200, "changed")
    assert (await http.get(f"{path}?reveal=true")).json()["value"] == "two"
    labelled = await http.patch(path, json={"metadata": {"labels": {"a": "b"}}})
    assert labelled.json()["metadata"]["labels"] == {"a": "b"}
    assert (await http.get(f"{path}?reveal=true")).json()["value"] == "two"
    assert "two" not in labelled.text
