"""What a container uses, from the Engine's own numbers, counted as `docker stats` counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nebulous.models.platforms import Usage


def read(stats: Mapping[str, Any]) -> Usage | None:
    """The Engine's reply as numbers; None when the container does not run, which it tells by leaving them out."""
    memory: Mapping[str, Any] = stats.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    return Usage(
        at=str(stats["read"]),
        cpu_percent=_processors(stats),
        memory_bytes=max(0, int(memory["usage"]) - _cache(memory)),
        memory_limit_bytes=int(memory["limit"]) if memory.get("limit") else None,
    )


def _processors(stats: Mapping[str, Any]) -> float | None:
    """Percent of one processor between the Engine's last two looks."""
    now, before = stats["cpu_stats"], stats["precpu_stats"]
    try:
        spent = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
        span = now["system_cpu_usage"] - before["system_cpu_usage"]
    except KeyError:  # there was only one look
        return None
    processors = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or [0])
    return round(100 * processors * max(0, spent) / span, 1) if span > 0 else None


def _cache(memory: Mapping[str, Any]) -> int:
    """Files in memory that the kernel drops when somebody needs the room; its name differs between cgroup versions."""
    details: Mapping[str, Any] = memory.get("stats") or {}
    return int(details.get("inactive_file", details.get("total_inactive_file", 0)))
