"""Figures of one run, and the table that shows them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number, beside what it is held against."""

    what: str
    value: float
    unit: str
    target: float | None = None  # in the same unit
    at_least: bool = False  # the target is a lower bound
    baseline: float | None = None  # what one would run instead, measured in the same run, in the same unit
    against: str = ""  # what the baseline is
    ratio_target: float | None = None  # of value to baseline

    @property
    def ratio(self) -> float | None:
        """How many times the baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def met(self) -> bool:
        """True when no target is missed."""
        good = True
        if self.target is not None:
            good = self.value >= self.target if self.at_least else self.value <= self.target
        if self.ratio_target is not None and self.ratio is not None:
            good = good and self.ratio <= self.ratio_target
        return good

    @property
    def wanted(self) -> str:
        """The targets in words."""
        words: list[str] = []
        if self.target is not None:
            words.append(f"{'≥' if self.at_least else '≤'} {self.target:g} {self.unit}")
        if self.ratio_target is not None:
            words.append(f"≤ {self.ratio_target:g}×")
        return ", ".join(words)


HEAD = ("what", "value", "ratio", "target", "", "against")


def table(figures: Sequence[Figure]) -> str:
    """All figures as aligned columns."""
    rows = [HEAD, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}×"
    against = f"{figure.against}: {figure.baseline:.4g} {figure.unit}" if figure.baseline is not None else ""
    verdict = ("met" if figure.met else "MISSED") if figure.wanted else ""
    return figure.what, f"{figure.value:.4g} {figure.unit}", ratio, figure.wanted, verdict, against


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_ms(samples_s: Sequence[float]) -> float:
    """The median of seconds, in milliseconds."""
    return statistics.median(samples_s) * 1000
