"""What a simulated instance pretends to use: the same at the same moment, whoever asks."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

from activities.platforms.sim_instances import Rented
from nebulous import catalog
from nebulous.models.platforms import AcceleratorUsage, Usage

GIB = 1 << 30
MACHINE_GIB = 16
STEP_S = 5.0  # numbers change this often


def usage(rented: Rented, now: float) -> Usage:
    """Numbers made of the instance's id and the time."""
    step = int(now / STEP_S)
    limit = MACHINE_GIB * GIB
    idle_at = rented.runs[-1].idle_at if rented.runs else None
    idle = idle_at is not None and idle_at <= now
    return Usage(
        at=datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        cpu_percent=_between(20, 95, rented.id, "cpu", step),
        memory_bytes=int(limit * _between(10, 60, rented.id, "memory", step) / 100),
        memory_limit_bytes=limit,
        accelerators=[_accelerator(rented, index, step, idle) for index in range(rented.accelerator_count)],
        simulated=True,
    )


def _accelerator(rented: Rented, index: int, step: int, idle: bool) -> AcceleratorUsage:
    name = str(rented.accelerator)
    limit = int(float(catalog.load().accelerators[name]["memory_gib"]) * GIB)
    used = int(limit * _between(30, 90, rented.id, f"memory{index}", step) / 100)
    percent = 0.0 if idle else _between(40, 100, rented.id, f"gpu{index}", step)
    return AcceleratorUsage(index=index, name=name, percent=percent, memory_bytes=used, memory_limit_bytes=limit)


def _between(low: int, high: int, *what: object) -> float:
    return float(low + zlib.crc32(" ".join(map(str, what)).encode()) % (high - low + 1))
