"""How the CLI speaks: results to stdout, messages to stderr, colour only where a person reads it."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

_COLORS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}


def emit(text: str) -> None:
    """Print a result."""
    print(text)


def emit_bytes(chunk: bytes) -> None:
    """Pass a command's output on, byte for byte and at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Tell the person something that is no result."""
    print(text, file=sys.stderr, flush=True)


def paint(text: str, color: str, stream: TextIO) -> str:
    """The text in a colour where the stream shows it: a terminal, and no NO_COLOR."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m"


def width() -> int | None:
    """Characters in a line of the terminal that results are printed on; None where there is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def interactive() -> bool:
    """True when somebody is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def structured(content: object, output: str) -> str:
    """The content as `json` or `yaml`, in the order that the API gave."""
    if output == "json":
        return json.dumps(content, indent=2, ensure_ascii=False)
    from nebulous.models.syntax import dump

    return dump(content).rstrip()
