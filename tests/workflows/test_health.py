"""Health checks from the prober to the status, on the simulated cloud and on this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from activities.health import Prober
from activities.platforms.local import LocalPlatform
from activities.secrets import SecretReader
from nebulous import ids
from tests import nebula as running
from tests.nebula import Nebula, Resource, eventually, sim_labels
from worker.embedded import Engine

OFTEN = {"interval": "100ms", "timeout": "2s", "retries": 2}


@pytest.fixture
async def host(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    """A worker that runs commands on this host."""
    local = LocalPlatform(ids.new_id(), tmp_path, install="test")
    async with running.nebula(session_engine.temporal_address, tmp_path, local) as started:
        yield started
        await started.clear()


async def ready(life: Resource, reason: str) -> dict[str, Any]:
    """Wait until the condition `Ready` has this reason; return it."""

    async def so() -> dict[str, Any] | None:
        conditions = (await life.status())["conditions"]
        return next((each for each in conditions if (each["type"], each["reason"]) == ("Ready", reason)), None)

    return await eventually(so, what=f"Ready is {reason}; status is {await life.status()}")


async def test_without_a_health_check_running_is_ready(nebula: Nebula):
    life = await nebula.create(labels=sim_labels(boot="0s"))
    status = await life.until("running")
    assert status["ready"] is True
    assert "Ready" not in {each["type"] for each in status["conditions"]}


async def test_it_is_not_ready_before_the_first_good_answer_and_then_it_is(nebula: Nebula):
    script = sim_labels(boot="0s", healthy_after="700ms")
    life = await nebula.create(labels=script, health_check={"command": "true", "start_period": "1m", **OFTEN})
    status = await life.until("running")
    assert status["ready"] is False
    assert (await ready(life, "Starting"))["status"] == "False"
    assert (await ready(life, "Healthy"))["status"] == "True"
    assert (await life.status())["ready"] is True
    assert [reason for reason in await life.reasons() if reason in ("Healthy", "Unhealthy")] == ["Healthy"]


async def test_with_restart_never_a_failing_check_marks_it_not_ready_and_leaves_it_running(nebula: Nebula):
    script = sim_labels(boot="0s", unhealthy_after="500ms")
    life = await nebula.create(labels=script, health_check={"command": "true", **OFTEN})
    await ready(life, "Healthy")
    condition = await ready(life, "Unhealthy")
    assert condition["status"] == "False"
    assert "simulated: its command says no (2 in a row)" in condition["message"]
    status = await life.status()
    assert (status["status"], status["ready"], status["restarts"]) == ("running", False, 0)
    await life.signal("stop")
    assert (await life.until("stopped"))["ready"] is False


async def test_with_a_restart_policy_a_failing_check_restarts_the_command_as_a_retry(nebula: Nebula):
    script = sim_labels(boot="0s", unhealthy_after="300ms,1h")
    life = await nebula.create(labels=script, restart="OnFailure", health_check={"command": "true", **OFTEN})

    async def again() -> dict[str, Any] | None:
        status = await life.status()
        return status if (status["restarts"], status["status"], status["ready"]) == (1, "running", True) else None

    status = await eventually(again)
    assert (status["attempt"], status["recoveries"]) == (1, 0)
    reasons = await life.reasons()
    assert (reasons.count("Rented"), reasons.count("Unhealthy")) == (1, 1)


async def test_restarts_for_bad_health_end_after_max_retries(nebula: Nebula):
    script = sim_labels(boot="0s", unhealthy_after="0s")
    check = {"command": "true", **OFTEN}
    life = await nebula.create(labels=script, restart="Always", max_retries=1, health_check=check)
    status = await life.until("failed")
    assert (status["reason"], status["restarts"]) == ("Unhealthy", 1)
    assert "1 restart did not help" in status["message"]
    await eventually(lambda: _nothing(nebula))


async def _nothing(nebula: Nebula) -> bool:
    return await nebula.owned() == []


async def test_failures_within_the_start_period_do_not_count(nebula: Nebula):
    script = sim_labels(boot="0s", healthy_after="1s")
    check = {"command": "true", "start_period": "30s", **OFTEN}
    life = await nebula.create(labels=script, restart="Always", health_check=check)
    await ready(life, "Healthy")
    assert "Unhealthy" not in await life.reasons()
    assert (await life.status())["restarts"] == 0


async def test_checks_of_an_idle_container_cost_no_event_of_history(host: Nebula, tmp_path: Path):
    asked = tmp_path / "asked"
    check = {"command": f"echo . >> {asked}", **OFTEN}
    life = await host.create(image=None, command="sleep 600", health_check=check)
    await ready(life, "Healthy")
    before, count = await history_length(life), lines(asked)
    await eventually(lambda: more_than(asked, count + 20))
    assert await history_length(life) == before


async def history_length(life: Resource) -> int:
    return (await life.client.get_workflow_handle(life.id).describe()).history_length


def lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


async def more_than(file: Path, count: int) -> bool:
    return lines(file) > count


async def test_a_port_that_nothing_listens_on_is_named(host: Nebula):
    check = {"path": "/", "port": 1, **OFTEN}
    life = await host.create(image=None, command="sleep 600", health_check=check)
    condition = await ready(life, "Unhealthy")
    assert condition["message"] == "nothing listens on port 1: connection refused (2 in a row)"


async def test_the_answer_of_a_real_server_decides(host: Nebula, tmp_path: Path):
    """Of a server on this host that says 503 until it may say 200."""
    answers = tmp_path / "ok"
    async with asyncio.timeout(60):
        server = await asyncio.start_server(lambda r, w: _answer(r, w, answers), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            check = {"path": "/ready", "port": port, **OFTEN}
            life = await host.create(image=None, command="sleep 600", health_check=check)
            condition = await ready(life, "Unhealthy")
            assert f"http port {port}, path /ready answers 503" in condition["message"]
            answers.touch()
            await ready(life, "Healthy")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: Path) -> None:
    await reader.readuntil(b"\r\n\r\n")
    status = "200 OK" if good.exists() else "503 Not Yet"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    writer.close()


async def test_a_command_check_sees_folder_and_variables_and_its_last_words_are_told(host: Nebula):
    check = {"command": 'test -e ready && test "$GREETING" = hi || { echo "no file $GREETING"; exit 3; }', **OFTEN}
    life = await host.create(
        image=None,
        command="until test -e go; do sleep 0.1; done; touch ready; sleep 600",
        env_vars=[{"key": "GREETING", "value": "hi"}],
        health_check=check,
    )
    condition = await ready(life, "Unhealthy")
    assert condition["message"] == "its command ended with 3: no file hi (2 in a row)"
    (instance,) = await host.owned()
    (host.settings.data / "local" / instance.key / "work" / "go").touch()
    await ready(life, "Healthy")


async def test_a_check_that_hangs_is_ended_and_says_so(host: Nebula):
    check = {"command": "sleep 600", "interval": "100ms", "timeout": "200ms", "retries": 1}
    life = await host.create(image=None, command="sleep 600", health_check=check)
    condition = await ready(life, "Unhealthy")
    assert condition["message"] == "its command did not end within 200ms (1 in a row)"


async def test_many_without_a_check_cost_no_look_at_their_rows(nebula: Nebula):
    """The rows that a full comparison reads tell that there is nothing to do."""
    lives = [await nebula.create(labels=sim_labels(boot="0s")) for _ in range(5)]
    for life in lives:
        await life.until("running")
    prober = Prober(nebula.client, nebula.platform, nebula.parts.install, SecretReader(nebula.client, b""))
    rows = {key: row for row in [await life.row() for life in lives] for key in row.rentals}
    prober.see(await nebula.owned(), rows)
    assert [task.loop for task in prober._tasks.values()] == [None] * 5
    await prober.close()


async def test_another_worker_goes_on_where_the_row_is(session_engine: Engine, tmp_path: Path):
    """The first worker is gone when the health changes; the second one tells, and repeats nothing."""
    flag, name = tmp_path / "bad", ids.new_id()
    check = {"command": f"! test -e {flag}", **OFTEN}

    def local() -> LocalPlatform:
        return LocalPlatform(name, tmp_path, install="test")

    async with running.nebula(session_engine.temporal_address, tmp_path, local()) as first:
        life = await first.create(image=None, command="sleep 600", health_check=check)
        await ready(life, "Healthy")
    flag.touch()
    async with running.nebula(session_engine.temporal_address, tmp_path, local()) as second:
        await ready(life, "Unhealthy")
        assert [r for r in await life.reasons() if r in ("Healthy", "Unhealthy")] == ["Healthy", "Unhealthy"]
        second.lives.append(life)
        await second.clear()
