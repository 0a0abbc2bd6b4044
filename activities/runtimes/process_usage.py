"""What a run on this host uses: its supervisor's whole family, so that what left the process group counts too."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from activities.runtimes import process

SPAN_S = 0.3  # over which the processors are measured


@dataclass(frozen=True)
class ProcessUsage:
    """Of all processes of a run; the limit is the machine's, because nothing else limits them."""

    pids: set[int]
    cpu_percent: float  # of one processor: two busy ones are 200
    memory_bytes: int
    memory_limit_bytes: int


async def measure(run: Path) -> ProcessUsage:
    """Look twice; what began or ended in between counts from or up to then."""
    before, begun = await asyncio.to_thread(_seconds, run), time.monotonic()
    await asyncio.sleep(SPAN_S)
    after, span = await asyncio.to_thread(_seconds, run), time.monotonic() - begun
    spent = sum(max(0.0, seconds - before.get(pid, 0.0)) for pid, seconds in after.items())
    resident = await asyncio.to_thread(lambda: sum(map(_resident, after)))
    return ProcessUsage(set(after), round(100 * spent / span, 1), resident, psutil.virtual_memory().total)


def _seconds(run: Path) -> dict[int, float]:
    """Processor time of each process of the run so far."""
    found: dict[int, float] = {}
    for pid in process.members(run):
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue  # it just ended
        found[pid] = times.user + times.system
    return found


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
