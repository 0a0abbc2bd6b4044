"""Sees one command to its end, whatever becomes of whoever asked: `python -S -E supervisor.py RUN < order`.

Standard library only, started without site-packages: it lives as long as the command and should weigh little.
The order is JSON on standard input, so that no secret touches the disk: argv, env, cwd, log (a file, appended),
veto (a file whose existence forbids the start). It answers with one line of JSON on standard output, detaches, and
leaves three records in the folder RUN, each complete or absent:

    supervisor  who it is; RUN appears with it, by a rename that only one of several can win
    started     who the command is; written before the command may begin
    exit        how it ended; by then its whole process group, and on Linux every descendant, is killed

`process.py` is the other side. Records have their disk space reserved at the start, so that a full disk delays
nothing; should `exit` fail to be written all the same, it is tried until it succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOM = 2048  # bytes reserved for each record
LONGEST_ERROR = 1000
REAP_S = 2.0  # for killed descendants to be gone before `exit` is written
REAP_PAUSE_S = 0.02
WRITE_PAUSE_S = 1.0
NOT_EXECUTED = 127
FOR_NOW = "for now: "  # begins a reported problem that may pass
PR_SET_CHILD_SUBREAPER = 36


def start_mark(pid: int) -> str | None:
    """What tells this process from a later one with the same number; None when it is dead, zombies included.

    Linux: clock ticks from boot to its start, which no clock change touches. Elsewhere: the start that `ps` prints.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else mark_by_ps(pid)
    fields = stat[stat.rindex(b")") + 2 :].split()  # the command's name may hold spaces and brackets
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def mark_by_ps(pid: int) -> str | None:
    """The same where there is no /proc."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    state, _, started = listed.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def boot_id() -> str:
    """An id of this boot of the machine; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def now() -> str:
    """The time as records have it, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_record(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Write a record whole, durable before it is visible."""
    draft = folder / f".{name}"
    fill(draft, json.dumps(record).encode())
    draft.rename(folder / name)
    sync(folder)


