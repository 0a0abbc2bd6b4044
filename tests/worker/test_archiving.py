"""An archive that cannot be written: the worker says so at its start, and no machine is kept for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nebulous.archive import s3
from tests import bucket
from tests.bucket import S3
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.nebula import nebula as run_nebula
from tests.served import Server
from worker import archiving
from worker.embedded import Engine

AT_ONCE = sim_labels(boot="0s", run_for="0s", log="the last words")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name, value in bucket.ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(archiving, "BAD_AGAIN_S", 0.1)
    with bucket.serving(tmp_path) as server:
        yield server


@pytest.fixture
def keeping(session_engine: Engine, tmp_path: Path, store: S3) -> Any:
    """A worker whose archive is a bucket with this name."""

    @asynccontextmanager
    async def run(name: str) -> AsyncIterator[Nebula]:
        archive = {"archive": f"s3://{name}/team", "archive_endpoint": store.url}
        async with run_nebula(session_engine.temporal_address, tmp_path, **archive) as started:
            yield started

    def made(name: str = bucket.NAME) -> AbstractAsyncContextManager[Nebula]:
        return run(name)

    return made


async def released(life: Resource) -> dict[str, Any]:
    """The conditions once nothing is rented any more."""

    async def empty() -> bool:
        return not (await life.row()).rentals

    await eventually(empty)
    return {each["type"]: each for each in (await life.status())["conditions"]}


async def kept(store: S3, life: Resource) -> int:
    return store.there().get(f"team/logs/{(await life.row()).metadata.id}/0001.log", 0)


async def test_a_bucket_that_is_not_there_is_told_and_costs_the_log_but_no_machine(
    keeping: Any, store: S3, caplog: pytest.LogCaptureFixture
) -> None:
    async with keeping("nope") as nebula:
        life = await nebula.create(labels=AT_ONCE)
        assert (await life.until("completed"))["exit_code"] == 0
        conditions = await released(life)
        assert (conditions["LogsArchived"]["status"], conditions["LogsArchived"]["reason"]) == ("False", "Rejected")
        assert "there is no bucket 'nope'" in conditions["LogsArchived"]["message"]
        assert "LogsNotArchived" in await life.reasons()
        assert await nebula.owned() == []
    said = [record.getMessage() for record in caplog.records if record.name == archiving.__name__]
    assert said[0] == (
        f"logs of containers cannot be kept: there is no bucket 'nope' for the archive s3://nope/team at {store.url}; "
        "make it, or change NEBU_ARCHIVE"
    )


async def test_a_store_that_stays_away_costs_the_log_but_no_machine(
    keeping: Any, store: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PATIENCE_S", 0.0)
    store.kill()
    async with keeping() as nebula:
        life = await nebula.create(labels=AT_ONCE)
        await life.until("completed")
        conditions = await released(life)
        assert (conditions["LogsArchived"]["status"], conditions["LogsArchived"]["reason"]) == ("False", "Unavailable")
        assert "does not answer" in conditions["LogsArchived"]["message"]


async def test_a_store_that_is_away_for_a_while_costs_nothing(
    keeping: Any, store: S3, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", archiving.__name__)
    store.kill()
    async with keeping() as nebula:
        life = await nebula.create(labels=AT_ONCE)
        await life.until("completed")
        await eventually(_told(caplog, "cannot be kept"))
        store.start()
        conditions = await released(life)
        assert "LogsArchived" not in conditions
        assert await kept(store, life) > 0
        await eventually(_told(caplog, "are kept in s3://logs/team at"))


def _told(caplog: pytest.LogCaptureFixture, words: str) -> Any:
    async def said() -> bool:
        return any(words in record.getMessage() for record in caplog.records)

    return said


def test_without_a_bucket_nobody_pays_for_the_sdk() -> None:
    code = (
        "import sys, api.app, api.command, worker.build, worker.command; from nebulous.archive import open_archive; "
        "from nebulous.settings import Settings; open_archive(Settings(data_dir='/nonexistent')); "
        "assert not {'boto3', 'botocore', 'urllib3'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve", "--data-dir", "never"), "NEBU_ARCHIVE: should be a folder or s3://BUCKET/PREFIX, not 'gs://logs'"),
        (("worker",), "should be a folder or s3://BUCKET/PREFIX"),
        (("api",), "should be a folder or s3://BUCKET/PREFIX"),
    ],
)
def test_a_place_that_cannot_be_starts_nothing(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    ended = Server(tmp_path, {"NEBU_ARCHIVE": "gs://logs"}, cwd=tmp_path).nebu(*words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not (tmp_path / "never").exists()
