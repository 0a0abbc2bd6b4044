"""A terminal, as a person has it: a pseudo-terminal of a size that can change, with `nebu` on it or a line of shell."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT_S = 60.0
#: A program becomes the terminal's own first, and then `nebu` or a shell.
TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
NEBU = TAKE + "from nebulous.cli.main import main; main(sys.argv[1:])"
SHELL = TAKE + "os.execvp('bash', ['bash', '-c', *sys.argv[1:]])"


class Terminal:
    """What is on the screen, and a keyboard."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self.seen = ""
        self._end = end
        self._read_to = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a read may end within a character

    def expect(self, text: str) -> None:
        """Read until the text stands there; the test fails when it does not come."""
        limit = time.monotonic() + LIMIT_S
        while text not in self.seen[self._read_to :]:
            goes_on = self._more()
            assert goes_on, f"{text!r} did not come, but {self.seen!r}"
            assert time.monotonic() < limit, f"{text!r} did not come, but {self.seen[-5000:]!r}"
        self._read_to = self.seen.index(text, self._read_to) + len(text)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def resize(self, rows: int, cols: int) -> None:
        """The kernel tells whoever has the terminal."""
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    @property
    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._end)

    def ended(self) -> int:
        """Read to the end; the exit code."""
        limit = time.monotonic() + LIMIT_S
        while self._more():
            assert time.monotonic() < limit, f"it goes on and on: {self.seen[-5000:]!r}"
        return self.process.wait(LIMIT_S)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], LIMIT_S)
        try:
            data = os.read(self._end, 65536) if ready else b""
        except OSError:  # Linux says EIO when the last program has left the terminal
            data = b""
        self.seen += self._decode(data)
        return bool(data)


@contextmanager
def terminal(env: dict[str, str], *words: str, rows: int = 24, cols: int = 80) -> Iterator[Terminal]:
    """Run `nebu WORDS…` on a terminal."""
    with _running([NEBU, *words], env, rows, cols) as running:
        yield running


@contextmanager
def typed(env: dict[str, str], line: str, cwd: Path) -> Iterator[Terminal]:
    """Run a line of shell on a terminal."""
    with _running([SHELL, line], env, 24, 80, cwd) as running:
        yield running


@contextmanager
def _running(
    words: list[str], env: dict[str, str], rows: int, cols: int, cwd: Path | None = None
) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", *words],
        env={**env, "TERM": "xterm"},
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
