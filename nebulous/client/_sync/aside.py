"""Work that blocks: here it is simply done. Written by hand, unlike the files beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """Do it."""
    return work()
