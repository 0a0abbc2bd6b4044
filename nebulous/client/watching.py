"""What a watch has told so far, so that each change is told once, whatever breaks between; waits for nothing.

The server says with every change where to go on after a cut. Where it cannot (it was away for too long, or its key
is another) it sends everything afresh, and what that means is found out here, from what was told before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nebulous.client.events import Event
from nebulous.client.wire import Change, Json
from nebulous.errors import NebulousError

Key = tuple[str, str]  # namespace and name

#: What comes of watching where that cannot be: an older server, one that is full or out of reach, or none of ours.
WATCHLESS = (NebulousError, ValueError, KeyError)


class Told:
    """The resources that the reader knows of, and where the server goes on."""

    def __init__(self, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._known: dict[Key, Json] = {}
        self._listed: set[Key] | None = None  # what a list sent afresh has had so far
        self._synced = False
        #: The reader knows what was told before this watch; we do not.
        self._inherited = cursor is not None

    def connected(self) -> None:
        """A connection begins: without a cursor everything will be sent."""
        self._listed = set() if self.cursor is None else None

    def take(self, event: Event) -> Sequence[Change]:
        """What an event tells that was not told before."""
        self.cursor = event.id or self.cursor
        if event.name == "reset":
            return self._reset()
        if event.name == "synced":
            return [*self._vanished(), *self._first_sync()]
        if event.name in {"added", "modified"}:
            return self._present(event.name, json.loads(event.data))
        return self._deleted(json.loads(event.data)) if event.name == "deleted" else ()

    def _reset(self) -> Sequence[Change]:
        self.cursor, self._listed = None, set()
        inherited, self._inherited = self._inherited, False
        return [Change("reset", {})] if inherited else ()

    def _present(self, word: str, row: Json) -> Sequence[Change]:
        key = key_of(row)
        if self._listed is not None:
            self._listed.add(key)
        before, self._known[key] = self._known.get(key), row
        if before is None:
            return [Change(word if self._inherited else "added", row)]
        if life_of(before) != life_of(row):
            return [Change("deleted", before), Change("added", row)]
        if version_of(row) <= version_of(before):  # told before the cut
            self._known[key] = before
            return ()
        return [Change("modified", row)]

    def _deleted(self, row: Json) -> Sequence[Change]:
        before = self._known.get(key_of(row))
        if before is None:
            return [Change("deleted", row)] if self._inherited else ()
        if life_of(before) != life_of(row):
            return ()
        del self._known[key_of(row)]
        return [Change("deleted", row)]

    def _vanished(self) -> Sequence[Change]:
        """What was known and is in the fresh list no more."""
        listed, self._listed = self._listed, None
        gone = [key for key in self._known if listed is not None and key not in listed]
        return [Change("deleted", self._known.pop(key)) for key in gone]

    def _first_sync(self) -> Sequence[Change]:
        first, self._synced = not self._synced, True
        return [Change("synced", {})] if first else ()


def key_of(row: Json) -> Key:
    """Where it is."""
    metadata = row["metadata"]
    return str(metadata["namespace"]).lower(), str(metadata["name"]).lower()


def life_of(row: Json) -> str:
    """Its id."""
    return str(row["metadata"]["id"])


def version_of(row: Json) -> int:
    """Grows with every change of a life."""
    return int(row["metadata"].get("resource_version") or 0)
