"""Child processes of `nebu serve`: started in sessions of their own, logged to files, recognised after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from activities.runtimes.supervisor import boot_id, start_mark

LOG_KEPT = 10 * 1024 * 1024  # bytes; a longer log is set aside at the next start
LAST_WORDS = 5  # lines
KILL_LIMIT_S = 2.0  # for the system to take away what was killed
LOOK_EVERY_S = 0.02


@dataclass
class Child:
    """One program of ours, started again under the same command when it dies."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str | None] = field(default_factory=dict[str, str | None])  # None: not inherited
    umask: int = -1  # of its files; -1: as ours
    process: subprocess.Popen[bytes] | None = None
    _log_begins: int = 0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only its parent.

        Raises:
            OSError: The program or its log cannot be opened.
        """
        if self.log.exists() and self.log.stat().st_size > LOG_KEPT:
            self.log.replace(self.log.with_suffix(".old.log"))
        env = {**os.environ, **self.env}
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in env.items() if value is not None},
                start_new_session=True,
                umask=self.umask,
            )

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, for people."""
        code = self.process.returncode if self.process else None
        if code is None:
            return "did not end"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def last_words(self) -> str:
        """The end of what it wrote since its start."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_begins)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-LAST_WORDS:])
        except OSError:
            return ""

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL; returns when it is gone."""
        if self.process is None or not self.alive:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.process.wait, grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)


def remember(path: Path, children: Sequence[Child]) -> None:
    """Write down which processes are ours, so that a later start can stop what a crash left."""
    boot = boot_id()
    pids = {child.name: child.process.pid for child in children if child.process and child.alive}
    marks = {name: {"pid": pid, "start": start_mark(pid), "boot": boot} for name, pid in pids.items()}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(marks))
    draft.replace(path)


def stop_stale(path: Path, grace_s: float) -> list[str]:
    """Stop the children of an earlier serve that was killed; return their names. Blocking."""
    try:
        marks: dict[str, dict[str, Any]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    stale = {name: mark for name, mark in marks.items() if _runs(mark)}
    for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_LIMIT_S)):
        left = [mark for mark in stale.values() if _runs(mark)]
        for mark in left:
            _send(int(mark["pid"]), number)
        end = time.monotonic() + limit_s
        while any(map(_runs, left)) and time.monotonic() < end:
            time.sleep(LOOK_EVERY_S)
    return sorted(stale)


def _runs(mark: Mapping[str, Any]) -> bool:
    """Whether the marked process still runs; its number may belong to another by now."""
    pid, start = mark.get("pid"), mark.get("start")
    if not isinstance(pid, int) or start is None or mark.get("boot") != boot_id():
        return False
    return start_mark(pid) == start


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it went by itself just now
        os.kill(pid, number)
