"""The simulated cloud's memory: one SQLite file that several processes may use at once, in short transactions.

Everything that a moment means is in `sim_instances.py`; here rows are written and counted. Blocking: call it in a
thread.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from activities.platforms.sim_instances import SIGTERM_CODE, Rented, Run
from nebulous.errors import NotFound, NotReady, OutOfCapacity, Unavailable
from nebulous.models.platforms import InstanceState

BUSY_S = 10.0  # a process waits this long for the others' transactions
LIFE_KEPT_S = 30 * 24 * 3600.0
SOONEST_RETRY_S = 0.05
SLOWEST_RETRY_S = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    place TEXT NOT NULL,
    gone_at REAL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS instances_by_key ON instances (account, key);
CREATE TABLE IF NOT EXISTS counts (
    life TEXT NOT NULL,
    what TEXT NOT NULL,
    number INTEGER NOT NULL,
    touched_at REAL NOT NULL,
    PRIMARY KEY (life, what)
);
"""


@dataclass(frozen=True)
class Rental:
    """What `rent` answers: the instances, or the name of the failure that the script asked for."""

    instances: list[Rented]
    failure: str | None = None
    answered: bool = True


class SimWorld:
    """Every instance of the simulated clouds of one data directory."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def rent(self, wanted: list[Rented], capacity: int | None) -> Rental:
        """Add the instances, unless their key rents already or their life's script refuses.

        Raises:
            OutOfCapacity: `capacity` instances of that type run in that region.
        """
        first, script = wanted[0], wanted[0].script
        with self._transaction() as db:
            if standing := self._of_key(db, first.account, first.key):
                return Rental(standing)
            if failure := script.failure(self._count(db, first.life, "create")):
                return Rental([], failure)
            if capacity is not None and self._used(db, first) + len(wanted) > capacity:
                raise OutOfCapacity(
                    f"{first.instance_type} is sold out in {first.region}: {capacity} of {capacity} are rented"
                )
            self._forget(db)
            for each in wanted:
                db.execute(
                    "INSERT INTO instances (id, account, key, place, gone_at, body) VALUES (?, ?, ?, ?, ?, ?)",
                    (each.id, each.account, each.key, _place(each), each.gone_at, each.model_dump_json()),
                )
            granted = self._count(db, first.life, "grant")
        return Rental(wanted, answered=granted > script.unanswered)

    def of_key(self, account: str, key: str) -> list[Rented]:
        """What is rented under the key."""
        with self._transaction(write=False) as db:
            return self._of_key(db, account, key)

    def of_account(self, account: str) -> list[Rented]:
        """Everything rented in the account."""
        with self._transaction(write=False) as db:
            return self._select(db, "account = ?", account)

    def get(self, account: str, instance: str) -> Rented:
        """One instance.

        Raises:
            NotFound: It is gone.
        """
        with self._transaction(write=False) as db:
            return self._get(db, account, instance)

    def start(self, account: str, instance: str, known: str | None) -> Rented:
        """Begin another run, if the latest is the known one.

        Raises:
            NotReady: It boots, or the known run goes on. NotFound: It is gone, or going.
        """
        now = self._clock()
        with self._transaction() as db:
            rented = self._get(db, account, instance)
            if rented.deleting or rented.preempted(now):
                raise NotFound(f"instance {instance!r} is {rented.state(now).value}: nothing can be started in it")
            if len(rented.runs) > int(known or 0):
                return rented
            if now < rented.ready_at:
                wait = min(max(rented.ready_at - now, SOONEST_RETRY_S), SLOWEST_RETRY_S)
                raise NotReady(f"instance {instance!r} is booting", retry_after=wait)
            if rented.state(now) == InstanceState.RUNNING:
                raise NotReady(f"run {known} still goes on in {instance!r}", retry_after=SOONEST_RETRY_S)
            number = self._count(db, f"{rented.life}#{rented.ordinal}", "run")
            rented.runs.append(Run.scripted(rented.script, number, now))
            self._store(db, rented)
            return rented

    def stop(self, account: str, instance: str) -> Rented:
        """End the running command, as SIGTERM would.

        Raises:
            NotFound: The instance is gone.
        """
        now = self._clock()
        with self._transaction() as db:
            rented = self._get(db, account, instance)
            if rented.state(now) == InstanceState.RUNNING:
                run = rented.runs[-1]
                run.until, run.code, run.oom, run.stopped = now, SIGTERM_CODE, False, True
                self._store(db, rented)
            return rented

    def delete(self, account: str, key: str) -> None:
        """Take everything under the key away: at once, or as late as its script says."""
        now = self._clock()
        with self._transaction() as db:
            for rented in self._of_key(db, account, key):
                rented.deleting = True
                through = now + rented.script.delete_takes_s
                rented.gone_at = min(through, rented.gone_at or through)  # asking again does not prolong it
                self._store(db, rented)
            self._forget(db)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _of_key(self, db: sqlite3.Connection, account: str, key: str) -> list[Rented]:
        return self._select(db, "account = ? AND key = ?", account, key)

    def _get(self, db: sqlite3.Connection, account: str, instance: str) -> Rented:
        found = self._select(db, "account = ? AND id = ?", account, instance)
        if not found:
            raise NotFound(f"instance {instance!r} is not in {account}")
        return found[0]

    def _select(self, db: sqlite3.Connection, where: str, *values: str) -> list[Rented]:
        present = f"SELECT body FROM instances WHERE {where} AND (gone_at IS NULL OR gone_at > ?)"  # noqa: S608
        rows = db.execute(f"{present} ORDER BY rowid", (*values, self._clock()))
        return [Rented.model_validate_json(body) for (body,) in rows]

    def _used(self, db: sqlite3.Connection, like: Rented) -> int:
        now = self._clock()
        rented = self._select(db, "account = ? AND place = ?", like.account, _place(like))
        return sum(not each.preempted(now) for each in rented)

    @staticmethod
    def _store(db: sqlite3.Connection, rented: Rented) -> None:
        change = "UPDATE instances SET gone_at = ?, body = ? WHERE id = ?"
        db.execute(change, (rented.gone_at, rented.model_dump_json(), rented.id))

    def _count(self, db: sqlite3.Connection, life: str, what: str) -> int:
        """Count one more of these in a life, and return how many there were with it."""
        change = (
            "INSERT INTO counts VALUES (?, ?, 1, ?) ON CONFLICT (life, what)"
            " DO UPDATE SET number = number + 1, touched_at = excluded.touched_at RETURNING number"
        )
        (number,) = db.execute(change, (life, what, self._clock())).fetchall()[0]
        return int(number)

    def _forget(self, db: sqlite3.Connection) -> None:
        now = self._clock()
        db.execute("DELETE FROM instances WHERE gone_at <= ?", (now,))
        db.execute("DELETE FROM counts WHERE touched_at < ?", (now - LIFE_KEPT_S,))

    @contextmanager
    def _transaction(self, write: bool = True) -> Generator[sqlite3.Connection]:
        """All or nothing; the file's troubles become ours.

        Raises:
            Unavailable: The file is locked for long, full, damaged, or not ours to write.
        """
        with self._lock:
            try:
                db = self._connection = self._connection or self._open()
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                hint = f"look at {str(self._path)!r}: it must be writable, on a disk with space"
                raise Unavailable(f"the simulated cloud cannot use its file: {error}", hint) from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _use_wal(db)
            db.execute("PRAGMA synchronous = NORMAL")  # a crash of ours loses nothing; a power cut may lose seconds
            db.executescript(SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db


def _place(rented: Rented) -> str:
    return f"{rented.region}/{rented.instance_type}"


def _use_wal(db: sqlite3.Connection) -> None:
    """Readers and a writer at once. SQLite's busy time-out does not cover this switch, so two first users retry."""
    limit = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > limit:
                raise
            time.sleep(SOONEST_RETRY_S)
