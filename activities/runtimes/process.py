"""Runs commands as process groups on this host that survive whoever started them.

Every run has a folder and a detached supervisor (`supervisor.py`) that keeps its records there. This side launches,
looks and ends, and needs nothing but the folder: any process of the same user can take over at any time. Processes
are known by number, start time and boot, so that a reused number is never taken for ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from activities.runtimes import supervisor
from activities.runtimes.supervisor import boot_id, start_mark
from nebulous.errors import Unavailable

SUPERVISOR = Path(supervisor.__file__)
LAUNCH_S = 20.0
POLL_S = 0.03
KILL_S = 10.0  # after SIGKILL only the kernel can hold a process back
SUPERVISOR_S = 3.0  # for it to clear up after a kill, before it is killed too
#: In the environment of every command: finds what escaped from the group of one whose supervisor was killed.
COOKIE = "NEBU_RUN_DIR"
UNKNOWN_CODE = -1
LONGEST_WORDS = 100
TAIL_BYTES = 4096


class Phase(StrEnum):
    """Where a run is."""

    RUNNING = "running"  # or just about to
    EXITED = "exited"
    REBOOTED = "rebooted"  # the machine restarted under it


@dataclass(frozen=True)
class Order:
    """What to run."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    log: str  # file that stdout and stderr are appended to
    veto: str  # file whose existence forbids the start


@dataclass(frozen=True)
class RunState:
    """What is known of a run. `code` counts once it has exited; -1 when nobody saw the end."""

    phase: Phase
    code: int = 0
    at: str = ""  # RFC 3339
    not_executed: str = ""  # why the program could not even be started
    message: str = ""


def launch(run: Path, order: Order) -> None:
    """Start the command unless the run was launched before; returns once it runs. Blocking.

    Raises:
        Unavailable: It could not be launched now (no memory, no disk space); nothing runs.
    """
    whole = {**asdict(order), "env": {**order.env, COOKIE: str(run)}}
    asked = subprocess.Popen(
        [sys.executable, "-S", "-E", str(SUPERVISOR), str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ},
        start_new_session=True,
    )
    with asked:
        try:
            out, err = asked.communicate(json.dumps(whole).encode(), timeout=LAUNCH_S)
        except subprocess.TimeoutExpired:
            asked.kill()
            raise Unavailable(f"the supervisor of {str(run)!r} did not answer within {LAUNCH_S:g} s") from None
    reply: dict[str, str] = json.loads(out) if out else {"outcome": "failed", "message": err.decode()[-500:].strip()}
    if reply["outcome"] == "failed":
        raise Unavailable(f"cannot start the command: {reply['message']}", "is the disk full, or memory short?")


async def check(order: Order, run: Path | None, timeout_s: float) -> tuple[int | None, str]:
    """Run a short program beside a run, and nothing of it after; its exit code (None: too slow) and last words."""
    env = {**order.env, **({COOKIE: str(run)} if run else {})}  # so that the end of the run ends it too
    with tempfile.TemporaryFile() as output:  # not a pipe: what the program leaves behind could hold it open
        try:
            program = await asyncio.create_subprocess_exec(
                *order.argv, env=env, cwd=order.cwd, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            return supervisor.NOT_EXECUTED, error.strerror or str(error)
        try:
            await asyncio.wait_for(program.wait(), timeout_s)
        except TimeoutError:
            return None, ""
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, signal.SIGKILL)
            await program.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - TAIL_BYTES))
        return program.returncode, last_words(output.read())


def last_words(output: bytes) -> str:
    """The last line that says something, short enough for a message."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:LONGEST_WORDS] if lines else ""


def look(run: Path) -> RunState:
    """Say where the run is. Blocking, brief."""
    if ended := _read(run, "exit"):
        return _exited(ended)
    keeper = _read(run, "supervisor")
    if keeper and _before_this_boot(keeper):
        return RunState(Phase.REBOOTED, message="the machine restarted while the command ran")
    if _alive(keeper):
        return RunState(Phase.RUNNING)
    if _alive(_read(run, "started")):
        return RunState(Phase.RUNNING, message="its supervisor was killed; the exit code will be unknown")
    # The supervisor writes before it dies: only now does a missing record mean that there will be none.
    return _exited(_read(run, "exit") or _lost(run))


def command_of(run: Path) -> int | None:
    """The process id of the run's command, as long as it runs."""
    started = _read(run, "started")
    return int(started["pid"]) if started and _alive(started) else None


