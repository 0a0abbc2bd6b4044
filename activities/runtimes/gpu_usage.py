"""How busy this machine's GPUs are, as `nvidia-smi` tells; nothing where there is no driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from nebulous.models.platforms import AcceleratorUsage

SMI_S = 5.0
GPUS = ("--query-gpu=index,uuid,name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")
PROGRAMS = ("--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader,nounits")
_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU: which, and how busy."""

    uuid: str
    usage: AcceleratorUsage


async def with_indexes(indexes: set[int]) -> list[AcceleratorUsage]:
    """How busy these are."""
    return await _chosen(lambda gpu: gpu.usage.index in indexes) if indexes else []


async def of_processes(pids: set[int]) -> list[AcceleratorUsage]:
    """How busy those are on which one of these processes computes."""
    rows = _rows(await _ask(*PROGRAMS))
    used = {row[1] for row in rows if len(row) == 2 and row[0].isdecimal() and int(row[0]) in pids}
    return await _chosen(lambda gpu: gpu.uuid in used) if used else []


async def _chosen(wanted: Callable[[Gpu], bool]) -> list[AcceleratorUsage]:
    gpus = [gpu for row in _rows(await _ask(*GPUS)) if (gpu := _gpu(row))]
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


async def _ask(*question: str) -> str:
    """What the driver's program says; empty when it is not there, fails or hangs."""
    try:
        program = await asyncio.create_subprocess_exec(
            "nvidia-smi", *question, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(SMI_S):
            said, _ = await program.communicate()
    except TimeoutError:
        return ""
    finally:
        if program.returncode is None:
            with suppress(ProcessLookupError):
                program.kill()
    return said.decode(errors="replace") if program.returncode == 0 else ""
