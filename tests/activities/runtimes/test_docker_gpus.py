"""Which GPUs this machine has, what of the asked it can give, and which of them are free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from activities.runtimes import docker_gpus
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.ids import TAG_GPUS

WITH_GPUS = {"Runtimes": {"runc": {}, "nvidia": {}}}
HERE = ["A100-80GB-SXM", "A100-80GB-SXM", "T4"]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an `nvidia-smi` of these lines of sh on the path."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def script(lines: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)

    return script


async def test_gpus_are_named_as_in_the_catalog_and_unknown_ones_keep_their_name(smi: Callable[[str], None]):
    smi("echo NVIDIA A100-SXM4-80GB; echo Tesla T4; echo NVIDIA ZX Future 9000")
    assert await docker_gpus.inventory() == ["A100-80GB-SXM", "T4", "NVIDIA ZX Future 9000"]


async def test_a_driver_that_fails_has_no_gpus(smi: Callable[[str], None]):
    smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert await docker_gpus.inventory() == []


async def test_a_driver_that_hangs_has_no_gpus_and_is_not_waited_for(
    smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    smi("exec sleep 300")
    monkeypatch.setattr("activities.runtimes.driver.ANSWER_S", 0.1)
    assert await docker_gpus.inventory() == []


def test_a_family_gets_the_members_that_are_here_in_the_order_asked():
    assert docker_gpus.fitting(["8:H100", "2:A100", "1:T4"], HERE, WITH_GPUS) == [(1, 2, "A100-80GB-SXM"), (2, 1, "T4")]


def test_more_than_there_are_is_rejected_and_the_hint_says_what_there_is():
    with pytest.raises(Rejected, match="no 4:A100") as refused:
        docker_gpus.fitting(["4:A100"], HERE, WITH_GPUS)
    assert "2:A100-80GB-SXM, 1:T4" in (refused.value.hint or "")


def test_free_gpus_are_those_that_no_container_holds():
    holders = [{"Labels": {TAG_GPUS: "0,2"}}]
    assert docker_gpus.pick(1, "A100-80GB-SXM", HERE, holders) == [1]
    with pytest.raises(OutOfCapacity, match="1 of 2 A100-80GB-SXM are free"):
        docker_gpus.pick(2, "A100-80GB-SXM", HERE, holders)
