"""The original's published client, unmodified, in a process of its own: its flow, and its models on our replies."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from nebulous import ids, temporal
from nebulous.models.containers import Status
from tests.nebula import eventually, sim_labels

SCRIPTS = Path(__file__).parent / "published"
LIMIT_S = 60

#: Every field in some shape that the API takes; the simulated cloud takes them all.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"
FULL: dict[str, Any] = {
    "image": "busybox",
    "command": ["echo", "two words"],
    "env_vars": [{"key": "A", "value": "b"}, {"key": "C", "secret_name": "token"}],
    "volumes": [{"source": "s3://b/x", "dest": "/x", "driver": "RCLONE_COPY", "continuous": True, "interval": "1m"}],
    "accelerators": ["1:A100", "2:L4"],
    "resources": {"min_cpu": 0.5, "max_memory": 2},
    "queue": "actors",
    "priority": 3,
    "restart": "Always",
    "max_retries": 2,
    "timeout": "1d",
    "stop_grace": "5s",
    "provision_timeout": "10m",
    "ttl_after_finished": "1h",
    "meters": [{"metric": "runtime", "currency": "USD", "costp": 10}],
    "ports": [{"port": 80, "protocol": "http", "public": True}, {"port": 53, "protocol": None}],
    "health_check": {"path": "/health", "port": 80},
    "ssh_keys": [
        {"public_key": PUBLIC_KEY},
        {"public_key_secret": "token"},
    ],
    "spot": True,
    "max_usd_per_hour": 50,
    "disk": 10,
    "shm_size": 1,
    "registry": {"username": "me", "password_secret": "token"},
    "keep_on_failure": "10m",
    "notify": "https://example.com/hook",
    "proxy_port": None,
    "authz": None,
}
#: What a program that speaks Temporal may start a container with, by accident.
STRANGE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "numbers": {"image": 5, "command": 7, "timeout": 30, "restart": True, "queue": {"a": 1}, "platform": 9},
    "shapes": {"image": "x", "env": "A=b", "volumes": {"source": "x"}, "accelerators": "1:A100", "resources": [1]},
    "inside": {"image": "x", "meters": [{"cost": "much"}], "ports": [8080], "ssh_keys": [None], "volumes": [{}]},
    "refused": {"image": "x", "authz": {"rules": 5}, "proxy_port": "80", "timeout": "soon", "restart": "Sometimes"},
    "sparse": {"image": "x", "command": "true", "env": [{"key": "A", "value": "b"}], "restart": None},
    "unpriced": {"command": "true", "meters": [{"metric": "runtime", "currency": "USD", "cost": 1}], "args": ["x"]},
}


@pytest.fixture
async def served(world: Any) -> AsyncIterator[dict[str, str]]:
    """The application on a port of its own, and the environment that the client reads."""
    server = uvicorn.Server(uvicorn.Config(world.desk.app, port=0, lifespan="off", log_level="error", ws="none"))
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: asyncio.sleep(0, server.started), what="the API listens")
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        token = world.desk.token()["Authorization"].removeprefix("Bearer ")
        yield {"NEBU_API_KEY": token, "NEBU_SERVER": url, "NEBU_AUTH_SERVER": url}
    finally:
        server.should_exit = True
        await serving


async def script(name: str, *words: str, env: dict[str, str], stdin: object = None) -> Any:
    """Run a program of `published/` with an environment of its own; returns the last line that it printed."""
    python = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(SCRIPTS / name), *words),
        env={"PATH": os.environ["PATH"], **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        out, err = await python.communicate(json.dumps(stdin).encode())
    assert python.returncode == 0, err.decode()
    return json.loads(out.splitlines()[-1])


async def test_it_creates_compares_recreates_and_deletes(world: Any, served: dict[str, str], tmp_path: Path) -> None:
    seen = await script("flow.py", world.platform, env={**served, "HOME": str(tmp_path)})
    first, again, changed, fewer = seen["ids"]
    assert again == first, "the same arguments again are no change"
    assert changed != first
    assert fewer == changed, "what is not said is what there is"
    assert seen["command"] == "echo good-bye"
    assert seen["owner"] == world.desk.organization
    assert all(isinstance(each, int) and each > 1_700_000_000 for each in seen["times"])
    (code, namespace, life), (code_again, _, life_again) = seen["later"]
    assert (code, code_again, namespace) == (200, 200, "default")
    assert life == life_again

    async def gone() -> bool:
        reply = await world.desk.http.get("/v1/containers/tales/story")
        return reply.status_code == 404

    await eventually(gone, what="what it deleted is gone")


async def test_every_reply_about_what_really_lives_is_read(world: Any, tmp_path: Path) -> None:
    http, replies = world.desk.http, []
    secret = {"metadata": {"name": "token"}, "value": "x", "expires_at": None}
    assert (await http.post("/v1/secrets", json=secret)).status_code == 200
    for name, fields in {"full": FULL, "bare": {}, "no-image": {"image": None, "command": "true"}}.items():
        created = await world.create(name, sim_labels(boot="0s", run_for="0s"), **fields)
        assert created.status_code == 200, created.text
        replies.append(("V1Container", created.json()))
    for label, words in {"runs": {"boot": "0s"}, "fails": {"fail": "Rejected"}, "waits": {"boot": "1h"}}.items():
        await world.create(label, sim_labels(**words))
    for name, status in {"bare": "completed", "runs": "running", "fails": "invalid", "waits": "created"}.items():
        replies.append(("V1Container", await world.until(status, name=name)))
    for path in ("runs/stop", "bare/start", "runs/restart"):
        replies.append(("V1Container", (await http.post(f"/v1/containers/default/{path}")).json()))
    place = "/v1/containers/default/runs"
    patched = await http.patch(place, json={"ttl_after_finished": "2h"})
    applied = await http.put(f"{place}?replace=true", json={"image": "x", "command": "false"})
    for reply in (patched, applied):
        assert reply.is_success, reply.text
        replies.append(("V1Container", reply.json()))
    for name in ("bare", "runs"):
        replies.append(("V1Container", (await http.delete(f"/v1/containers/default/{name}")).json()))
    life = (await world.row("full"))["metadata"]["id"]
    replies.append(("V1Container", (await http.get(f"/v1/containers/{life}")).json()))
    replies.append(("V1Containers", (await http.get("/v1/containers")).json()))
    assert len(replies[-1][1]["containers"]) >= 4
    assert await script("parse.py", env={"HOME": str(tmp_path)}, stdin=replies) == []


async def test_every_status_is_read(desk: Any, client: Any, tmp_path: Path) -> None:
    replies = []
    for status in Status:
        await _remembered(
            desk, client, f"is-{status}", {"image": "x"}, {"status": status, "reason": "R", "exit_code": 3}
        )
        reply = await desk.http.get(f"/v1/containers/default/is-{status}")
        assert reply.json()["status"]["status"] == status
        replies.append(("V1Container", reply.json()))
    assert await script("parse.py", env={"HOME": str(tmp_path)}, stdin=replies) == []


@pytest.mark.parametrize("name", STRANGE)
async def test_what_a_program_started_is_read_whatever_it_holds(world: Any, name: str, tmp_path: Path) -> None:
    address = ids.Address("container", world.desk.organization, "default", name)
    await world.desk.client.start_workflow(
        "Container", {"spec": {"platform": world.platform, **STRANGE[name]}}, id=str(address), task_queue=ids.TASK_QUEUE
    )

    async def listed() -> dict[str, Any] | None:
        reply = (await world.desk.http.get("/v1/containers")).json()
        return reply if [row for row in reply["containers"] if row["metadata"]["id"]] else None

    reply = await eventually(listed, what="the list shows it")
    row = await world.until("invalid", "completed", "running", name=name)
    assert row["kind"] == "Container"
    assert row["restart"] == "Never"
    if name == "sparse":
        assert row["env"] == row["env_vars"] == [{"key": "A", "value": "b", "secret_name": None}]
    replies = [("V1Containers", reply), ("V1Container", row)]
    assert await script("parse.py", env={"HOME": str(tmp_path)}, stdin=replies) == []


async def test_a_memo_of_anybody_hides_no_other_row(desk: Any, client: Any, tmp_path: Path) -> None:
    await _remembered(desk, client, "odd", {"image": ["x"], "volumes": 3, "restart": 1}, {"status": "running"})
    await _remembered(desk, client, "plain", {"image": "x"}, {"status": "running"})

    async def both() -> dict[str, Any] | None:
        reply = (await desk.http.get("/v1/containers")).json()
        return reply if len(reply["containers"]) == 2 else None

    reply = await eventually(both)
    assert await script("parse.py", env={"HOME": str(tmp_path)}, stdin=[("V1Containers", reply)]) == []


async def test_who_the_caller_is_has_the_originals_shape(desk: Any) -> None:
    me = (await desk.http.get("/v1/users/me")).json()
    assert me["email"] == "admin@example.com"
    assert me["organizations"][desk.organization] == {"org_name": desk.organization, "org_role": "admin"}


async def test_a_secret_has_the_originals_shape(desk: Any) -> None:
    body = {"metadata": {"name": "token", "namespace": None, "labels": None}, "value": "x", "expires_at": None}
    created = await desk.http.post("/v1/secrets", json=body)
    assert created.status_code == 200, created.text
    assert created.json().keys() >= {"kind", "metadata", "value", "expires_at"}
    refused = await desk.http.post("/v1/secrets", json={**body, "expires_at": 5})
    assert refused.status_code == 422
    assert "not enforced" in refused.json()["error"]["message"]


async def _remembered(desk: Any, client: Any, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
    """A container whose memo says so, without anybody working on it."""
    address = ids.Address("container", desk.organization, "default", name)
    metadata = {"name": name, "namespace": "default", "owner": desk.organization, "id": ids.new_id()}
    await client.start_workflow(
        "Container",
        {},
        id=str(address),
        task_queue="nobody",
        memo={"metadata": metadata, "spec": spec, "status": status, "rentals": {}},
        search_attributes=temporal.search_attributes(address, metadata["id"], str(status["status"]), None),
    )
