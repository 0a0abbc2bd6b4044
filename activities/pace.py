"""How long activities may take and how often they are tried, as a few named kinds of pace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy

#: Heartbeats come every second; a killed worker process is noticed after this.
HEARTBEAT = timedelta(seconds=5)
#: A platform's queue that nobody serves for this long is reported as NoWorker.
NO_WORKER_AFTER = timedelta(seconds=30)

URGENT, NORMAL = 1, 3


@dataclass(frozen=True)
class Pace:
    """Time-outs and retries of one activity."""

    attempt: timedelta  # longest single try
    budget: timedelta | None  # over all tries; None has no end
    first_retry: timedelta = timedelta(seconds=1)
    slowest_retry: timedelta = timedelta(seconds=30)
    tries: int = 0  # 0 has no limit
    waits_for_worker: bool = False
    priority: int = NORMAL

    @classmethod
    def quick(cls, budget: timedelta = timedelta(minutes=1)) -> Pace:
        """A read or a small write that should answer at once."""
        return cls(timedelta(seconds=20), budget)

    @classmethod
    def polling(cls, budget: timedelta) -> Pace:
        """One check per try, repeated until it is ready; adds nothing to history."""
        return cls(timedelta(minutes=2), budget, timedelta(milliseconds=250), timedelta(seconds=5))

    @classmethod
    def fetching(cls, budget: timedelta) -> Pace:
        """As long as bytes come; a registry that does not answer is soon reported rather than waited for."""
        return cls(budget, budget, timedelta(seconds=2), timedelta(seconds=10), tries=4)

    @classmethod
    def ending(cls, attempt: timedelta) -> Pace:
        """What must happen before a machine goes: a few tries, patient with a busy or absent worker."""
        return cls(attempt, None, tries=3, waits_for_worker=True, priority=URGENT)

    @classmethod
    def rental(cls, budget: timedelta) -> Pace:
        """A create: few tries, each shorter than the time after which nothing may be sent any more."""
        return cls(timedelta(seconds=60), budget, timedelta(seconds=2), timedelta(seconds=10), tries=4)

    @classmethod
    def observer(cls) -> Pace:
        """A sweep: one try that lasts for hours, taken up again elsewhere when its worker dies."""
        return cls(timedelta(hours=24), None, timedelta(seconds=1), timedelta(seconds=10), waits_for_worker=True)

    @classmethod
    def telling(cls) -> Pace:
        """Somebody else's server: a few tries over a few minutes, and then it is said that it was not told."""
        return cls(
            timedelta(seconds=15),
            timedelta(minutes=10),
            timedelta(seconds=2),
            timedelta(minutes=1),
            tries=10,
            waits_for_worker=True,
        )

    @classmethod
    def removal(cls) -> Pace:
        """One round of a delete, which the workflow repeats for ever: urgent, patient with absent workers."""
        return cls(
            timedelta(minutes=1),
            timedelta(minutes=5),
            timedelta(milliseconds=250),
            timedelta(seconds=30),
            waits_for_worker=True,
            priority=URGENT,
        )

    def retry_policy(self) -> RetryPolicy:
        """The retries as Temporal takes them."""
        return RetryPolicy(
            initial_interval=self.first_retry,
            backoff_coefficient=1.5,
            maximum_interval=self.slowest_retry,
            maximum_attempts=self.tries,
        )

    def options(self) -> dict[str, Any]:
        """Options of a normal activity."""
        return {
            "start_to_close_timeout": self.attempt,
            "schedule_to_close_timeout": self.budget,
            "schedule_to_start_timeout": None if self.waits_for_worker else NO_WORKER_AFTER,
            "heartbeat_timeout": HEARTBEAT,
            "retry_policy": self.retry_policy(),
        }

    def local_options(self) -> dict[str, Any]:
        """Options of a local activity: a short, idempotent read in the workflow's own worker."""
        return {
            "start_to_close_timeout": self.attempt,
            "schedule_to_close_timeout": self.budget,
            "retry_policy": self.retry_policy(),
        }
