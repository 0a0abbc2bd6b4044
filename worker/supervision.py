"""Keeps children running: starts them in groups, starts again what dies, stops the last group first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nebulous.errors import NebulousError
from worker.children import Child, remember, stop_stale

WATCH_EVERY_S = 0.2
FIRST_RESTART_S, SLOWEST_RESTART_S = 0.2, 10.0
STEADY_S = 10.0  # a child that ran this long is started again without delay, as if it were the first time
STALE_GRACE_S = 3.0
LAST_GROUPS_S = 1.2  # of the time to stop, kept for the groups started first; they survive kill -9 (measured)


class NotStarted(NebulousError):
    """A part of ours ended before it was ready."""


@dataclass
class _Watched:
    child: Child
    started_at: float
    restart_at: float | None = None
    backoff_s: float = FIRST_RESTART_S


class Supervision:
    """The children of one serve.

    They outlive a serve that is killed, so that containers stay watched; the marks in a file let the next serve
    find and stop them. Each mark is written as soon as its child runs.
    """

    def __init__(self, marks: Path, say: Callable[[str], None]) -> None:
        self._marks = marks
        self._say = say
        self._groups: list[list[_Watched]] = []

    def stop_stale(self) -> None:
        """Stop what an earlier serve on the same data left when it was killed. Blocking."""
        if names := stop_stale(self._marks, STALE_GRACE_S):
            self._say(f"stopped {', '.join(names)}: left by a `nebu serve` that was killed")

    def start(self, *children: Child) -> None:
        """Start a group; groups started later use those started before."""
        group: list[_Watched] = []
        self._groups.append(group)
        for child in children:
            child.start()
            group.append(_Watched(child, time.monotonic()))
            self._remember()

    def check(self) -> None:
        """See that all of them run, before they are watched.

        Raises:
            NotStarted: One has ended, with its last words.
        """
        for watched in self._all():
            child = watched.child
            if not child.alive:
                words = child.last_words() or "it said nothing"
                raise NotStarted(f"{child.name} {child.ending}: {words}", f"its log is {child.log}")

    async def watch(self, stop: asyncio.Event) -> None:
        """Start again what dies, until told to stop."""
        while not stop.is_set():
            for watched in self._all():
                if not watched.child.alive:
                    self._revive(watched, time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), WATCH_EVERY_S)

    async def stop(self, limit_s: float) -> None:
        """Stop the last group first, all within `limit_s`; what does not end in time is killed."""
        end = time.monotonic() + limit_s
        while self._groups:
            kept = LAST_GROUPS_S if len(self._groups) > 1 else 0.0
            grace_s = max(0.1, end - time.monotonic() - kept)
            await asyncio.gather(*(watched.child.stop(grace_s) for watched in self._groups[-1]))
            self._groups.pop()
        self._marks.unlink(missing_ok=True)

    def _revive(self, watched: _Watched, now: float) -> None:
        child = watched.child
        if watched.restart_at is None:
            if now - watched.started_at > STEADY_S:
                watched.backoff_s = FIRST_RESTART_S
            watched.restart_at = now + watched.backoff_s
            self._say(f"{child.name} {child.ending}; starting it again in {watched.backoff_s:g} s (log: {child.log})")
            watched.backoff_s = min(SLOWEST_RESTART_S, watched.backoff_s * 2)
        elif now >= watched.restart_at:
            watched.started_at, watched.restart_at = now, None
            try:
                child.start()
                self._remember()
            except OSError as error:  # such as a full disk; the others go on, and this one is tried again
                self._say(f"cannot start {child.name}: {error.strerror}")

    def _remember(self) -> None:
        remember(self._marks, [watched.child for watched in self._all()])

    def _all(self) -> list[_Watched]:
        return [watched for group in self._groups for watched in group]