def fill(path: Path, content: bytes) -> None:
    """Write a file that takes up the room of a record, in place where it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, content.ljust(ROOM))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Make renames in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim(run: Path) -> bool:
    """Make the folder of the run, with our name in it; False when another has it already."""
    draft = run.with_name(f".{run.name}.{os.getpid()}")
    draft.mkdir(mode=0o700)
    try:
        for name in (".started", ".exit"):
            fill(draft / name, b"")
        me = {"pid": os.getpid(), "mark": start_mark(os.getpid()), "boot": boot_id(), "at": now()}
        write_record(draft, "supervisor", me)
        draft.rename(run)  # fails on a folder that is not empty, and a claimed one never is
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if run.exists():
            return False
        raise
    sync(run.parent)
    return True


class Supervisor:
    """The process that stays."""

    def __init__(self, run: Path, order: dict[str, Any]) -> None:
        self._run = run
        self._order = order
        self._command = 0

    def main(self) -> NoReturn:
        """Claim the run, start the command, wait for its end, clear up."""
        os.setsid()
        adopt_orphans()
        try:
            if claim(self._run):
                self._supervise()
            else:
                answer("taken")
        except OSError as error:
            answer("failed", str(error))
        os._exit(0)

    def _supervise(self) -> None:
        try:
            problem = self._start()
        except OSError:  # nothing began, so the run may be claimed again
            shutil.rmtree(self._run, ignore_errors=True)
            raise
        if problem:
            self._finish({"code": NOT_EXECUTED, "at": now(), "not_executed": problem})
            answer("not executed", problem)
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        answer("started")
        code = self._wait()
        ended = now()
        reap_descendants(time.monotonic() + REAP_S)
        self._finish({"code": code, "at": ended})
        reap_descendants(None)

    def _start(self) -> str:
        """Fork the command behind a gate, record it, open the gate; return why it cannot be executed, or "".

        Raises:
            OSError: It could not begin now; another time it may.
        """
        if Path(self._order["veto"]).exists():  # after the claim: whoever put it there looks for claims afterwards
            raise OSError("it is being deleted")
        gate, opener = os.pipe()
        problems, reporter = os.pipe()
        self._command = os.fork()
        if self._command == 0:
            os.close(opener)
            become(self._order, gate, reporter)
        os.close(gate)
        os.close(reporter)
        # Should we die before the gate opens, the command reads the end of the pipe and never begins.
        with os.fdopen(opener, "wb", buffering=0) as gate_opener:
            who = {"pid": self._command, "mark": start_mark(self._command), "at": now()}
            write_record(self._run, "started", who)
            gate_opener.write(b"!")
        with os.fdopen(problems, "rb") as pipe:
            problem = pipe.read().decode()
        if problem:
            os.waitpid(self._command, 0)
        if problem.startswith(FOR_NOW):
            raise OSError(problem.removeprefix(FOR_NOW))
        return problem

    def _wait(self) -> int:
        """Reap whatever ends until the command did, kill what is left of its group, return its exit code."""
        while hasattr(os, "waitid"):  # macOS before Python 3.13 has none; it has no adopted children either
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            if ended is None or ended.si_pid == self._command:
                kill_group(self._command, signal.SIGKILL)  # not yet reaped, so the number is still its own
                break
            os.waitpid(ended.si_pid, 0)
        _, status = os.waitpid(self._command, 0)
        if not hasattr(os, "waitid"):
            kill_group(self._command, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        kill_group(self._command, signal.SIGTERM)

    def _finish(self, record: dict[str, Any]) -> None:
        while True:
            try:
                write_record(self._run, "exit", record)
                return
            except FileNotFoundError:
                return  # the folder is gone, and with it whoever would read this
            except OSError:
                time.sleep(WRITE_PAUSE_S)


def become(order: dict[str, Any], gate: int, reporter: int) -> NoReturn:
    """Turn this fork into the command, once the gate opens; report why not."""
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores some, and what is ignored stays so in the command
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if os.read(gate, 1):
            redirect(order["log"])
            os.chdir(order["cwd"])
            execute(order, reporter)
    except OSError as error:
        os.write(reporter, f"{FOR_NOW}{error}"[:LONGEST_ERROR].encode(errors="replace"))
    finally:
        os._exit(NOT_EXECUTED)


def redirect(log: str) -> None:
    """Read nothing, write to the log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for target, source in enumerate((nothing, output, output)):
        os.dup2(source, target)


def execute(order: dict[str, Any], reporter: int) -> None:
    """Become the command; report what will be wrong with it every time."""
    try:
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell, by design
    except ValueError as error:  # a null byte in an argument or variable
        problem = str(error)
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY, errno.EIO, errno.EMFILE, errno.ENFILE):
            raise
        problem = os.strerror(error.errno or 0)
    os.write(reporter, problem[:LONGEST_ERROR].encode(errors="replace"))


def adopt_orphans() -> None:
    """Become the parent of the command's orphaned descendants, so that none escapes; Linux only."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_descendants(deadline: float | None) -> None:
    """Kill and reap what the command left, until nothing is there or the deadline (monotonic) passes."""
    while deadline is None or time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in children():
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(REAP_PAUSE_S if deadline else WRITE_PAUSE_S)


def children() -> list[int]:
    """Our children, dead ones included; Linux."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            content = stat.read_bytes()
            if int(content[content.rindex(b")") + 2 :].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def kill_group(group: int, number: int) -> None:
    """Signal a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def answer(outcome: str, message: str = "") -> None:
    """Tell whoever asked, if still there, and let go of all pipes to them."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps({"outcome": outcome, "message": message}).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)


if __name__ == "__main__":
    supervisor = Supervisor(Path(sys.argv[1]), json.load(sys.stdin))
    if os.fork() == 0:
        supervisor.main()
