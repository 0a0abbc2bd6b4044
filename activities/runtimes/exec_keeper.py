"""Sees one further command of a session to its end: started by `executions.py`, dies with whoever started it.

Standard library only, started without site-packages. It is told what to run by one line of JSON on a socket whose
number it gets: argv, env, cwd, tty, run (the folder of the container's own run). Its standard streams become the
command's, so that no byte passes through here. It answers with two lines: an empty one once the command has begun,
and JSON with the exit code once the command and all that it started are gone. When the socket closes (the session is
over, or its worker was killed), or the container's own command has ended, it ends the command.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import termios
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from activities.runtimes import supervisor

LOOK_S = 0.2  # between two looks whether the container's own command still runs
GRACE_S = 1.0  # between SIGHUP and SIGKILL
REAP_S = 5.0
NO_PROGRAM, NOT_EXECUTABLE = 127, 126
PR_SET_PDEATHSIG = 1
OUR_OWN = (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXFSZ, signal.SIGCHLD)


class Keeper:
    """The process between a session and its command."""

    def __init__(self, line: socket.socket, order: dict[str, Any]) -> None:
        self._line = line
        self._order = order
        self._command = 0
        self._code: int | None = None

    def main(self) -> None:
        """Run the command, and see that nothing of it is left."""
        supervisor.adopt_orphans()
        wake, waker = os.pipe()
        for end in (wake, waker):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, _noted)
        signal.set_wakeup_fd(waker)
        self._start()
        while self._code is None and self._wanted(wake):
            self._reap()
        self._end()
        with contextlib.suppress(OSError):
            self._line.sendall(json.dumps({"code": self._code}).encode() + b"\n")

    def _start(self) -> None:
        begun, beginning = os.pipe()
        self._command = os.fork()
        if self._command == 0:
            become(self._order)
        os.close(beginning)
        os.read(begun, 1)  # ends when the command's program takes over, or when there is none
        os.close(begun)
        with contextlib.suppress(OSError):
            self._line.sendall(b"\n")
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)

    def _wanted(self, wake: int) -> bool:
        """Wait for something to happen; False once the session or the container's own command is over."""
        ready, _, _ = select.select([self._line, wake], [], [], LOOK_S)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        run = Path(self._order["run"])
        return self._line not in ready and run.exists() and not (run / "exit").exists()

    def _reap(self) -> None:
        """Take the codes of what has ended, orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._command:
                    self._code = exit_code(status)

    def _end(self) -> None:
        """Let the command know that its terminal is gone, then kill it and whatever it has started."""
        limit = time.monotonic() + GRACE_S
        if self._code is None:
            for number in (signal.SIGHUP, signal.SIGCONT):
                supervisor.kill_group(self._command, number)
        while self._code is None and time.monotonic() < limit:
            time.sleep(supervisor.REAP_PAUSE_S)
            self._reap()
        supervisor.kill_group(self._command, signal.SIGKILL)
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(self._command, 0)
                self._code = exit_code(status)
        supervisor.reap_descendants(time.monotonic() + REAP_S)


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe says it."""


def exit_code(status: int) -> int:
    """As shells have it: 128 and the number of a signal that killed it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def become(order: dict[str, Any]) -> NoReturn:
    """Turn this fork into the command, or say on its stderr why not."""
    code, problem = NOT_EXECUTABLE, "it could not be started"
    try:
        os.setsid()
        die_with_parent()
        signal.set_wakeup_fd(-1)
        for number in OUR_OWN:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if order["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.chdir(order["cwd"])
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell, by design
    except ValueError as error:  # a null byte in an argument
        problem = str(error)
    except OSError as error:
        problem = os.strerror(error.errno or 0)
        code = NO_PROGRAM if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
    finally:
        with contextlib.suppress(OSError):
            os.write(2, f"cannot run {order['argv'][0]!r}: {problem}\n".encode(errors="replace"))
        os._exit(code)


def die_with_parent() -> None:
    """Where the kernel can: should the keeper be killed, the command goes with it."""
    if Path("/proc/self").exists():
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(descriptor: int) -> None:
    """Read the order from the socket with this number, and carry it out."""
    os.set_inheritable(descriptor, False)
    line = socket.socket(fileno=descriptor)
    with line.makefile("rb") as orders:
        order = orders.readline()
    if order:
        Keeper(line, json.loads(order)).main()
