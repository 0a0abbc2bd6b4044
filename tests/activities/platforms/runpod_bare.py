"""What tests of RunPod share that need no container: a double whose pods run nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.base import Command
from activities.platforms.runpod import RunpodPlatform
from nebulous import ids
from nebulous.accounts import RunpodAccount
from nebulous.models.containers import Launch
from nebulous.models.platforms import Offer
from nebulous.models.resources import Metadata
from tests.activities.platforms.contract import INSTALL
from tests.doubles.runpod import KEY, RunpodDouble

SECRET_KEY = bytes(range(32))
LOGIN = Command({}, "ada", "s3cret")
A40 = Offer(
    platform="runpod",
    account="runpod:test",
    region="US-KS-2",
    instance_type="NVIDIA A40",
    accelerator="A40",
    accelerator_count=1,
)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunpodDouble]:
    """Without an Engine: these pods run nothing."""
    with RunpodDouble(boot_s=0.0) as double:
        monkeypatch.setenv("NEBU_RUNPOD_API", double.url)
        monkeypatch.setenv("RUNPOD_API_KEY", KEY)
        yield double


@pytest.fixture
async def reopen(double: RunpodDouble, tmp_path: Path) -> AsyncIterator[Callable[[], RunpodPlatform]]:
    """Another worker's platform."""
    opened: list[RunpodPlatform] = []

    def reopen() -> RunpodPlatform:
        platform = RunpodPlatform("test", INSTALL, RunpodAccount(), SECRET_KEY, tmp_path)
        platform._list._apart_s = platform._registries._list._apart_s = 0.0
        opened.append(platform)
        return platform

    yield reopen
    for platform in opened:
        await platform.close()


@pytest.fixture
def platform(reopen: Callable[[], RunpodPlatform]) -> RunpodPlatform:
    return reopen()


def launch(key: str | None = None, **spec: Any) -> Launch:
    life = ids.new_id()
    return Launch(
        metadata=Metadata(name="c", namespace="default", owner="local", id=life),
        spec={"image": "busybox", "command": "true", **spec},
        key=key or f"nebu-{ids.new_id()}",
        install=INSTALL,
        workflow="container/local/default/c",
    )
