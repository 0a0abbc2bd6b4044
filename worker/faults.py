"""A fault injector at activity boundaries, for drills and chaos tests: calls that fail, answers that get lost, kills.

`NEBU_FAULTS` holds JSON: `{"seed": 7, "rules": [{"activity": "create", "when": "after", "fault": "kill",
"probability": 0.1, "times": 3}]}`. `before` fails without calling; `after` calls, then loses the answer.
"""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import dataclass, field
from typing import Any, Literal

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from nebulous import errors

VARIABLE = "NEBU_FAULTS"


@dataclass
class Rule:
    """One kind of fault."""

    activity: str  # its name, or * for any
    when: Literal["before", "after"] = "before"
    fault: str = "Unavailable"  # a class name of nebulous.errors, or kill
    probability: float = 1.0
    times: int = field(default=1_000_000)


class FaultInjector(Interceptor):
    """Breaks activities by rule, reproducibly by seed."""

    def __init__(self, rules: list[Rule], seed: int) -> None:
        self._rules = rules
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose

    @classmethod
    def from_environment(cls) -> FaultInjector | None:
        """Read the rules from NEBU_FAULTS; None when there are none."""
        text = os.environ.get(VARIABLE)
        if not text:
            return None
        script = json.loads(text)
        return cls([Rule(**rule) for rule in script["rules"]], int(script.get("seed", 0)))

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Stand between the worker and its activities."""
        return _Inbound(next, self)

    def strike(self, name: str, when: Literal["before", "after"]) -> None:
        """Break here if a rule says so."""
        for rule in self._rules:
            fits = rule.activity in (name, "*") and rule.when == when and rule.times > 0
            if fits and self._random.random() < rule.probability:
                rule.times -= 1
                if rule.fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                known = errors.BY_TYPE.get(rule.fault)
                final = known is not None and not known.transient
                raise ApplicationError(f"injected {when} {name}", type=rule.fault, non_retryable=final)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, injector: FaultInjector) -> None:
        super().__init__(following)
        self._injector = injector

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401
        """Strike before, call, strike after."""
        name = activity.info().activity_type
        self._injector.strike(name, "before")
        result = await self.next.execute_activity(input)
        self._injector.strike(name, "after")
        return result
