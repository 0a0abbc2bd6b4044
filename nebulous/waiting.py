"""When a wait is over: the words that can be waited for, and what a status means for them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Literal, get_args

from nebulous import durations
from nebulous.errors import Ended, InvalidRequest
from nebulous.models.base import nearest
from nebulous.models.containers import FINAL, ContainerStatus, Status

#: `finished` is any end, good or bad; `running` is also reached by what ran and is completed already.
Until = Literal[
    "finished",
    "defined",
    "queued",
    "pending",
    "creating",
    "created",
    "running",
    "restarting",
    "paused",
    "stopping",
    "completed",
    "failed",
    "stopped",
    "invalid",
]

FINISHED = "finished"

#: Pauses between two looks: often at first, then once a second.
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.1, 1.0, 1.5

#: How soon a container that was asked to start again has left its end; without a worker it has not.
LEAVES_WITHIN = timedelta(seconds=5)


#: The longest wait; a number is seconds, None has no end.
Limit = timedelta | float | None


def seconds(limit: Limit) -> float:
    """The limit as seconds."""
    if limit is None:
        return math.inf
    return limit.total_seconds() if isinstance(limit, timedelta) else float(limit)


def shown(limit: Limit) -> str:
    """The limit for people: `1m30s`."""
    return "ever" if limit is None else durations.render(limit)


def check_until(word: str) -> str:
    """The word, if it can be waited for.

    Raises:
        InvalidRequest: With the nearest one that can.
    """
    if word in get_args(Until):
        return word
    guess = nearest(word, get_args(Until))
    advice = f"did you mean {guess!r}?" if guess else f"choose one of {', '.join(get_args(Until))}"
    message = f"{word!r} is no status to wait for"
    raise InvalidRequest(message, advice, [(["until"], message)])


def usual(restart: str) -> str:
    """What is waited for when nothing else is said: the end, where there is to be one."""
    return Status.RUNNING if restart == "Always" else FINISHED


def reached(until: str, status: ContainerStatus, what: str) -> bool:
    """True when it has come to what is waited for.

    Raises:
        Ended: It no longer can, because the container has ended otherwise.
    """
    word = status.status
    if word == until or (until == FINISHED and word in FINAL):
        return True
    if until == Status.RUNNING and word == Status.COMPLETED:
        return True
    if word in FINAL:
        raise Ended(f"{what} is {described(status)}, and was waited for to be {until}", "its events and logs say why")
    return False


def described(status: ContainerStatus) -> str:
    """`failed (Exited 3)`, `pending (NoCapacity): sold out in us-east-1`."""
    code = f" {status.exit_code}" if status.reason == "Exited" and status.exit_code is not None else ""
    reason = f" ({status.reason}{code})" if status.reason else ""
    return f"{status.status}{reason}" + (f": {status.message}" if status.message else "")
