"""Rows and columns, as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from nebulous import durations

NOTHING = "-"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    lines = [list(headers), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    rendered = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(indent + line.rstrip() for line in rendered)


class Growing:
    """A table whose rows come one by one: a column is as wide as its widest cell so far, and never narrower."""

    def __init__(self, headers: Sequence[str], wanted: Mapping[str, int]) -> None:
        """`wanted` has widths for longer cells to come, the most important column first."""
        self._headers, self._wanted = headers, wanted
        self._widths = [len(header) for header in headers]

    def head(self, rows: Sequence[Sequence[str]], room: int | None = None) -> str:
        """The headers, with columns that fit the first rows.

        Args:
            rows: What is there at first.
            room: Characters in a line of the terminal, beyond which no column is made wider than it must be.
        """
        for row in rows:
            self._fit([_one_line(cell) for cell in row])
        spare = math.inf if room is None else room - sum(self._widths) - 2 * (len(self._widths) - 1)
        for header, wanted in self._wanted.items():
            if header in self._headers:
                column = self._headers.index(header)
                more = int(max(0, min(wanted - self._widths[column], spare)))
                self._widths[column] += more
                spare -= more
        return self._line(self._headers)

    def row(self, cells: Sequence[str]) -> str:
        """One row."""
        plain = [_one_line(cell) for cell in cells]
        self._fit(plain)
        return self._line(plain)

    def _fit(self, cells: Sequence[str]) -> None:
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]

    def _line(self, cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip()


def age(since: int | None, now: float) -> str:
    """How long ago, in its two largest units."""
    return durations.render(max(0.0, now - since)) if since else NOTHING


def moment(at: str | int | None) -> str:
    """A time as `2026-11-23 14:05:59`, in UTC; RFC 3339 or unix seconds come in."""
    if not at:
        return NOTHING
    try:
        parsed = datetime.fromtimestamp(at, UTC) if isinstance(at, int) else datetime.fromisoformat(at)
    except ValueError:
        return str(at)
    return parsed.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def dollars(usd_per_hour: float | None) -> str:
    """A price as tables show it; the unknown one is a dash, never zero."""
    if usd_per_hour is None:
        return NOTHING
    return f"{usd_per_hour:.2f}" if usd_per_hour >= 0.01 or not usd_per_hour else f"{usd_per_hour:.4f}"


def _one_line(cell: str) -> str:
    """A cell must neither break the table nor send the terminal a command."""
    return "".join(char if char.isprintable() else " " for char in cell) or NOTHING
