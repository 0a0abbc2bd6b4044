"""Secrets through the API: sealed before anything stores them, shown again to admins who ask."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nebulous import seal
from nebulous.ids import Address


async def _create(desk: Any, value: str = "s3cr3t-value", name: str = "hf") -> Any:
    return await desk.http.post("/v1/secrets", json={"metadata": {"name": name}, "value": value})


async def test_the_value_is_in_no_reply_no_memo_and_no_history(desk: Any) -> None:
    created = await _create(desk)
    assert created.status_code == 200, created.text
    assert created.json()["value"] is None
    handle = desk.client.get_workflow_handle(f"secret/{desk.organization}/default/hf")
    history = (await handle.fetch_history()).to_json()
    stored = (await handle.describe()).raw_description.SerializeToString() + history.encode()
    replies = created.text + (await desk.http.get("/v1/secrets/default/hf")).text
    assert "s3cr3t-value" not in replies + (await desk.http.get("/v1/secrets")).text
    assert b"s3cr3t-value" not in stored
    assert "digest" not in replies


async def test_what_is_stored_opens_for_its_own_address_only(desk: Any) -> None:
    await _create(desk)
    handle = desk.client.get_workflow_handle(f"secret/{desk.organization}/default/hf")
    async for event in handle.fetch_history_events():
        payloads = event.workflow_execution_started_event_attributes.input.payloads
        argument = (await desk.client.data_converter.decode(payloads, [dict]))[0]
        break
    key = seal.secret_key(desk.settings)
    address = Address("secret", desk.organization, "default", "hf")
    assert seal.unseal(key, address, argument["spec"]["sealed"]) == "s3cr3t-value"


async def test_the_same_value_again_is_the_same_secret(desk: Any) -> None:
    first, again = await _create(desk), await _create(desk)
    assert again.status_code == 200
    assert first.json()["metadata"]["id"] == again.json()["metadata"]["id"]


async def test_another_value_is_never_taken_for_the_same(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    await _create(desk)
    assert (await _create(desk, "another")).status_code == 503  # the workflow decides, and nobody runs it here


async def test_only_admins_may_ask_for_the_value(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    await _create(desk)
    path = "/v1/secrets/default/hf?reveal=true"
    assert (await desk.http.get(path, headers=desk.token("member"))).status_code == 403
    assert (await desk.http.get(path)).status_code == 503  # an admin may, but no worker answers


async def test_a_container_may_name_it(desk: Any) -> None:
    await _create(desk)
    made = await desk.create(env_vars=[{"key": "HF_TOKEN", "secret_name": "hf"}])
    assert made.status_code == 200, made.text
    assert made.json()["env"] == [{"key": "HF_TOKEN", "value": None, "secret_name": "hf"}]


async def test_a_deletion_is_accepted_and_a_missing_value_is_422(desk: Any) -> None:
    await _create(desk)
    assert (await desk.http.delete("/v1/secrets/default/hf")).status_code == 202
    refused = await desk.http.post("/v1/secrets", json={"metadata": {"name": "x"}})
    assert refused.status_code == 422
    assert "value" in refused.json()["error"]["message"]
