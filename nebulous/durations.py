"""Durations as people write them: `10s`, `5m`, `1h30m`, `1d`."""

from __future__ import annotations

import re
from datetime import timedelta

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST = timedelta(days=3650)


def parse(text: str) -> timedelta:
    """Read a duration such as `1h30m`; units are ms, s, m, h, d and w.

    Raises:
        ValueError: The text is no duration, or longer than ten years; the message says how to write one.
    """
    compact = text.strip().lower()
    parts = _PART.findall(compact)
    if not parts or _PART.sub("", compact).strip():
        raise ValueError(f"{text!r} is not a duration: write a number with a unit, such as 30s, 5m, 1h30m or 7d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST.total_seconds():
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise ValueError(f"{shown!r} is longer than ten years, the longest duration")
    return timedelta(seconds=seconds)


def span_of(said: timedelta | float) -> timedelta:
    """A length of time that may be said in seconds."""
    return said if isinstance(said, timedelta) else timedelta(seconds=said)


def render(span: timedelta | float) -> str:
    """Write a duration in its two largest units, as tables show it: `3d4h`, `12m5s`, `0s`."""
    seconds = int(span.total_seconds() if isinstance(span, timedelta) else span)
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, int(_SECONDS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return sign + ("".join(parts[:2]) or "0s")
