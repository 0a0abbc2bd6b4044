"""The proofs can fail: a cloud that forgets its idempotency keys is found out, one that keeps them is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.ledgers import FOREVER, FORGETS_KEYS, SimLedger, Tenancy, rented_twice
from tests.nebula import Nebula, nebula, sim_labels
from worker.embedded import Engine


async def rent(run: Nebula, tmp_path: Path, *mutations: str) -> SimLedger:
    """A life whose first create takes effect, but its answer is lost, to its end; with the cloud's ledger."""
    ledger = SimLedger(tmp_path, *mutations)
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s", unanswered="1"))
    await life.until("completed")
    await life.signal("delete")
    await life.gone()
    return ledger


async def test_a_lost_answer_is_no_second_rental(session_engine: Engine, tmp_path: Path) -> None:
    async with nebula(session_engine.temporal_address, tmp_path) as run:
        ledger = await rent(run, tmp_path)
    assert len(ledger.tenancies()) == 1
    assert rented_twice(ledger.tenancies()) == []
    assert ledger.present() == []


async def test_without_idempotency_keys_the_second_rental_is_found(session_engine: Engine, tmp_path: Path) -> None:
    async with nebula(session_engine.temporal_address, tmp_path, orphan_grace_s=60) as run:
        ledger = await rent(run, tmp_path, FORGETS_KEYS)
    problems = rented_twice(ledger.tenancies())
    assert any("two instances at a time" in problem for problem in problems)
    assert any("rented twice for one try" in problem for problem in problems)
    assert len(ledger.present()) == 2, "and the leak is found, too: the release looked them up by their key"


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (Tenancy("b", "k2", "l", "w", 20.5, FOREVER), []),
        (Tenancy("b", "k2", "l", "w", 19.5, FOREVER), ["w had two instances at a time"]),
        (Tenancy("b", "k1", "l", "w", 20.5, FOREVER), ["w rented twice for one try"]),
        (Tenancy("b", "k2", "other", "w", 19.5, 21.0), ["w had two instances at a time"]),
        (Tenancy("b", "k2", "other", "v", 19.5, 21.0), []),
    ],
)
def test_a_ledger_is_read_for_overlaps_and_repetitions(second: Tenancy, found: list[str]) -> None:
    problems = rented_twice([second, Tenancy("a", "k1", "l", "w", 10.0, 20.0)])
    assert [problem.partition(":")[0] for problem in problems] == found
