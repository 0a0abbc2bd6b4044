"""Every example runs, on a real Temporal server, and does what its head says."""

import asyncio
import io
import os
import platform as machine
import secrets
import sys
import tarfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.docker import DockerPlatform
from activities.platforms.local import LocalPlatform
from nebulous import ids
from nebulous.models.documents import read
from nebulous.seal import seal, secret_key
from tests import nebula as running
from tests.docker_engine import async_client, small_system
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry
from tests.nebula import Nebula, Resource, eventually
from worker.embedded import Engine

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 30
TIMES = 6


@pytest.fixture
async def local_nebula(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    """A worker that runs commands on this host."""
    local = LocalPlatform(ids.new_id(), tmp_path, install="test")
    async with running.nebula(session_engine.temporal_address, tmp_path, local) as started:
        yield started


@pytest.fixture
async def docker_nebula(session_engine: Engine, tmp_path: Path, docker_host: str) -> AsyncGenerator[Nebula]:
    """A worker that runs containers on an Engine."""
    docker = DockerPlatform(ids.new_id(), "any", docker_host, data_dir=tmp_path)
    async with running.nebula(session_engine.temporal_address, tmp_path, docker) as started:
        yield started


async def create(nebula: Nebula, file: str, **changes: Any) -> Resource:
    """Start what an example says, on this nebula's own platform."""
    (document,) = read((EXAMPLES / file).read_text(), file)
    spec: dict[str, Any] = {key: value for key, value in document.data.items() if key not in {"kind", "metadata"}}
    labels = document.data["metadata"].get("labels")
    return await nebula.create(**{**spec, "labels": labels, "platform": nebula.platform.account, **changes})


async def test_hello_says_hello(local_nebula: Nebula):
    container = await create(local_nebula, "01-hello.yaml")
    assert (await container.until("completed", "failed", "invalid"))["exit_code"] == 0
    name = container.id.rpartition("/")[2]
    archived = local_nebula.settings.archive_dir / "logs" / (await container.row()).metadata.id

    async def kept() -> list[str]:
        return [file.read_text() for file in archived.glob("*.log")]

    (log,) = await eventually(kept, what="the log is archived")
    assert log.startswith(f"hello from {name}, attempt 1, on local")


async def test_a_command_that_fails_twice_is_restarted_until_it_succeeds(nebula: Nebula):
    container = await create(nebula, "02-fails-and-restarts.yaml")
    status = await container.until("completed", "failed", "invalid")
    assert (status["status"], status["exit_code"], status["restarts"]) == ("completed", 0, 2)


async def test_one_looks_into_a_counter_while_it_runs(local_nebula: Nebula):
    container = await create(local_nebula, "04-exec-and-logs.yaml")
    await container.until("running")
    platform = local_nebula.platform
    assert isinstance(platform, LocalPlatform)
    (instance,) = await local_nebula.owned()

    async def written() -> bool:
        log = b"".join([piece async for piece in platform.logs(instance)])
        return b"has counted to 1\n" in log

    async def said(*argv: str, stdin: bytes = b"") -> bytes:
        async with platform.execute(instance, list(argv)) as execution:
            await execution.write(stdin)
            await execution.end_input()
            return b"".join([data async for _, data in execution.output()])

    async def high() -> bool:
        return int(await said("cat", "count") or 0) > 1000

    await eventually(written)
    assert int(await said("cat", "count")) >= 1
    assert await said("tee", "count", stdin=b"1000\n") == b"1000\n"
    await eventually(high)
    copied = b"".join([piece async for piece in platform.read_files(instance, "count")])
    with tarfile.open(fileobj=io.BytesIO(copied)) as tar:
        assert tar.getnames() == ["count"]
    await container.signal("delete")
    await container.gone()


async def test_sold_out_offers_are_followed_by_the_next(nebula: Nebula):
    container = await create(nebula, "05-failover.yaml")
    status = await container.until("completed", "failed", "invalid")
    attempts = (await container.history())["attempts"]
    assert status["status"] == "completed"
    assert [attempt["outcome"] for attempt in attempts] == ["OutOfCapacity", "OutOfCapacity", "rented"]
    assert len({attempt["place"] for attempt in attempts}) == 3
    assert status["accelerator"].startswith("1:A100-")


@pytest.mark.docker
async def test_a_web_server_becomes_ready_and_is_open_on_its_port(docker_nebula: Nebula, image: str):
    container = await create(docker_nebula, "03-health-check-and-ports.yaml", image=image)
    await container.until("running", "failed", "invalid")

    async def ready() -> dict[str, Any] | None:
        status = await container.status()
        return status if status["ready"] else None

    status = await eventually(ready, limit_s=LIMIT_S)
    assert [(port["port"], port["protocol"]) for port in status["public_ports"]] == [(8000, "tcp")]
    assert "Healthy" in await container.reasons()


@pytest.mark.docker
async def test_a_private_image_is_pulled_with_the_password_of_a_secret(docker_nebula: Nebula, engine: Dockerd):
    password = secrets.token_hex(8)
    address = ids.Address("secret", "local", "default", "registry-password")
    sealed = seal(secret_key(docker_nebula.settings), address, password)
    secret = await docker_nebula.client.start_workflow(
        "Secret", {"spec": {"sealed": sealed, "digest": "d"}}, id=str(address), task_queue=ids.TASK_QUEUE
    )
    machine_word = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    with Registry(engine.init_pid, login=("ada", password), machine=machine_word) as registry:
        image = registry.add("team/hello", small_system())
        container = await create(docker_nebula, "08-private-image.yaml", image=image)
        status = await container.until("completed", "failed", "invalid", limit_s=2 * LIMIT_S)
        assert (status["status"], status["exit_code"]) == ("completed", 0)
        assert password not in str((await container.row()).model_dump())
    await Resource(docker_nebula.client, secret).signal("delete")
    async with async_client(docker_nebula.platform._runtime.engine.address) as api:  # type: ignore[attr-defined]
        await api.delete(f"/images/{image}", params={"force": 1})


async def run_program(address: str, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "07-start-a-workflow.py"),
        *words,
        env={**os.environ, "TEMPORAL_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_a_plain_temporal_program_starts_a_container(local_nebula: Nebula, session_engine: Engine):
    name = ids.two_words()
    words = ("--name", name, "--platform", local_nebula.platform.account)
    code, output = await run_program(session_engine.temporal_address, *words)
    assert (code, output.splitlines()[-1]) == (0, f"{name}: completed, exit code 0")
    again = [run_program(session_engine.temporal_address, *words) for _ in range(TIMES)]
    for code, output in await asyncio.gather(*again):  # many: the SDK crashes some of the interpreters that just end
        assert (code, output) == (
            1,
            f"container {name!r} exists: delete it first (nebu delete {name}), or give another --name\n",
        )
