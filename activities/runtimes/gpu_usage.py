"""How busy a machine's GPUs are, as `nvidia-smi` tells; nothing where there is no driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from activities.runtimes import driver
from activities.runtimes.driver import Driver
from nebulous.models.platforms import AcceleratorUsage

GPUS = ("--query-gpu=index,uuid,name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")
PROGRAMS = ("--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader,nounits")
_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU: which, and how busy."""

    uuid: str
    usage: AcceleratorUsage


async def with_indexes(indexes: set[int], ask: Driver = driver.here) -> list[AcceleratorUsage]:
    """How busy these are."""
    return await _chosen(lambda gpu: gpu.usage.index in indexes, ask) if indexes else []


async def of_processes(pids: set[int]) -> list[AcceleratorUsage]:
    """How busy those are on which one of these processes computes."""
    rows = _rows(await driver.here(*PROGRAMS))
    used = {row[1] for row in rows if len(row) == 2 and row[0].isdecimal() and int(row[0]) in pids}
    return await _chosen(lambda gpu: gpu.uuid in used, driver.here) if used else []


async def _chosen(wanted: Callable[[Gpu], bool], ask: Driver) -> list[AcceleratorUsage]:
    gpus = [gpu for row in _rows(await ask(*GPUS)) if (gpu := _gpu(row))]
    return [gpu.usage for gpu in gpus if wanted(gpu)]


def _gpu(row: list[str]) -> Gpu | None:
    """One line; a value that the driver does not tell (`[N/A]`) is None."""
    if len(row) != 6 or not row[0].isdecimal():
        return None
    percent, used, total = (_number(text) for text in row[3:])
    usage = AcceleratorUsage(
        index=int(row[0]),
        name=row[2],
        percent=percent,
        memory_bytes=None if used is None else int(used * _MIB),
        memory_limit_bytes=None if total is None else int(total * _MIB),
    )
    return Gpu(row[1], usage)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rows(listed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.strip()]
