"""Google Compute Engine as a platform: every promise of the contract, on real machines behind the double's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from activities.platforms.gce import GceCloud
from activities.platforms.machines import MachinePlatform
from tests.activities.platforms import gce_builders as builders
from tests.activities.platforms.contract import PlatformContract
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.machine_builders import SECRET_KEY, OnMachines
from tests.docker_engine import without
from tests.doubles.gce import Gce
from tests.doubles.guests import Guests, why_not

pytestmark = pytest.mark.docker


class OnGce(OnMachines):
    """The builders, on guests that the double boots."""

    @pytest.fixture
    def double(self, docker_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
        if reason := why_not():
            without(reason)
        with Guests(docker_host, tmp_path / "guests") as guests, builders.double(monkeypatch, guests=guests) as double:
            yield double

    @pytest.fixture
    def reopen(self, double: Gce, tmp_path: Path) -> Callable[[], MachinePlatform]:
        def opened() -> MachinePlatform:
            cloud: GceCloud = builders.client(double, tmp_path)
            return MachinePlatform(cloud, builders.INSTALL, SECRET_KEY, tmp_path / "data", "10.213.0.0/16")

        return opened

    @pytest.fixture
    async def platform(self, reopen: Callable[[], MachinePlatform]) -> AsyncIterator[MachinePlatform]:
        opened = reopen()
        yield opened
        await opened.close()


class TestGceContract(OnGce, RealExecContract, PlatformContract):
    """SDK, API, boot script, host key from the console, SSH, Docker, command: nothing is pretended but Google."""
