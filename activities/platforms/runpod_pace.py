"""RunPod's limits per user, kept before they are met: 60 calls a minute in its example, and deletes go first.

Every answer tells what is left (`RateLimit: "minute";r=0;t=12, …`; IETF draft ratelimit-headers, as RunPod's OpenAPI
document has it), and a 429 when to come again.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum

from activities.platforms.runpod_errors import pause
from nebulous.errors import RateLimited

WINDOW = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')
#: Calls of a window that are left to what is more urgent.
LONGEST_WAIT_S = 20.0  # an activity that waits longer says so instead


class Urgency(IntEnum):
    """How much of a window a call leaves to others."""

    DELETE = 0
    RENT = 3
    LIST = 6
    LOOK = 9


class Pace:
    """Who may call now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[int, float]] = {}  # window -> calls left, until when
        self._closed_until = 0.0
        self._deleting = 0

    def learn(self, status: int, headers: Mapping[str, str]) -> None:
        """Read an answer's limits."""
        now = self._clock()
        for name, left, seconds in WINDOW.findall(headers.get("ratelimit", "")):
            self._left[name] = (int(left), now + int(seconds))
        if status == 429:
            self._closed_until = max(self._closed_until, now + pause(headers))

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncGenerator[None]:
        """Wait until a call may go.

        Raises:
            RateLimited: That takes too long.
        """
        deleting = urgency is Urgency.DELETE
        self._deleting += deleting
        try:
            await self._wait(urgency)
            for name, (left, until) in self._left.items():
                self._left[name] = (max(0, left - 1), until)
            yield
        finally:
            self._deleting -= deleting

    async def _wait(self, urgency: Urgency) -> None:
        end = self._clock() + LONGEST_WAIT_S
        while (wait := self._needed(urgency)) > 0:
            if self._clock() + wait > end:
                raise RateLimited("RunPod's limit of calls is used up", "it is per user, over all programs", wait)
            await asyncio.sleep(wait)

    def _needed(self, urgency: Urgency) -> float:
        now = self._clock()
        waits = [self._closed_until - now]
        waits += [until - now for left, until in self._left.values() if left <= urgency]
        if self._deleting and urgency is not Urgency.DELETE and max(waits) > -1.0:
            waits.append(0.05)  # the limit has just opened: those who give back go first
        return max(waits)
