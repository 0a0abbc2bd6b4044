"""The script of one container in the simulated cloud, read from its labels; `sim.py` lists them for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from nebulous import durations
from nebulous.errors import Rejected
from nebulous.models.base import Record, nearest
from nebulous.models.resources import Labels

PREFIX = "sim.nebulous/"
FINE = "OK"  # in `fail`: this create is granted
FAILURES = (
    FINE,
    "OutOfCapacity",
    "QuotaExceeded",
    "AuthFailed",
    "Unavailable",
    "RateLimited",
    "Rejected",
    "ImageNotFound",
)
MOST_FAILURES = 10_000

T = TypeVar("T")


class Script(Record):
    """What shall happen. Lists go run by run (or attempt by attempt); see `turn` for their end."""

    boot_s: float | None = None  # None: as the cloud's settings say
    run_for_s: list[float] = []  # empty: until stopped
    exit_code: list[int] = [0]
    oom: list[bool] = [False]
    fail: list[tuple[str, int]] = []
    unanswered: int = 0
    preempt_after_s: list[float] = []
    vanish_after_s: list[float] = []
    delete_takes_s: float = 0.0
    log: str = ""
    healthy_after_s: list[float] = []  # empty: at once
    unhealthy_after_s: list[float] = []  # empty: never
    idle_after_s: list[float] = []  # empty: never

    def failure(self, create: int) -> str | None:
        """What the n-th create of this life is answered with, counted from 1; None grants it."""
        for name, times in self.fail:
            if create <= times:
                return None if name == FINE else name
            create -= times
        return None


def turn(values: list[T], number: int) -> T | None:
    """The value for the n-th run, counted from 1; the last one stays. None when there are none."""
    return values[min(number, len(values)) - 1] if values else None


def only_turn(values: list[T], number: int) -> T | None:
    """The value for the n-th attempt, counted from 1; None when the list is over."""
    return values[number - 1] if number <= len(values) else None


def read(labels: Labels | None) -> Script:
    """Read the script from a container's labels.

    Raises:
        Rejected: A label of ours that does not exist, or a value that means nothing; says which.
    """
    fields: dict[str, Any] = {}
    for label, value in (labels or {}).items():
        if not label.startswith(PREFIX):
            continue
        name = label.removeprefix(PREFIX)
        if name not in _READERS:
            guess = nearest(name, _READERS)
            advice = f"did you mean {PREFIX}{guess}?" if guess else f"there are {', '.join(_READERS)}"
            raise Rejected(f"label {label!r} is unknown to the simulated cloud", advice)
        field, reader = _READERS[name]
        try:
            fields[field] = reader(value)
        except ValueError as error:
            raise Rejected(f"label {label!r}: {error}", "see `Scripting the simulated cloud` in the guide") from error
    return Script(**fields)


def _duration(text: str) -> float:
    return durations.parse(text).total_seconds()


def _number(text: str, largest: int = MOST_FAILURES) -> int:
    if not re.fullmatch(r"\s*\d+\s*", text) or int(text) > largest:
        raise ValueError(f"{text!r} is not a whole number from 0 to {largest}")
    return int(text)


def _exit_code(text: str) -> int:
    return _number(text, largest=255)


def _flag(text: str) -> bool:
    folded = text.strip().lower()
    if folded not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return folded == "true"


def _failure(text: str) -> tuple[str, int]:
    name, _, times = (part.strip() for part in text.partition("*"))
    if name not in FAILURES:
        guess = nearest(name, FAILURES)
        advice = f"did you mean {guess}?" if guess else f"choose of {', '.join(FAILURES)}"
        raise ValueError(f"{name!r} is no failure; {advice} Write for example OutOfCapacity*2,QuotaExceeded")
    return name, _number(times) if times else 1


def _each(reader: Callable[[str], T]) -> Callable[[str], list[T]]:
    return lambda text: [reader(part) for part in text.split(",")]


#: label -> field of Script, and how its value is read
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "boot": ("boot_s", _duration),
    "run_for": ("run_for_s", _each(_duration)),
    "exit_code": ("exit_code", _each(_exit_code)),
    "oom": ("oom", _each(_flag)),
    "fail": ("fail", _each(_failure)),
    "unanswered": ("unanswered", _number),
    "preempt_after": ("preempt_after_s", _each(_duration)),
    "vanish_after": ("vanish_after_s", _each(_duration)),
    "delete_takes": ("delete_takes_s", _duration),
    "log": ("log", str),
    "healthy_after": ("healthy_after_s", _each(_duration)),
    "unhealthy_after": ("unhealthy_after_s", _each(_duration)),
    "idle_after": ("idle_after_s", _each(_duration)),
}
