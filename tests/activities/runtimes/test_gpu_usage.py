"""What `nvidia-smi` says of the GPUs that somebody holds or computes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.runtimes import docker_usage, gpu_usage

GIB = 1 << 30
GPUS = """\
0, GPU-aa, NVIDIA A100-SXM4-80GB, 87, 40960, 81920
1, GPU-bb, NVIDIA A100-SXM4-80GB, [N/A], [N/A], 81920
2, GPU-cc, NVIDIA T4, 3, 1, 16384
"""
PROGRAMS = "77, GPU-cc\n78, GPU-aa\n78, GPU-cc\n[N/A], GPU-bb\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the driver's name that prints what a test writes."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --query-gpu=*) cat {tmp_path}/gpus;; *) cat {tmp_path}/programs;; esac\n'
    )
    program.chmod(0o755)
    (tmp_path / "gpus").write_text(GPUS)
    (tmp_path / "programs").write_text(PROGRAMS)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


async def test_the_gpus_that_a_container_holds(driver: Path) -> None:
    first, second = await gpu_usage.with_indexes({0, 1})
    assert (first.index, first.name, first.percent) == (0, "NVIDIA A100-SXM4-80GB", 87)
    assert (first.memory_bytes, first.memory_limit_bytes) == (40 * GIB, 80 * GIB)
    assert (second.percent, second.memory_bytes, second.memory_limit_bytes) == (None, None, 80 * GIB)
    assert await gpu_usage.with_indexes(set()) == []


async def test_the_gpus_on_which_processes_compute(driver: Path) -> None:
    assert [each.index for each in await gpu_usage.of_processes({77})] == [2]
    assert [each.index for each in await gpu_usage.of_processes({78, 5})] == [0, 2]
    assert await gpu_usage.of_processes({5}) == []


@pytest.mark.parametrize("body", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho No devices were found\n"])
async def test_a_driver_that_fails_tells_nothing(driver: Path, body: str) -> None:
    driver.write_text(body)
    assert await gpu_usage.with_indexes({0}) == []
    driver.unlink()
    assert await gpu_usage.with_indexes({0}) == []


async def test_a_driver_that_hangs_is_left(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.runtimes.driver.ANSWER_S", 0.05)
    driver.write_text("#!/bin/sh\nexec sleep 60\n")
    assert await gpu_usage.with_indexes({0}) == []


def test_the_engines_numbers_are_counted_as_docker_stats_does() -> None:
    before = {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000}
    now = {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4}
    memory = {"usage": 700, "limit": 1000, "stats": {"inactive_file": 200}}
    stats = {"read": "2026-11-24T03:00:00Z", "cpu_stats": now, "precpu_stats": before, "memory_stats": memory}
    used = docker_usage.read(stats)
    assert used
    assert (used.cpu_percent, used.memory_bytes, used.memory_limit_bytes) == (80.0, 500, 1000)
    old = docker_usage.read({**stats, "memory_stats": {**memory, "stats": {"total_inactive_file": 100}}})
    assert old
    assert old.memory_bytes == 600
    first = docker_usage.read({**stats, "precpu_stats": {"cpu_usage": {"total_usage": 0}}})
    assert first
    assert first.cpu_percent is None
    assert docker_usage.read({**stats, "memory_stats": {}}) is None
