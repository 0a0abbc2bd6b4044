"""The person's terminal while a remote command has it: raw, its size told, and restored whatever happens."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Generator
from types import FrameType
from typing import Any

from nebulous.remote import RemoteExecution

PIECE_BYTES = 32 * 1024
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def size() -> tuple[int, int]:
    """Rows and columns of the terminal on standard input or output."""
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(stream)
            if rows and columns:
                return rows, columns
    return 24, 80


@contextlib.contextmanager
def raw() -> Generator[None]:
    """Every key goes through as it is typed. Restored at the end, also of a kind that would kill us."""
    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, _leave) for number in ENDINGS}
    try:
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class Input:
    """Carries standard input, and a terminal's size whenever that changes, to a command; in a thread of its own.

    The signal of a new size is only noted by its handler (through a pipe), because the main thread may hold the
    connection's lock at that moment.
    """

    def __init__(self, execution: RemoteExecution, stdin: bool, terminal: bool) -> None:
        self._execution = execution
        self._stdin = stdin
        self._terminal = terminal
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._before: Any = None
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Input:
        if self._terminal:
            self._before = signal.signal(signal.SIGWINCH, self._resized)
            self._note(b"w")  # it may have changed since the command was asked for
        if not self._stdin:
            self._execution.end_input()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            signal.signal(signal.SIGWINCH, self._before)
        self._note(b"q")

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._note(b"w")

    def _note(self, what: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, what)

    def _carry(self) -> None:
        watched = [self._wake, sys.stdin.fileno()] if self._stdin else [self._wake]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if self._wake in ready:
                noted = os.read(self._wake, 4096)
                if b"q" in noted:
                    return
                self._execution.resize(*size())
            elif not self._pass_on():
                watched = [self._wake]

    def _pass_on(self) -> bool:
        """Carry what is there; False after its end."""
        try:
            data = os.read(sys.stdin.fileno(), PIECE_BYTES)
        except OSError:  # the terminal was hung up
            data = b""
        if data:
            self._execution.send(data)
        else:
            self._execution.end_input()
        return bool(data)
