"""A watch on the client's side: what there is and what changes, each change once, whatever breaks between.

The server says with every change where to go on after a cut. Where it cannot (it was away for too long, or its key
is another) it sends everything afresh, and what that means is found out here, from what was told before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from nebulous.logs import PATIENCE, Connect, Follow

#: `added`, `modified` or `deleted`, and the resource; once `synced`, with nothing, after all that was there at first.
Told = tuple[str, dict[str, Any]]


class Watch(Follow[Told]):
    """What is told of some resources, by iteration, without end."""

    patient_at_first = False

    def __init__(self, connect: Connect, query: dict[str, Any], patience: timedelta = PATIENCE) -> None:
        super().__init__(connect, query, patience)
        self._known: dict[tuple[str, str], dict[str, Any]] = {}  # by namespace and name
        self._listed: set[tuple[str, str]] | None = None  # what a list sent afresh has had so far
        self._synced = self._stopped = False

    def stop(self) -> None:
        """End at the next sign of life, or at the next cut; for another thread than the one that iterates."""
        self._stopped = True

    def _over(self) -> bool:
        return self._stopped

    def _connection(self) -> Iterator[Sequence[Told]]:
        self._listed = None if self._query else set()
        return super()._connection()

    def _take(self, event: dict[str, str]) -> Sequence[Told]:
        if event.get("id"):
            self._query = {"cursor": event["id"]}
        word = event.get("event")
        if word == "reset":
            self._query, self._listed = {}, set()
        elif word == "synced":
            return [*self._vanished(), *self._first_sync()]
        elif word in {"added", "modified"}:
            return self._seen(json.loads(event["data"]))
        elif word == "deleted":
            return self._deleted(json.loads(event["data"]))
        return ()

    def _seen(self, row: dict[str, Any]) -> Sequence[Told]:
        key = _key(row)
        if self._listed is not None:
            self._listed.add(key)
        before = self._known.get(key)
        if before and _life(before) == _life(row):
            if _version(row) <= _version(before):  # told before the cut
                return ()
            self._known[key] = row
            return [("modified", row)]
        self._known[key] = row
        ended = [("deleted", before)] if before else []
        return [*ended, ("added", row)]

    def _deleted(self, row: dict[str, Any]) -> Sequence[Told]:
        before = self._known.get(_key(row))
        if before is None or _life(before) != _life(row):
            return ()
        del self._known[_key(row)]
        return [("deleted", row)]

    def _vanished(self) -> Sequence[Told]:
        """What was known and is in the fresh list no more."""
        if self._listed is None:
            return ()
        gone = [key for key in self._known if key not in self._listed]
        self._listed = None
        return [("deleted", self._known.pop(key)) for key in gone]

    def _first_sync(self) -> Sequence[Told]:
        first, self._synced = not self._synced, True
        return [("synced", {})] if first else ()


def _key(row: dict[str, Any]) -> tuple[str, str]:
    metadata = row["metadata"]
    return str(metadata["namespace"]).lower(), str(metadata["name"]).lower()


def _life(row: dict[str, Any]) -> str:
    return str(row["metadata"]["id"])


def _version(row: dict[str, Any]) -> int:
    return int(row["metadata"].get("resource_version") or 0)
