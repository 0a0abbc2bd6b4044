"""How commands end: nothing in RunPod's lists tells, so the log of each pod whose command runs is kept in sight.

An open log costs one call, when it is opened. What it says is kept as long as the pod is listed.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from activities.platforms.runpod_api import RunpodApi
from activities.platforms.runpod_logs import ENDS, FIRST_S, QUIET_S, Mark, Resumed
from nebulous.errors import NebulousError, NotFound
from nebulous.models.platforms import Exit
from nebulous.tasks import end

log = logging.getLogger(__name__)

TAIL = 30  # lines from before: the last words of our entry are among them
LOOK_S = 5.0
FILES = 65536  # each log in sight is an open connection, and the usual limit is 1,024


@dataclass
class Sight:
    """What the log of one pod has told."""

    ended: dict[str, Exit] = field(default_factory=dict[str, Exit])  # by run
    told: dict[str, Exit] = field(default_factory=dict[str, Exit])  # ended as RunPod wanted it, perhaps for us
    refused: set[str] = field(default_factory=set[str])  # runs whose program is not there
    begun: set[str] = field(default_factory=set[str])
    has_ssh: bool | None = None
    settled: bool = False  # what was written before is read
    log: Resumed | None = None
    lines: int = 0
    marks: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def take(self, mark: Mark) -> bool:
        """Learn from a word of our entry; True when it tells an end that was not known."""
        new = mark.kind in ENDS and mark.run not in self.ended
        if new:
            self.ended[mark.run] = self.told.get(mark.run, mark.end) if mark.kind == "stopped" else mark.end
        if mark.kind == "told":
            self.told[mark.run] = mark.end
        if mark.kind == "refused":
            self.refused.add(mark.run)
        if mark.kind in ENDS or mark.kind == "start":
            self.begun.add(mark.run)
        if mark.kind in ("start", "ready"):
            self.has_ssh = mark.words == "ssh"
        return new

    def has_begun(self, run: str) -> bool:
        """Whether this run has begun, of a pod that was told to: a log without a word of ours is a command's."""
        return run in self.begun or (self.settled and self.lines > 0 and self.marks == 0)

    @property
    def heard(self) -> bool:
        """Whether the log is being read just now, so that what it does not say did not happen."""
        return self.log is not None and self.log.open and self.lines > 0

    def wake(self) -> None:
        """Let those look again who wait."""
        self.changed.set()
        self.changed = asyncio.Event()


class Ends:
    """All logs in sight."""

    def __init__(self, api: RunpodApi, told: Callable[[str, str], None]) -> None:
        """None is in sight yet.

        Args:
            api: To read them with.
            told: Called with pod and run when one has ended.
        """
        self._api = api
        self._told = told
        self._sights: dict[str, Sight] = {}
        least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= least < min(FILES, most):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))

    def of(self, pod: str, run: str | None) -> Exit | None:
        """How the run ended, as far as it is known here."""
        sight = self._sights.get(pod)
        return sight.ended.get(run) if sight and run else None

    def has_ssh(self, pod: str) -> bool | None:
        """Whether the pod has an SSH server; None where its log does not say."""
        sight = self._sights.get(pod)
        return sight.has_ssh if sight else None

    def keep(self, pod: str) -> Sight:
        """Keep a pod's log in sight."""
        sight = self._sights.setdefault(pod, Sight())
        if sight.task is None:
            sight.task = asyncio.create_task(self._watch(pod, sight))
        return sight

    def only(self, pods: set[str]) -> None:
        """Forget what is not listed any more."""
        for pod in [pod for pod in self._sights if pod not in pods]:
            self.forget(pod)

    def forget(self, pod: str) -> None:
        """Let go of one."""
        sight = self._sights.pop(pod, None)
        if sight and sight.task:
            sight.task.cancel()

    def heard(self, pod: str) -> bool:
        """Whether the pod's log answers."""
        sight = self._sights.get(pod)
        return sight is not None and sight.heard

    async def look(self, pod: str, run: str) -> Exit | None:
        """How the run ended, once all that was written until now is read; None while it runs."""
        await self._until(pod, lambda sight: sight.settled or run in sight.ended, LOOK_S)
        return self.of(pod, run)

    async def end_of(self, pod: str, run: str, patience_s: float) -> Exit | None:
        """How the run ends; None when that takes too long."""
        await self._until(pod, lambda sight: run in sight.ended, patience_s)
        return self.of(pod, run)

    async def begun(self, pod: str, run: str, patience_s: float) -> Sight | None:
        """What is known once the run has begun, or could not; None when that takes too long."""
        found = await self._until(pod, lambda sight: sight.has_begun(run), patience_s)
        return self._sights.get(pod) if found else None

    async def close(self) -> None:
        """Let go of all."""
        tasks = [sight.task for sight in self._sights.values() if sight.task]
        self._sights.clear()
        await end(*tasks)

    async def _until(self, pod: str, known: Callable[[Sight], bool], patience_s: float) -> bool:
        sight = self.keep(pod)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not known(sight):
                    await sight.changed.wait()
        return known(sight)

    async def _watch(self, pod: str, sight: Sight) -> None:
        loop = asyncio.get_running_loop()

        def settle() -> None:
            sight.settled = True
            sight.wake()

        silence = loop.call_later(FIRST_S, settle)
        try:
            sight.log = Resumed(self._api, pod, tail=str(TAIL))
            async with aclosing(sight.log.forever()) as lines:
                async for line in lines:
                    silence.cancel()
                    silence = loop.call_later(QUIET_S, settle)
                    sight.lines += 1
                    if mark := line.mark:
                        sight.marks += 1
                        if sight.take(mark):
                            self._told(pod, mark.run)
                        sight.wake()
        except NotFound:
            pass  # a listing tells
        except NebulousError as error:
            log.warning("the log of pod %s cannot be read: %s", pod, error)
            sight.task = None  # who looks next tries again
        finally:
            silence.cancel()
            settle()
