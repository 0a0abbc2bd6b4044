"""Idle containers: looks whether accelerators do anything and anybody is attached, and says so once neither was true.

The prober (`health.py`) runs one such watch beside the checks of a container that has an `idle_timeout`. A look costs
nothing in Temporal; only what is to be stopped is signalled. A worker that dies begins to count anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from activities.platforms.base import Measures
from nebulous import durations
from nebulous.errors import NebulousError
from nebulous.models.platforms import Instance, Usage

IDLE_PERCENT = 5.0  # of an accelerator: a desktop or a loaded model that nobody asks uses less
LOOKS = 10  # within the time that it may be idle
SOONEST_LOOK_S, SLOWEST_LOOK_S = 0.2, 30.0

#: Tells whether somebody is, or was within the last minute, attached to what is rented under a key.
Attached = Callable[[str], Awaitable[bool]]


@dataclass
class Quiet:
    """How long it has been idle without a break. Pure."""

    span_s: float
    since: float | None = None

    def add(self, now: float, idle: bool) -> bool:
        """Take in one look; True once it has been idle for the whole span."""
        if not idle:
            self.since = None
            return False
        if self.since is None:
            self.since = now
        return now - self.since >= self.span_s


def idle(usage: Usage) -> bool:
    """True when every accelerator is known to do next to nothing; what nobody measures is not idle."""
    percents = [each.percent for each in usage.accelerators]
    return bool(percents) and all(percent is not None and percent < IDLE_PERCENT for percent in percents)


async def watch(
    platform: Measures, instance: Instance, span: timedelta, attached: Attached, tell: Callable[[str], Awaitable[None]]
) -> None:
    """Look for ever; call `tell` with the reason whenever it has been idle for the span."""
    span_s = span.total_seconds()
    quiet, pause = Quiet(span_s), min(max(span_s / LOOKS, SOONEST_LOOK_S), SLOWEST_LOOK_S)
    while True:
        if quiet.add(time.monotonic(), await _idle_now(platform, instance, attached)):
            await tell(f"its accelerators were idle for {durations.render(span)} and nobody was attached")
            quiet.since = None  # told again if it still runs after as long again
        await asyncio.sleep(pause)


async def _idle_now(platform: Measures, instance: Instance, attached: Attached) -> bool:
    """Unknown is not idle: neither a platform in trouble nor a Redis that does not answer stops a command."""
    try:
        return idle(await platform.usage(instance)) and not await attached(instance.key)
    except NebulousError:
        return False
