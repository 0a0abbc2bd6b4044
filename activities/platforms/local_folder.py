"""The folder of one rental on this host: all there is of it.

`instance.json` (tags), `work/` (where the command starts), `log` (of all runs), `runs/N/` (records of the N-th
start, see `runtimes/process.py`), and while it is being deleted `deleting`. It appears whole, by a rename, and its
description goes last. Blocking: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from activities.platforms.base import Size
from activities.runtimes import process
from activities.runtimes.executions import Wanted
from activities.runtimes.process import Order, Phase, RunState
from nebulous import ids
from nebulous.errors import Conflict, NotFound, NotReady, Rejected, Unavailable
from nebulous.models.base import Record
from nebulous.models.containers import Launch
from nebulous.models.platforms import Exit, Instance, InstanceState

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What a command inherits of the server's environment: enough to find programs, and none of its keys.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")
STILL_RUNS_RETRY_S = 0.1
CHUNK_BYTES = 64 * 1024


class Rented(Record):
    """What `instance.json` holds."""

    id: str
    install: str = ""
    workflow: str = ""
    life: str = ""
    created_at: str = ""


class Folder:
    """A rental's folder, which may not exist (any more)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self._runs = path / "runs"
        self._about = path / "instance.json"
        self._unmarked, self._deleting = path / ".deleting", path / "deleting"

    def make(self, launch: Launch) -> None:
        """Make the folder, unless it is there; of several at once one wins.

        Raises:
            Unavailable: The disk is full or not ours to write.
        """
        if self.path.exists():
            return
        rented = Rented(
            id=f"local-{ids.new_id()}",
            install=launch.install,
            workflow=launch.workflow,
            life=launch.metadata.id,
            created_at=now(),
        )
        draft = Folder(self.path.with_name(f".{launch.key}.{rented.id}"))
        try:
            draft.fill(rented)
            try:
                draft.path.rename(self.path)
            except OSError:
                shutil.rmtree(draft.path, ignore_errors=True)
                if not self.path.exists():
                    raise
        except OSError as error:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise unusable(self.path.parent, error) from error

    def fill(self, rented: Rented) -> None:
        """Write everything that a new folder holds."""
        self.path.mkdir(parents=True, mode=0o700)
        for inner in (self.path / "work", self._runs):
            inner.mkdir(mode=0o700)
        self.log.touch(mode=0o600)
        self._unmarked.touch(mode=0o600)
        self._about.write_text(rented.model_dump_json())

    def rented(self) -> Rented | None:
        """The description; None when the folder is gone, or half removed."""
        try:
            return Rented.model_validate_json(self._about.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def instance(self, account: str, identity: str) -> Instance:
        """The rental as others see it. As long as anything of the folder is there, it is one."""
        rented = self.rented()
        known = rented or Rented(id=self.path.name)
        instance = Instance(
            key=self.path.name,
            id=known.id,
            account=account,
            identity=identity,
            state=InstanceState.READY,
            workflow=known.workflow,
            life=known.life,
            install=known.install,
            created_at=known.created_at,
        )
        if runs := self.runs():
            _add_run(instance, process.look(runs[-1]), runs[-1].name)
        if rented is None or self._deleting.exists():
            instance.state = InstanceState.DELETING
        return instance

    def runs(self) -> list[Path]:
        """The folders of all runs, the latest last."""
        try:
            return sorted((run for run in self._runs.iterdir() if run.name.isdigit()), key=lambda run: int(run.name))
        except FileNotFoundError:
            return []

    def start(self, known: str | None, argv: list[str], env: dict[str, str]) -> None:
        """Launch the next run, if `known` is the latest.

        Raises:
            NotReady: The known run goes on. NotFound: Nothing can be started here any more.
            Rejected: There is no such program. Unavailable: Not now, for want of disk or memory.
        """
        latest = self.runs()[-1:]
        state = process.look(latest[0]) if latest else None
        if self._deleting.exists() or (state and state.phase is Phase.REBOOTED):
            raise NotFound(f"nothing can be started in {self.path.name!r} any more: {_why(state)}")
        run = latest[0] if latest else self._runs / "0"
        if run.name == (known or "0"):
            if state and state.phase is Phase.RUNNING:
                raise NotReady(f"run {run.name} of {self.path.name!r} goes on", retry_after=STILL_RUNS_RETRY_S)
            run = self._runs / str(int(run.name) + 1)
            process.launch(run, self.order(argv, env))
        if problem := process.look(run).not_executed:
            hint = "check the command: a list is executed as it is, a string runs in /bin/sh"
            raise Rejected(f"cannot run {argv[0]!r}: {problem}", hint)

    def companion(self, argv: list[str], size: Size | None) -> Wanted:
        """What it takes to run a further command beside the container's own.

        Raises:
            Conflict: That does not run.
        """
        for run in self.runs()[-1:]:
            if (pid := process.command_of(run)) is not None:
                return Wanted(argv, str(self.work()), run, pid, size)
        raise Conflict(f"the command of {self.path.name!r} does not run", "start it: nebu start NAME")

    def work(self) -> Path:
        """Where the command starts; the command may have removed it.

        Raises:
            Unavailable: The disk is full or not ours to write.
        """
        work = self.path / "work"
        try:
            work.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise unusable(work, error) from error
        return work

    def order(self, argv: list[str], env: dict[str, str]) -> Order:
        """How a program is run here: with little of our environment, in the folder `work`."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return Order(
            argv=argv, env={**inherited, **env}, cwd=str(self.work()), log=str(self.log), veto=str(self._deleting)
        )

    def mark_deleting(self) -> bool:
        """Forbid any further start; False when there is no folder. Needs no disk space."""
        try:
            self._unmarked.rename(self._deleting)
        except OSError:
            return self.path.is_dir()
        return True

    def remove(self) -> None:
        """Remove everything, what describes it last, so that no half of it looks alive.

        Raises:
            OSError: Something could not be removed, or appeared meanwhile.
        """
        last = [self._about, self._deleting]
        for entry in [entry for entry in self.path.iterdir() if entry not in last]:
            if entry.is_dir() and not entry.is_symlink():
                _remove_tree(entry)
            else:
                entry.unlink()
        for entry in last:
            entry.unlink(missing_ok=True)
        self.path.rmdir()


def seek_tail(log: IO[bytes], lines: int) -> None:
    """Go to where the last lines begin, reading from the end."""
    end = at = log.seek(0, os.SEEK_END)
    found = b""
    while at > 0 and found[:-1].count(b"\n") < lines:
        size = min(CHUNK_BYTES, at)
        at = log.seek(at - size)
        found = log.read(size) + found
    kept = found.split(b"\n")
    ended = kept[-1] == b""
    wanted = kept[-lines - ended :] if lines else []
    log.seek(end - len(b"\n".join(wanted)))


def store_id(root: Path) -> str:
    """The id of the folder of all rentals, made on first use.

    Raises:
        Unavailable: It cannot be written.
    """
    known = root / ".id"
    try:
        if not known.exists():
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = root / f".id.{ids.new_id()}"
            draft.write_text(ids.new_id())
            with contextlib.suppress(FileExistsError):
                os.link(draft, known)  # of several first users one wins
            draft.unlink()
        return known.read_text()
    except OSError as error:
        raise unusable(root, error) from error


def unusable(path: Path, error: OSError) -> Unavailable:
    """The error for a disk that does not do its part."""
    return Unavailable(f"cannot use {str(path)!r}: {error.strerror}", "it must be writable, on a disk with space")


def now() -> str:
    """The time, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _add_run(instance: Instance, run: RunState, number: str) -> None:
    instance.run, instance.message = number, run.message or run.not_executed
    match run.phase:
        case Phase.RUNNING:
            instance.state = InstanceState.RUNNING
        case Phase.REBOOTED:
            instance.state = InstanceState.PREEMPTED
        case Phase.EXITED:
            instance.state = InstanceState.EXITED
            instance.exit = Exit(code=run.code, at=run.at)


def _why(state: RunState | None) -> str:
    return state.message if state and state.phase is Phase.REBOOTED else "it is being deleted"


def _remove_tree(tree: Path) -> None:
    try:
        shutil.rmtree(tree)
    except PermissionError:  # the command may have closed folders of its own
        tree.chmod(0o700)
        for above, folders, _ in os.walk(tree):  # opens each folder before it is looked into
            for inner in (Path(above, name) for name in folders):
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(tree)
