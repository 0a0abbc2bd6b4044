"""Faults at activity boundaries: what fails is tried again, what happened unanswered is found, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nebula import eventually, sim_labels
from tests.nebula import nebula as run_nebula
from worker.embedded import Engine
from worker.faults import VARIABLE, Boundary, FaultInjector, Rule

ACTIVITIES = ("choose_platforms", "list_offers", "create", "start", "release", "archive_logs", "delete_owned")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("activity", ACTIVITIES)
async def test_a_life_survives_a_fault_at_any_activity(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activity: str, when: str
) -> None:
    script = {"seed": 1, "rules": [{"activity": activity, "when": when, "times": 1}]}
    monkeypatch.setenv("NEBU_FAULTS", json.dumps(script))
    async with run_nebula(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
        assert (await life.until("completed"))["exit_code"] == 0
        rented = [line for line in (await life.history())["attempts"] if line["outcome"] == "rented"]
        assert len(rented) == 1

        async def nothing_left() -> bool:
            return await nebula.owned() == []

        await eventually(nothing_left)
        await life.signal("delete")
        await life.gone()


async def test_stop_survives_a_lost_answer(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"rules": [{"activity": "stop", "when": "after", "times": 1}]}
    monkeypatch.setenv("NEBU_FAULTS", json.dumps(script))
    async with run_nebula(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s"))
        await life.until("running")
        await life.signal("stop")
        assert (await life.until("stopped"))["exit_code"] == 143


async def test_a_start_that_is_refused_backs_off_and_says_why(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"rules": [{"activity": "start", "fault": "AuthFailed", "times": 2}]}
    monkeypatch.setenv("NEBU_FAULTS", json.dumps(script))
    async with run_nebula(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s"))

        async def said() -> bool:
            return (await life.status())["reason"] == "AuthFailed"

        await eventually(said)
        await life.until("running")
        assert (await life.reasons()).count("AuthFailed") == 2


async def test_an_unanswered_rental_is_proven_absent_before_the_next_is_asked_for(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"rules": [{"activity": "create", "fault": "Unavailable", "times": 4}]}
    monkeypatch.setenv("NEBU_FAULTS", json.dumps(script))
    async with run_nebula(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s"))
        await life.until("completed", limit_s=40)
        outcomes = [line["outcome"] for line in (await life.history())["attempts"]]
        assert outcomes == ["Unavailable", "rented"]


async def test_a_call_that_is_sent_twice_rents_and_runs_once(
    session_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEBU_FAULTS", json.dumps({"rules": [{"activity": "*", "when": "twice", "pause_s": 0.1}]}))
    async with run_nebula(session_engine.temporal_address, tmp_path) as nebula:
        life = await nebula.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="1,0"), restart="OnFailure")
        assert (await life.until("completed"))["restarts"] == 1
        assert [line["outcome"] for line in (await life.history())["attempts"]] == ["rented"]


def test_a_strike_is_a_function_of_seed_and_boundary_and_happens_once_over_all_processes(tmp_path: Path) -> None:
    rules = [Rule("create", probability=0.5), Rule("*", "after", fault="kill", probability=0.5)]
    places = [Boundary(f"container/local/default/c{n}", "create", "3", 1) for n in range(40)]

    def struck(seed: int, places: list[Boundary], record: Path | None = None) -> list[Boundary]:
        injector = FaultInjector(rules, seed, record)
        return [at for at in places if injector.chosen(at, "before")]

    first = struck(1, places)
    assert 0 < len(first) < len(places)
    assert sorted(map(str, struck(1, places[::-1]))) == sorted(map(str, first))
    assert struck(2, places) != first
    assert struck(1, places, tmp_path / "record") == first
    assert struck(1, places, tmp_path / "record") == []


def test_without_its_variable_the_injector_is_not_even_loaded() -> None:
    code = (
        "import sys, worker.build as b;"
        "assert b.Parts(None, None, None, '').interceptors() == [];"
        "sys.exit('worker.faults' in sys.modules)"
    )
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=clean)
