"""What the tests of rented machines share: a cloud in memory whose machines are guests, and platforms on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from activities.platforms import machine_line
from activities.platforms.machines import MachinePlatform
from tests.activities.platforms.contract import INSTALL
from tests.activities.platforms.docker_builders import OnDocker
from tests.docker_engine import without
from tests.doubles.guests import Guests, why_not
from tests.doubles.machine_cloud import MemoryCloud, World

SECRET_KEY = bytes(range(32))


class OnMachines(OnDocker):
    """The builders, on guests."""

    patience_s = 40.0

    @pytest.fixture
    def world(self, docker_host: str, tmp_path: Path) -> Iterator[World]:
        if reason := why_not():
            without(reason)
        with Guests(docker_host, tmp_path / "guests") as guests:
            yield World(guests)

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Look sooner than at real machines, and at no file of whoever runs the tests."""
        monkeypatch.setattr(machine_line, "LOOK_EVERY_S", 0.05)
        monkeypatch.setattr("activities.platforms.machines.REDIAL_S", 0.05)
        monkeypatch.setenv("HOME", str(tmp_path))

    @pytest.fixture
    def reopen(self, world: World, tmp_path: Path) -> Callable[[], MachinePlatform]:
        return lambda: MachinePlatform(MemoryCloud(world), INSTALL, SECRET_KEY, tmp_path / "data", "10.213.0.0/16")

    @pytest.fixture
    async def platform(self, reopen: Callable[[], MachinePlatform]) -> AsyncIterator[MachinePlatform]:
        opened = reopen()
        yield opened
        await opened.close()
