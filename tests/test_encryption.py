"""Encryption with a real Temporal: a canary is nowhere in what it holds, and everywhere where people look."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from nebulous import ids, tokens
from nebulous.ids import Address
from nebulous.seal import key_id
from tests.conftest import served
from tests.nebula import Resource, eventually, nebula, sim_labels
from tests.served_api import SIGNING_KEY, ServedApi, served_api
from worker.embedded import DATABASE, Engine

CANARY = "canary-4711"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
ORIGIN = "http://localhost:8080"
LIMIT_S = 30


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encrypted")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with served(folder) as started:
        yield started


@pytest.fixture(scope="module")
def api(engine: Engine, folder: Path) -> Iterator[ServedApi]:
    more = {"encryption_key": text(KEY), "ui_origin": ORIGIN}
    with served_api(engine.temporal_address, engine.redis_url, folder / "api", **more) as started:
        yield started


@pytest.fixture(scope="module")
def http(api: ServedApi) -> Iterator[httpx.Client]:
    token = tokens.mint(SIGNING_KEY.encode(), tokens.local_admin(), tokens.timedelta(hours=1))
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S) as client:
        yield client


def until_status(http: httpx.Client, name: str, *wanted: str) -> dict[str, Any]:
    end = time.monotonic() + LIMIT_S
    while True:
        row: dict[str, Any] = http.get(f"/v1/containers/default/{name}").json()
        if row.get("status", {}).get("status") in wanted:
            return row
        assert time.monotonic() < end, row
        time.sleep(0.05)


@pytest.fixture(scope="module")
def lived(http: httpx.Client, api: ServedApi) -> str:
    """A container that ran, with the canary in all its fields that hold what a user writes."""
    body: dict[str, Any] = {
        "image": f"{CANARY}/image",
        "command": f"echo {CANARY}",
        "env": [{"key": "TOKEN", "value": CANARY}],
        "platform": api.platform.account,
        "metadata": {"name": "told", "labels": sim_labels(boot="0s", run_for="0s")},
    }
    made = http.post("/v1/containers", json=body)
    assert made.status_code == 200, made.text
    until_status(http, "told", "completed")
    return str(Address("container", "local", "default", "told"))


async def test_temporal_holds_nothing_of_it_in_clear(lived: str, engine: Engine, folder: Path) -> None:
    outsider = await Client.connect(engine.temporal_address, data_converter=pydantic_data_converter)
    handle = outsider.get_workflow_handle(lived)
    description = (await handle.describe()).raw_description.SerializeToString()
    events = [event.SerializeToString() async for event in handle.fetch_history_events()]
    rows = [row.raw_info.SerializeToString() async for row in outsider.list_workflows(f"WorkflowId = '{lived}'")]
    assert len(events) > 10
    assert len(rows) == 1
    assert CANARY.encode() not in b"".join([description, *events, *rows])
    stored = b"".join(path.read_bytes() for path in (folder / "temporal").glob(f"{DATABASE}*"))
    assert b"container/local/default/told" in stored  # it is the file, and names are in clear
    assert CANARY.encode() not in stored


def test_one_and_lists_are_read_as_ever(lived: str, http: httpx.Client) -> None:
    assert http.get("/v1/containers/default/told").json()["env"][0]["value"] == CANARY
    end = time.monotonic() + LIMIT_S
    while CANARY not in http.get("/v1/containers").text:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert http.get("/v1/doctor").json()["platforms"]


async def test_the_codec_endpoint_gives_it_back_and_takes_it_again(
    lived: str, engine: Engine, http: httpx.Client
) -> None:
    outsider = await Client.connect(engine.temporal_address)
    async for event in outsider.get_workflow_handle(lived).fetch_history_events():
        sent = event.workflow_execution_started_event_attributes.input.payloads[0]
        break
    metadata = {name: base64.b64encode(value).decode() for name, value in sent.metadata.items()}
    asked = {"payloads": [{"metadata": metadata, "data": base64.b64encode(sent.data).decode()}]}
    gives_it_back(http, asked)


def gives_it_back(http: httpx.Client, asked: dict[str, Any]) -> None:
    shown = http.post("/codec/decode", json=asked, headers={"X-Namespace": "default"})
    assert shown.status_code == 200, shown.text
    [payload] = shown.json()["payloads"]
    assert CANARY in base64.b64decode(payload["data"]).decode()
    again = http.post("/codec/encode", json=shown.json()).json()
    assert CANARY not in base64.b64decode(again["payloads"][0]["data"]).decode(errors="replace")
    assert http.post("/codec/decode", json=again).json() == shown.json()


def test_only_pages_of_the_ui_may_ask_and_only_the_admin(http: httpx.Client, api: ServedApi) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-namespace"}
    let = http.options("/codec/decode", headers={"Origin": ORIGIN, **asks})
    assert (let.status_code, let.headers["access-control-allow-origin"]) == (200, ORIGIN)
    kept = http.options("/codec/decode", headers={"Origin": "https://evil.example", **asks})
    assert (kept.status_code, kept.headers.get("access-control-allow-origin")) == (400, None)
    elsewhere = http.options("/v1/containers", headers={"Origin": ORIGIN, **asks})
    assert "access-control-allow-origin" not in elsewhere.headers
    member = {"Authorization": f"Bearer {api.token('local', 'admin')}", "Origin": ORIGIN}
    refused = http.post("/codec/decode", json={"payloads": []}, headers=member)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "Forbidden")
    assert refused.headers["access-control-allow-origin"] == ORIGIN  # the UI can show why


@pytest.fixture
def browser(api: ServedApi) -> Iterator[httpx.Client]:
    """What asks as the UI's pages do: with an origin and cookies, and no token."""
    with httpx.Client(base_url=api.url, timeout=LIMIT_S) as client:
        yield client


