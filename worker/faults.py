"""A fault injector at activity boundaries, for drills and chaos tests: calls that fail, answers that get lost, kills.

`NEBU_FAULTS` holds JSON: `{"seed": 7, "log": "/tmp/strikes", "rules": [{"activity": "create", "when": "after",
"fault": "kill", "probability": 0.1, "times": 3}]}`. `before` fails without calling; `after` calls, then loses the
answer; `twice` calls, and calls again `pause_s` later, as a request that was sent twice. Without the variable this
module is not even imported.

Whether a rule strikes is a pure function of the seed and the boundary (workflow id, activity, try), not of the order
in which things happen, so a seed can be replayed. With a `log` each strike is written there before it happens: what
was struck is not struck again by the next process, and `times` counts over all of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from nebulous import errors

VARIABLE = "NEBU_FAULTS"
KILL = "kill"

When = Literal["before", "after", "twice"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """One kind of fault."""

    activity: str  # its name, or * for any
    when: When = "before"
    fault: str = "Unavailable"  # a class name of nebulous.errors, or kill; `twice` needs none
    probability: float = 1.0
    times: int = 1_000_000
    pause_s: float = 0.0  # between both calls of `twice`


@dataclass(frozen=True)
class Boundary:
    """One try of one activity: where a fault may strike."""

    workflow: str
    activity: str
    id: str  # of the activity, counted within a run of its workflow
    attempt: int

    @classmethod
    def here(cls) -> Boundary:
        """The one of the activity that runs now."""
        info = activity.info()
        return cls(info.workflow_id or "", info.activity_type, info.activity_id, info.attempt)

    def __str__(self) -> str:
        return f"{self.workflow} {self.activity}#{self.id} try {self.attempt}"


class FaultInjector(Interceptor):
    """Breaks activities by rule, reproducibly by seed."""

    def __init__(self, rules: list[Rule], seed: int, record: Path | None = None) -> None:
        """Take up what earlier processes wrote into `record`."""
        self._rules = rules
        self._seed = seed
        self._record = record
        self._struck = self._earlier()
        self._times = Counter(index for index, _ in self._struck)

    @classmethod
    def from_environment(cls) -> FaultInjector | None:
        """Read the rules from NEBU_FAULTS; None when there are none."""
        text = os.environ.get(VARIABLE)
        if not text:
            return None
        log.warning("%s is set: activities of this process fail on purpose", VARIABLE)
        script = json.loads(text)
        record = Path(script["log"]) if script.get("log") else None
        return cls([Rule(**rule) for rule in script["rules"]], int(script.get("seed", 0)), record)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Stand between the worker and its activities."""
        return _Inbound(next, self)

    def strike(self, at: Boundary, when: When) -> None:
        """Break here if a rule says so."""
        rule = self.chosen(at, when)
        if rule is None:
            return
        if rule.fault == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        known = errors.BY_TYPE.get(rule.fault)
        final = known is not None and not known.transient
        raise ApplicationError(f"injected {when} {at.activity}", type=rule.fault, non_retryable=final)

    def chosen(self, at: Boundary, when: When) -> Rule | None:
        """The first rule that strikes here; from then on it counts as having done so."""
        for index, rule in enumerate(self._rules):
            fits = rule.activity in (at.activity, "*") and rule.when == when and self._times[index] < rule.times
            if fits and self._draw(index, at) < rule.probability and (index, str(at)) not in self._struck:
                self._note(index, at)
                return rule
        return None

    def _draw(self, index: int, at: Boundary) -> float:
        return random.Random(f"{self._seed}/{index}/{at}").random()  # noqa: S311 - reproducible on purpose

    def _note(self, index: int, at: Boundary) -> None:
        self._times[index] += 1
        if self._record is None:
            return
        self._struck.add((index, str(at)))
        rule = self._rules[index]
        line = {"rule": index, "at": str(at), "activity": at.activity, "when": rule.when, "fault": rule.fault}
        with self._record.open("a") as record:
            record.write(json.dumps(line) + "\n")

    def _earlier(self) -> set[tuple[int, str]]:
        if self._record is None or not self._record.exists():
            return set()
        lines = [json.loads(line) for line in self._record.read_text().splitlines()]
        return {(int(line["rule"]), str(line["at"])) for line in lines}


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, injector: FaultInjector) -> None:
        super().__init__(following)
        self._injector = injector

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401
        """Strike before, call, perhaps call again, strike after."""
        at = Boundary.here()
        self._injector.strike(at, "before")
        result = await self.next.execute_activity(input)
        if again := self._injector.chosen(at, "twice"):
            await asyncio.sleep(again.pause_s)
            result = await self.next.execute_activity(input)
        self._injector.strike(at, "after")
        return result
