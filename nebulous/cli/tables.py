"""Rows and columns, as people read them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from nebulous import durations
from nebulous.cli import screen

NOTHING = "-"
GAP = "  "
SHORT = 13  # characters of a cell that is never broken
SENTENCE = 20  # characters that the last column has, however narrow the terminal


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns as wide as their widest cell, two spaces apart; on a narrow terminal as `Columns` has it."""
    columns = Columns(headers, indent=indent)
    for row in rows:
        columns.fit(row)
    blocks = [columns.row(row) for row in rows]
    return "\n\n".join(blocks) if columns.stacked else "\n".join([columns.head(), *blocks])


def facts(named: Sequence[tuple[str, str]], indent: str = "", entries: bool = False) -> str:
    """Names and values below each other; long values go on under their beginning, `entries` with a `;` one by one."""
    margin = max((len(name) for name, _ in named), default=0) + len(GAP)
    room = _room(indent)
    lines: list[str] = []
    for name, value in named:
        for line in value.splitlines():
            for part in _broken(_one_line(line), room and room - margin, entries):
                lines.append(f"{indent}{name:<{margin}}{part}")
                name = ""
    return "\n".join(lines)


def prose(text: str) -> str:
    """A sentence, broken between words where the terminal ends."""
    room = _room("")
    return "\n".join(part for line in text.splitlines() for part in _broken(line, room))


class Columns:
    """How wide the columns of a table are: as their widest cell so far, and never narrower.

    On a terminal that has less room the widest are narrowed, and what no longer fits goes on in the next line of its
    cell, so that nothing is lost. Where not even that fits, each row becomes a block of lines of its own. What is
    printed elsewhere is never narrowed: programs read it.
    """

    def __init__(self, headers: Sequence[str], wanted: Mapping[str, int] | None = None, indent: str = "") -> None:
        """`wanted` has widths for longer cells to come, the most important column first."""
        self._headers, self._indent, self._room = headers, indent, _room(indent)
        self._widths = [len(header) for header in headers]
        self._least = list(self._widths)
        self._wanted = dict(wanted or {})

    @property
    def stacked(self) -> bool:
        """True where there is no room for columns."""
        return self._fitting() is None

    def fit(self, cells: Sequence[str]) -> None:
        """Make room for a row."""
        for column, cell in enumerate(map(_one_line, cells)):
            self._widths[column] = max(self._widths[column], len(cell))
            self._least[column] = max(self._least[column], self._narrowest(column, cell))

    def head(self) -> str:
        """The headers, with room for what is to come as far as there is any; nothing where rows are stacked."""
        spare = math.inf if self._room is None else self._room - _across(self._widths)
        for header, wanted in self._wanted.items():
            if header in self._headers:
                column = self._headers.index(header)
                more = int(max(0, min(wanted - self._widths[column], spare)))
                self._widths[column] += more
                spare -= more
        return "" if self.stacked else self._lines(self._headers)

    def row(self, cells: Sequence[str]) -> str:
        """One row."""
        self.fit(cells)
        plain = [_one_line(cell) for cell in cells]
        if self.stacked:
            told = [fact for fact in zip(self._headers, plain, strict=True) if fact[1] != NOTHING]
            return facts(told, self._indent, entries=True)
        return self._lines(plain)

    def _narrowest(self, column: int, cell: str) -> int:
        """Short cells and words stay whole, so that a name can be copied; only the last column has sentences."""
        if column == len(self._widths) - 1:
            return min(len(cell), SENTENCE)
        return len(cell) if len(cell) <= SHORT else max(map(len, cell.split()))

    def _fitting(self) -> list[int] | None:
        widths = list(self._widths)
        if self._room is None:
            return widths
        if _across(self._least) > self._room:
            return None
        while _across(widths) > self._room:
            widest = max(range(len(widths)), key=lambda each: (widths[each] > self._least[each], widths[each]))
            widths[widest] -= 1
        return widths

    def _lines(self, cells: Sequence[str]) -> str:
        widths = self._fitting() or self._widths
        parts = [_broken(cell, width, entries=True) for cell, width in zip(cells, widths, strict=True)]
        lines = zip_longest(*parts, fillvalue="")
        rendered = (GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(self._indent + line.rstrip() for line in rendered)


def _across(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _room(indent: str) -> int | None:
    columns = screen.width()
    return None if columns is None else max(SENTENCE, columns - len(indent))


def _broken(text: str, width: int | None, entries: bool = False) -> list[str]:
    """The text in lines of this width, broken between words, else anywhere; `entries` with a `;` begin a line each."""
    if width is None or len(text) <= width:
        return [text]
    whole = text.replace("; ", ";\n").splitlines() if entries else [text]
    return [line for part in whole for line in textwrap.wrap(part, max(1, width), break_on_hyphens=False)] or [""]


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
