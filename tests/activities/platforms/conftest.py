"""Platforms for tests: a simulated cloud under a clock of ours, and this host in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.platforms.local import LocalPlatform
from activities.platforms.sim import SimPlatform
from nebulous.settings import SimSettings
from tests.activities.platforms.contract import INSTALL
from tests.activities.platforms.ec2_stand import amazon, ec2  # noqa: F401 - fixtures
from tests.activities.platforms.local_builders import WORDS
from tests.activities.platforms.sim_builders import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(tmp_path: Path, clock: Clock) -> SimPlatform:
    return SimPlatform("sim", "host", tmp_path, SimSettings(boot_s=2), clock=clock)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalPlatform]:
    platform = LocalPlatform("host", tmp_path, INSTALL)
    yield platform
    for instance in await platform.owned():
        await WORDS.gone(platform, instance.key)