def test_a_browser_that_has_logged_in_reads_payloads_for_the_ui_and_nothing_else(
    browser: httpx.Client, http: httpx.Client
) -> None:
    asked = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MQ=="}]}
    sealed = http.post("/codec/encode", json=asked).json()
    page = browser.get("/codec/login")
    assert (page.status_code, 'name="token"' in page.text, page.headers["cache-control"]) == (200, True, "no-store")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    before = browser.post("/codec/decode", json=sealed, headers={"Origin": ORIGIN})
    assert (before.status_code, before.json()["error"]["type"]) == (401, "Unauthenticated")

    done = browser.post("/codec/login", data={"token": http.headers["authorization"].removeprefix("Bearer ")})
    assert (done.status_code, f'<a href="{ORIGIN}">' in done.text) == (200, True)
    words = {word.strip().lower() for word in done.headers["set-cookie"].split(";")[1:]}
    assert words == {"path=/codec", "max-age=43200", "httponly", "samesite=strict"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
    let = browser.options("/codec/decode", headers={"Origin": ORIGIN, **asks})
    assert let.headers["access-control-allow-credentials"] == "true"
    shown = browser.post("/codec/decode", json=sealed, headers={"Origin": ORIGIN, "X-Namespace": "default"})
    assert (shown.status_code, shown.json()) == (200, asked)
    assert shown.headers["access-control-allow-origin"] == ORIGIN
    assert shown.headers["access-control-allow-credentials"] == "true"

    for origin in ({"Origin": "https://evil.example"}, {}):  # neither another page nor a program
        refused = browser.post("/codec/decode", json=sealed, headers=origin)
        assert refused.status_code == 401
        assert "access-control-allow-origin" not in refused.headers
    cookie = {"Authorization": f"Bearer {browser.cookies['nebu_codec']}"}
    assert http.get("/v1/users/me", headers=cookie).status_code == 401  # it is good for nothing else
    browser.post("/codec/logout")
    assert browser.post("/codec/decode", json=sealed, headers={"Origin": ORIGIN}).status_code == 401


def test_who_is_not_the_admin_gets_no_cookie(browser: httpx.Client, api: ServedApi) -> None:
    for token, status, words in (
        (api.token("local", "admin"), 403, "this is for admins of the server"),
        ("<script>", 401, "the token is not one of this server&#x27;s"),
        ("", 401, "the token is not one of this server&#x27;s"),
    ):
        refused = browser.post("/codec/login", data={"token": token})
        assert (refused.status_code, words in refused.text) == (status, True), refused.text
        assert "<script>" not in refused.text
        assert not refused.cookies
    assert browser.post("/codec/login", json={"token": "x"}).status_code == 415


@pytest.mark.parametrize("body", [b"", b"{", b'{"payloads": 3}', b"\xff", b'{"more": []}'])
def test_what_is_no_payload_is_told_so(http: httpx.Client, body: bytes) -> None:
    refused = http.post("/codec/decode", content=body)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "BadRequest")
    assert refused.json()["error"]["message"].startswith("these are no payloads")


