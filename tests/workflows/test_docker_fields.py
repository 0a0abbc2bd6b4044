"""What the fields of a container do on a real Docker Engine, from the spec to the status."""

from __future__ import annotations

import platform as machine
import uuid
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.docker import DockerPlatform
from api.lists import Lists
from api.store import Store
from nebulous import ids
from tests.docker_engine import archive_of, async_client, small_system
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry
from tests.nebula import Nebula, Resource, eventually
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine

pytestmark = pytest.mark.docker

OFTEN = {"interval": "200ms", "timeout": "5s", "retries": 2}


@pytest.fixture
async def nebula(session_engine: Engine, tmp_path: Path, docker_host: str) -> AsyncGenerator[Nebula]:
    docker = DockerPlatform(ids.new_id(), "any", docker_host, data_dir=tmp_path)
    async with run_nebula(session_engine.temporal_address, tmp_path, docker) as started:
        yield started


@pytest.fixture
def registry(engine: Dockerd) -> Iterator[Registry]:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    with Registry(engine.init_pid, machine=architecture) as running:
        yield running


async def condition(life: Resource, kind: str, reason: str) -> dict[str, Any]:
    async def so() -> dict[str, Any] | None:
        found = (await life.status())["conditions"]
        return next((each for each in found if (each["type"], each["reason"]) == (kind, reason)), None)

    return await eventually(so, what=f"{kind} is {reason}, not {await life.status()}")


async def nothing_rented(life: Resource) -> bool:
    return not (await life.row()).rentals


async def test_a_served_path_makes_it_ready_and_a_removed_one_restarts_it(nebula: Nebula, image: str):
    serve = "mkdir -p /www; echo ok > /www/ready; exec httpd -f -p 8000 -h /www"
    life = await nebula.create(
        image=image,
        command=serve,
        restart="OnFailure",
        ports=[{"port": 8000}],
        health_check={"path": "/ready", **OFTEN},
    )
    await condition(life, "Ready", "Healthy")
    (instance,) = await nebula.owned()
    async with async_client(nebula.platform._runtime.engine.address) as api:  # type: ignore[attr-defined]
        body = {"Cmd": ["sh", "-c", "busybox rm /www/ready"]}
        made = (await api.post(f"/containers/{instance.id}/exec", json=body)).raise_for_status().json()
        (await api.post(f"/exec/{made['Id']}/start", json={"Detach": True})).raise_for_status()

    async def restarted() -> bool:
        status = await life.status()
        return (status["restarts"], status["ready"]) == (1, True)

    await eventually(restarted, limit_s=40)
    events = (await life.history())["events"]
    assert [event for event in events if event["reason"] == "Unhealthy" and "answers 404" in event["message"]]


async def test_a_port_that_nothing_listens_on_fails_it_after_its_retries(nebula: Nebula, image: str):
    check = {"path": "/", "port": 8001, **OFTEN}
    life = await nebula.create(
        image=image, command="sleep 600", restart="OnFailure", max_retries=0, stop_grace="1s", health_check=check
    )
    status = await life.until("failed", limit_s=40)
    assert status["reason"] == "Unhealthy"
    assert "nothing listens on port 8001" in status["message"]


async def test_a_public_port_is_shown_and_a_second_one_of_that_number_fails_and_leaves_nothing(
    nebula: Nebula, image: str
):
    ports = [{"port": 18080, "public": True}]
    first = await nebula.create(image=image, command="sleep 600", ports=ports)
    shown = (await first.until("running"))["public_ports"]
    assert [(port["port"], port["protocol"]) for port in shown] == [(18080, "tcp")]
    second = await nebula.create(image=image, command="sleep 600", ports=ports)
    status = await second.until("failed")
    assert status["reason"] == "PortTaken"
    assert "public port 18080/tcp is taken" in status["message"]
    await eventually(lambda: nothing_rented(second))
    await first.signal("stop")
    await first.until("stopped")
    await eventually(lambda: nothing_rented(first))
    assert (await first.status())["public_ports"] is None


async def test_a_life_keeps_its_image_when_the_name_means_another_one(nebula: Nebula, registry: Registry):
    name = registry.add("tools/sleeper", small_system())
    life = await nebula.create(image=name, command=["/bin/sleep", "600"])
    digest = (await life.until("running", limit_s=60))["image_digest"]
    assert digest.startswith("sha256:")
    registry.add("tools/sleeper", archive_of({}, {"/other": "other"}))
    (instance,) = await nebula.owned()
    async with async_client(nebula.platform._runtime.engine.address) as api:  # type: ignore[attr-defined]
        (await api.delete(f"/containers/{instance.id}", params={"force": 1})).raise_for_status()
        await api.delete(f"/images/{name}", params={"force": 1})

        async def recovered() -> bool:
            status = await life.status()
            return (status["recoveries"], status["status"]) == (1, "running")

        await eventually(recovered, limit_s=60)
        assert (await life.status())["image_digest"] == digest
        assert "ImageChanged" not in await life.reasons()
        await life.signal("delete")
        await life.gone()
        await api.delete(f"/images/{name.rpartition(':')[0]}@{digest}", params={"force": 1})


async def test_readers_see_how_much_of_the_image_is_there(nebula: Nebula, registry: Registry):
    name = registry.add("tools/large", archive_of({}, {"/random": "".join(uuid.uuid4().hex for _ in range(100_000))}))
    registry.hold()
    life = await nebula.create(image=name, command=["/no"])
    store = Store(nebula.client, Lists(nebula.client, b"k"))

    async def seen() -> str | None:
        message = str((await store.get(ids.Address.parse(life.id))).status.get("message"))
        return message if "%" in message else None

    message = await eventually(seen, limit_s=40)
    assert message.startswith(f"pulling {name}: 0 of 1 layers, ")
    registry.go_on()
    await life.until("invalid", limit_s=40)
