"""What `nebu serve` costs while nothing is to be done."""

from __future__ import annotations

import time

from bench.installs import Install, install
from bench.report import Figure

SETTLE_S, LOOK_S = 20.0, 60.0
QUICK_SETTLE_S, QUICK_LOOK_S = 3.0, 5.0


def measure(quick: bool) -> list[Figure]:
    """Processor time in percent of one core, and memory of all processes, shared pages counted in shares."""
    with install(NEBU_LOCAL_ENABLED="true") as here:
        time.sleep(QUICK_SETTLE_S if quick else SETTLE_S)
        look = QUICK_LOOK_S if quick else LOOK_S
        before = _used(here)
        time.sleep(look)
        after = _used(here)
        percent = {name: 100 * (after[name] - before[name]) / look for name in before}
        memory = {name: process.memory_full_info().pss / 2**20 for name, process in _named(here).items()}
    print("idle:", ", ".join(f"{name} {percent[name]:.2f} %, {memory[name]:.0f} MB" for name in memory))
    return [
        Figure("serve, idle: processor", sum(percent.values()), "% of a core", 5),
        Figure("serve, idle: memory (PSS)", sum(memory.values()), "MB", 450),
    ]


def _named(here: Install) -> dict[str, object]:
    known = {mark["pid"]: name for name, mark in here.server.marks().items()}
    return {f"{known.get(each.pid, each.name())}": each for each in here.processes()}


def _used(here: Install) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in _named(here).items()}