def test_too_many_at_once_are_refused(http: httpx.Client) -> None:
    refused = http.post("/codec/decode", content=b" " * (8 * 1024 * 1024 + 1))
    assert (refused.status_code, refused.json()["error"]["hint"]) == (413, "ask for fewer at once")


@pytest.mark.usefixtures("lived")
@pytest.mark.parametrize("key", [None, text(OTHER)])
def test_an_api_without_the_key_says_which_it_needs(api: ServedApi, key: str | None, folder: Path) -> None:
    settings = api.settings.model_copy(update={"encryption_key": key, "data_dir": folder / "other"})
    other = ServedApi(settings, api.platform, _loop=api._loop)
    other.start()
    try:
        token = tokens.mint(SIGNING_KEY.encode(), tokens.local_admin(), tokens.timedelta(hours=1))
        for path in ("/v1/containers/default/told", "/v1/containers"):
            reply = httpx.get(other.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S)
            assert (reply.status_code, reply.json()["error"]["type"]) == (503, "KeyMissing"), reply.text
            assert f"key '{key_id(KEY)}'" in reply.json()["error"]["message"]
            assert "add that key to NEBU_ENCRYPTION_KEY" in reply.json()["error"]["message"]
    finally:
        other.stop()


@pytest.mark.usefixtures("lived")
def test_a_worker_without_the_key_says_so_and_waits(api: ServedApi, folder: Path) -> None:
    environment = {
        **os.environ,
        "NEBU_TEMPORAL_ADDRESS": str(api.settings.temporal_address),
        "NEBU_DATA_DIR": str(folder / "keyless"),
        "NEBU_DOCKER_ENABLED": "false",
    }
    ready = folder / "keyless.ready"
    command = [sys.executable, "-m", "nebulous", "worker", "--ready-file", str(ready)]
    log = folder / "keyless.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + LIMIT_S
        while f"not working: what Temporal holds was encrypted with key '{key_id(KEY)}'" not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        assert "add that key to NEBU_ENCRYPTION_KEY" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert process.poll() is None
        assert not ready.exists()  # so its health check fails
    finally:
        process.terminate()
        process.wait(LIMIT_S)


async def restarted(life: Resource, times: int) -> None:
    async def seen() -> bool:
        return (await life.reasons()).count("RestartRequested") == times and (await life.status())[
            "status"
        ] == "running"

    await eventually(seen, what=f"{life.id} is restarted {times} times")


async def test_what_was_written_before_the_key_stays_readable_and_its_life_goes_on(tmp_path: Path) -> None:
    with served(tmp_path) as engine:
        address, host, data = engine.temporal_address, ids.new_id(), tmp_path / "data"
        async with nebula(address, data, host=host) as before:
            life = await before.create(labels=sim_labels(boot="0s", run_for="1h"), command=f"echo {CANARY}")
            await life.until("running")
        for times, keys in enumerate((text(OTHER), f"{text(KEY)},{text(OTHER)}"), start=1):  # switched on, then rotated
            async with nebula(address, data, host=host, encryption_key=keys) as after:
                life = Resource(after.client, after.client.get_workflow_handle(life.id))
                assert (await life.row()).spec["command"] == f"echo {CANARY}"
                await life.signal("restart")
                await restarted(life, times)
                again = await after.create(labels=sim_labels(boot="0s", run_for="0s"))
                await again.until("completed")
        outsider = await Client.connect(address)
        memo = (await outsider.get_workflow_handle(life.id).describe()).raw_info.memo.fields["status"]
        assert memo.metadata["encryption-key-id"] == key_id(KEY).encode()