async def stop(run: Path, grace_s: float) -> None:
    """End the run: SIGTERM to its group, SIGKILL to what is left after the grace. Idempotent.

    Raises:
        Unavailable: The kernel holds a process back.
    """
    if grace_s > 0:
        await asyncio.to_thread(_signal, run, signal.SIGTERM)
        if await _ended(run, grace_s) and not await asyncio.to_thread(_strays, run):
            return
    await kill(run)


async def kill(run: Path) -> None:
    """End the run at once and wait until nothing of it is left, its supervisor included. Idempotent.

    Raises:
        Unavailable: The kernel holds a process back.
    """
    begun = time.monotonic()
    while not await asyncio.to_thread(_quiet, run):
        waited = time.monotonic() - begun
        if waited > KILL_S:
            hint = "a process in an uninterruptible wait ends when its disk or network file system answers"
            raise Unavailable(f"processes of {str(run)!r} survive SIGKILL", hint)
        await asyncio.to_thread(_signal, run, signal.SIGKILL)
        if waited > SUPERVISOR_S:
            await asyncio.to_thread(_kill_supervisor, run)
        await asyncio.sleep(POLL_S)


def members(run: Path) -> set[int]:
    """The processes of a run that live now, those that left its process group included. Blocking, brief."""
    found: set[int] = set()
    started, keeper = _read(run, "started"), _read(run, "supervisor")
    if started and _alive(started):
        found.add(int(started["pid"]))
    for record in (keeper, started):
        if record and _alive(record):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {child.pid for child in psutil.Process(record["pid"]).children(recursive=True)}
    return found


async def _ended(run: Path, within_s: float) -> bool:
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        if (await asyncio.to_thread(look, run)).phase is not Phase.RUNNING:
            return True
        await asyncio.sleep(POLL_S)
    return False


def _signal(run: Path, number: int) -> None:
    """Signal the command's group, and whatever escaped from it once no supervisor looks after that."""
    started = _read(run, "started")
    if started and _alive(started):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started["pid"], number)
            if number == signal.SIGTERM:
                os.killpg(started["pid"], signal.SIGCONT)  # a paused process would not see it
    for process in _strays(run):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _kill_supervisor(run: Path) -> None:
    """For one that is stuck, on a full disk for example. The command is dead by then."""
    keeper = _read(run, "supervisor")
    if keeper and _alive(keeper):
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper["pid"], signal.SIGKILL)


def _quiet(run: Path) -> bool:
    """True when nothing of the run is left."""
    return not _alive(_read(run, "supervisor")) and not _alive(_read(run, "started")) and not _strays(run)


def _strays(run: Path) -> list[psutil.Process]:
    """Processes of a run whose supervisor did not see it through, in whatever group they are."""
    ended, keeper = _read(run, "exit"), _read(run, "supervisor")
    if (ended and not ended.get("lost")) or not keeper or _alive(keeper) or _before_this_boot(keeper):
        return []
    return [process for process in psutil.process_iter() if _cookie(process) == str(run)]


def _cookie(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(COOKIE)
    except (psutil.Error, OSError):
        return None  # gone, a zombie, or somebody else's


def _exited(record: dict[str, Any]) -> RunState:
    message = "nobody saw the command end: its supervisor was killed" if record.get("lost") else ""
    return RunState(Phase.EXITED, record["code"], record["at"], record.get("not_executed", ""), message)


def _lost(run: Path) -> dict[str, Any]:
    """Record that the end went unseen; the first to notice decides when it was."""
    record = {"code": UNKNOWN_CODE, "at": supervisor.now(), "lost": True}
    draft = run / f".lost.{os.getpid()}.{time.monotonic_ns()}"
    with contextlib.suppress(OSError):  # a full disk: the answer is right, only its time will change
        draft.write_text(json.dumps(record))
        with contextlib.suppress(FileExistsError):
            os.link(draft, run / "exit")
        draft.unlink()
    return _read(run, "exit") or record


def _read(run: Path, name: str) -> dict[str, Any] | None:
    try:
        return json.loads((run / name).read_bytes())
    except FileNotFoundError:
        return None


def _alive(record: dict[str, Any] | None) -> bool:
    """True while the very process lives that the record names."""
    return record is not None and record["mark"] is not None and start_mark(record["pid"]) == record["mark"]


def _before_this_boot(keeper: dict[str, Any]) -> bool:
    return bool(keeper["boot"]) and keeper["boot"] != boot_id()
