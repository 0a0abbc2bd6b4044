"""What the platforms themselves wrote down of every rental, also of those long gone, seen with other eyes than ours.

The simulated cloud's file gets triggers that keep a ledger beside its rows; a Docker Engine tells its events.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from activities.platforms.sim_world import SimWorld
from tests.docker_engine import client

FOREVER = float("inf")

LEDGER = """
CREATE TABLE IF NOT EXISTS ledger (
    id TEXT PRIMARY KEY, key TEXT, life TEXT, workflow TEXT, since REAL, until REAL
);
CREATE TRIGGER IF NOT EXISTS rented AFTER INSERT ON instances BEGIN
    INSERT INTO ledger VALUES (NEW.id, NEW.key, json_extract(NEW.body, '$.life'), json_extract(NEW.body, '$.workflow'),
        json_extract(NEW.body, '$.created_at'), NEW.gone_at);
END;
CREATE TRIGGER IF NOT EXISTS going AFTER UPDATE OF gone_at ON instances BEGIN
    UPDATE ledger SET until = NEW.gone_at WHERE id = NEW.id;
END;
"""
#: For the proof of the proof: a cloud that forgets under which key it rented.
FORGETS_KEYS = """
CREATE TRIGGER forgets AFTER INSERT ON instances BEGIN
    UPDATE instances SET key = NEW.key || '-forgotten-' || NEW.id WHERE id = NEW.id;
END;
"""


@dataclass(frozen=True)
class Tenancy:
    """One instance, as its platform has it; unix seconds."""

    id: str
    key: str
    life: str
    workflow: str
    since: float
    until: float

    def __str__(self) -> str:
        return f"{self.id} of life {self.life} under {self.key} from {self.since:.3f} to {self.until:.3f}"


class SimLedger:
    """Of the simulated cloud of one data directory."""

    def __init__(self, data_dir: Path, *more: str) -> None:
        """Begin to keep it, in the cloud's own file."""
        self._path = data_dir / "sim" / "cloud.db"
        world = SimWorld(self._path, time.time)
        world.of_account("")  # makes the file, unless the worker has done so
        world.close()
        with self._open() as db:
            for script in (LEDGER, *more):
                db.executescript(script)

    def tenancies(self) -> list[Tenancy]:
        """Every instance there ever was."""
        with self._open() as db:
            rows = db.execute("SELECT id, key, life, workflow, since, until FROM ledger").fetchall()
        return [Tenancy(*row[:5], until=FOREVER if row[5] is None else row[5]) for row in rows]

    def present(self) -> list[Tenancy]:
        """What is there now."""
        now = time.time()
        return [each for each in self.tenancies() if each.until > now]

    def runs(self) -> Counter[str]:
        """How often the command of each life was started."""
        with self._open() as db:
            rows = db.execute("SELECT life, number FROM counts WHERE what = 'run'").fetchall()
        return Counter({life.partition("#")[0]: number for life, number in rows})

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10)


class DockerLedger:
    """Of one Engine, from its events since it was opened."""

    def __init__(self, docker_host: str) -> None:
        self._host = docker_host
        self._events: list[dict[str, Any]] = []
        self._client = client(docker_host)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._client.close()

    def _listen(self) -> None:
        wanted = {"type": ["container"], "event": ["create", "start", "destroy"], "label": ["nebulous-install"]}
        params = {"filters": json.dumps(wanted), "since": str(int(time.time()))}
        try:
            with self._client.stream("GET", "/events", params=params, timeout=None) as stream:
                for line in stream.iter_lines():
                    self._events.append(json.loads(line))
        except (httpx.HTTPError, RuntimeError, OSError):
            return  # closed

    def tenancies(self) -> list[Tenancy]:
        """Every container of ours there ever was."""
        ended = {event["Actor"]["ID"]: event["timeNano"] / 1e9 for event in self._of("destroy")}
        return [
            Tenancy(
                event["Actor"]["ID"][:12],
                tags["nebulous-key"],
                tags["nebulous-id"],
                tags["nebulous-workflow"],
                event["timeNano"] / 1e9,
                ended.get(event["Actor"]["ID"], FOREVER),
            )
            for event in self._of("create")
            if (tags := event["Actor"]["Attributes"])
        ]

    def present(self) -> list[Tenancy]:
        """What the Engine lists now."""
        with client(self._host) as engine:
            params = {"all": "1", "filters": json.dumps({"label": ["nebulous-install"]})}
            listed = engine.get("/containers/json", params=params).raise_for_status().json()
        return [
            Tenancy(
                each["Id"][:12],
                each["Labels"]["nebulous-key"],
                each["Labels"]["nebulous-id"],
                each["Labels"]["nebulous-workflow"],
                float(each["Created"]),
                FOREVER,
            )
            for each in listed
        ]

    def runs(self) -> Counter[str]:
        """How often the command of each life was started."""
        return Counter(event["Actor"]["Attributes"]["nebulous-id"] for event in self._of("start"))

    def _of(self, action: str) -> list[dict[str, Any]]:
        return [event for event in list(self._events) if event["Action"] == action]


def rented_twice(tenancies: Iterable[Tenancy], may_vanish: frozenset[str] = frozenset()) -> list[str]:
    """Where one name had two instances at a time, or one try of a life rented again.

    Args:
        tenancies: From a ledger.
        may_vanish: Lives whose instance the cloud itself takes away, perhaps before its answer arrived.
    """
    problems: list[str] = []
    latest: dict[str, Tenancy] = {}
    by_key: dict[str, Tenancy] = {}
    for each in sorted(tenancies, key=lambda each: each.since):
        before = latest.get(each.workflow)
        if before and before.until > each.since:
            problems.append(f"{each.workflow} had two instances at a time: {before}; {each}")
        if each.key in by_key and each.life not in may_vanish:
            problems.append(f"{each.workflow} rented twice for one try: {by_key[each.key]}; {each}")
        by_key[each.key] = each
        if before is None or each.until > before.until:
            latest[each.workflow] = each
    return problems
