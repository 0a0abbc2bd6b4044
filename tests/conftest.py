"""Fixtures for everybody: the engine of a test session, and a running Nebulous on it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nebulous.settings import Settings
from tests import nebula as running
from tests.docker_engine import docker_host, engine, image  # noqa: F401 - fixtures
from tests.nebula import Nebula
from worker.embedded import Engine

# A shell starts what it puts into the background with SIGINT ignored, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test rents in an account whose credentials happen to be in the environment; those of clouds say so themselves.
os.environ["NEBU_CLOUDS"] = ""


#: Files of these wait more than they compute. They come first, so that at its end no long one runs alone.
LONG = (
    "test_demo.py",
    "test_remote_install.py",
    "test_changing.py",
    "test_large_logs.py",
    "worker/",
    "workflows/",
    "examples/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; `make test` keeps this order of files."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not item.path.relative_to(here).as_posix().startswith(LONG))


@contextmanager
def served(folder: Path, **dynamic_config: str) -> Generator[Engine]:
    """An engine in a thread with a loop of its own, so that a whole session of event loops may use it."""
    settings = Settings(data_dir=folder, temporal_port=0, ui_port=0, redis_port=0)
    server, ready, stop = Engine(settings, dynamic_config), threading.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30), "the engine did not start"
        yield server
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="session")
def session_engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    """Temporal and Valkey as `nebu serve` starts them."""
    with served(tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest.fixture(scope="session")
def short_history_engine(tmp_path_factory: pytest.TempPathFactory) -> Generator[Engine]:
    """One that asks workflows to continue as new after 50 events."""
    short = {"limit.historyCount.suggestContinueAsNew": "50"}
    with served(tmp_path_factory.mktemp("short"), **short) as server:
        yield server


@pytest.fixture
async def nebula(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    """A worker with a simulated cloud of its own."""
    async with running.nebula(session_engine.temporal_address, tmp_path) as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say with which seed the campaign of `tests/chaos` ran, also when all is well and other processes ran it."""
    for report in (each for reports in terminalreporter.stats.values() for each in reports):
        for name, story in getattr(report, "user_properties", []):
            if name == "chaos" and getattr(report, "when", "") == "call":
                terminalreporter.write_line(f"chaos: {story}")
