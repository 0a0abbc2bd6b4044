"""Whole lives at Google: workflow, SDK, API, boot script, SSH, Docker, command; nothing is pretended but Google."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from activities.platforms.machines import MachinePlatform
from nebulous import temporal
from tests.activities.platforms import gce_builders as builders
from tests.activities.platforms.machine_builders import SECRET_KEY
from tests.docker_engine import without
from tests.doubles.gce import Gce
from tests.doubles.guests import Guests, why_not
from tests.nebula import Nebula, Resource, eventually
from tests.nebula import nebula as run_nebula
from worker import hosting
from worker.embedded import Engine

pytestmark = pytest.mark.docker
PATIENCE_S = 60.0


@pytest.fixture
def google(docker_host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    if reason := why_not():
        without(reason)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Guests(docker_host, tmp_path / "guests") as guests, builders.double(monkeypatch, guests=guests) as double:
        yield double


@pytest.fixture
async def on_gce(session_engine: Engine, tmp_path: Path, google: Gce) -> AsyncGenerator[Nebula]:
    install = await hosting.install_id(await temporal.connect(session_engine.temporal_address))
    cloud = builders.client(google, tmp_path, install=install, regions=["us-central1", "us-east4"])
    platform = MachinePlatform(cloud, install, SECRET_KEY, tmp_path / "data", "10.213.0.0/16")
    platform.busy_interval = 0.5
    async with run_nebula(session_engine.temporal_address, tmp_path, platform) as started:
        yield started


async def released(life: Resource) -> None:
    async def empty() -> bool:
        return not (await life.row()).rentals

    await eventually(empty, PATIENCE_S)


async def test_a_command_runs_to_its_exit_code_where_there_is_room(on_gce: Nebula, google: Gce, image: str):
    google.world.refusals["us-central1-a"] = builders.sold_out("us-central1-a", "e2-medium")
    life = await on_gce.create(image=image, command="echo out; echo err >&2; exit 3")
    status = await life.until("failed", limit_s=PATIENCE_S)
    assert status["exit_code"] == 3
    await released(life)
    tried = [(each["place"], each["outcome"]) for each in (await life.history())["attempts"]]
    assert tried == [("gce us-central1-a e2-medium", "OutOfCapacity"), ("gce us-central1-b e2-medium", "rented")]
    archive = on_gce.settings.data / "archive/logs" / (await life.row()).metadata.id / "0001.log"
    assert sorted(archive.read_text().split()) == ["err", "out"]
    assert google.inventory == []
    assert len(google.world.ever) == 1


async def test_a_spot_machine_that_google_takes_back_is_recovered(on_gce: Nebula, google: Gce, image: str):
    life = await on_gce.create(image=image, command="test $NEBU_RECOVERIES = 1 || sleep 600", spot=True)
    await life.until("running", limit_s=PATIENCE_S)
    with google.changing() as world:
        world.stop_s = 5.0
        world.preempt(google.inventory[0])
    status = await life.until("completed", limit_s=PATIENCE_S)
    assert (status["recoveries"], status["exit_code"]) == (1, 0)
    await released(life)
    assert google.inventory == []
    assert len(google.world.ever) == 2
