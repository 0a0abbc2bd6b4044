"""What one watcher has been shown, and so what a sight of a resource means to them: added, modified or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from api.changes import MARGIN, Changes, Sight
from api.lists import Wanted
from api.marks import GONE, Mark
from nebulous import temporal
from nebulous.models.resources import Row

GONE_KEPT = 1000

Word = Literal["added", "modified", "deleted"]
Told = tuple[Word, Row]


@dataclass(frozen=True)
class _Known:
    life: str
    version: int
    began: datetime


class View:
    """The resources of one kind and organization that a watcher wants, as far as shown."""

    def __init__(self, organization: str, wanted: Wanted, changes: Changes, mark: Mark) -> None:
        self.mark = mark
        self._organization = organization.lower()
        self._wanted = wanted
        self._changes = changes
        self._known: dict[str, _Known] = {}  # by workflow id
        self._gone: dict[str, None] = {}  # lives: an older sight of one does not bring it back

    def begin(self, present: Iterable[Sight]) -> Iterator[Told]:
        """Everything that is there."""
        return self.follow(present)

    def resume(self, present: Iterable[Sight], closed: Iterable[Sight]) -> Iterator[Told]:
        """What has changed since the mark: first what is gone, then what is there.

        Args:
            present: All that is open now.
            closed: What closed since the mark, and a margin before it.
        """
        since = self.mark.at - MARGIN
        ended, there = list(closed), list(present)
        latest = {str(sight.address): sight.life for sight in (*ended, *there)}
        for sight in ended:
            followed = latest[str(sight.address)] != sight.life
            if (sight.over or followed) and sight.life not in self._gone:
                yield from self._gone_since(sight, since)
        for sight in there:
            if sight.life not in self._gone and self._wants(sight.row):
                yield from self._there_since(sight, since)

    def follow(self, sights: Iterable[Sight]) -> Iterator[Told]:
        """What sights mean, one after the other."""
        for sight in sights:
            known = self._known.get(str(sight.address))
            stale = known is not None and sight.began < known.began
            if stale or sight.life in self._gone:
                continue
            if not sight.open:
                yield from self._closed(sight, known)
            elif self._wants(sight.row):
                yield from self._opened(sight, known)
            elif known:  # its labels have changed, or its next life has others
                row = sight.row if known.life == sight.life else self._last_row(known, sight.row)
                yield self._deleted(sight, known.life, row)

    def _opened(self, sight: Sight, known: _Known | None) -> Iterator[Told]:
        if known and known.life != sight.life:
            self._bury(known.life)
            yield self._deleted(sight, known.life, self._last_row(known, sight.row))
            known = None
        self._know(sight)
        if known is None or sight.version > known.version:
            self.mark.saw(sight.life, sight.version, sight.at)
            yield "modified" if known else "added", sight.row

    def _closed(self, sight: Sight, known: _Known | None) -> Iterator[Told]:
        if not sight.over:
            return  # the run that follows tells what became of it
        self._bury(sight.life)
        if known and known.life == sight.life:
            yield self._deleted(sight, sight.life, sight.row)

    def _gone_since(self, sight: Sight, since: datetime) -> Iterator[Told]:
        shown = self.mark.shown(sight.life)
        self._bury(sight.life)
        if shown != GONE and (shown is not None or not self._is_young(sight, since)) and self._wants(sight.row):
            yield self._deleted(sight, sight.life, sight.row)

    def _there_since(self, sight: Sight, since: datetime) -> Iterator[Told]:
        self._know(sight)
        shown = self.mark.shown(sight.life)
        if sight.at < since or (shown is not None and shown >= sight.version):
            return
        new = shown is None and self._is_young(sight, since)
        self.mark.saw(sight.life, sight.version, sight.at)
        yield "added" if new else "modified", sight.row

    def _is_young(self, sight: Sight, since: datetime) -> bool:
        """True for a life so young that the mark would know it, had it been shown; in doubt it was shown."""
        return self.mark.whole and sight.row.metadata.created_at > since.timestamp() + 1

    def _know(self, sight: Sight) -> None:
        self._known[str(sight.address)] = _Known(sight.life, sight.version, sight.began)

    def _deleted(self, sight: Sight, life: str, row: Row) -> Told:
        self._known.pop(str(sight.address), None)
        self.mark.saw(life, GONE, sight.at)
        return "deleted", row

    def _bury(self, life: str) -> None:
        self._gone[life] = None
        while len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]

    def _last_row(self, known: _Known, successor: Row) -> Row:
        """The last row of a life whose name has another by now; a poor one if visibility has not shown its end."""
        metadata = successor.metadata.model_copy(update={"id": known.life, "resource_version": str(known.version)})
        return self._changes.ending(known.life) or Row(metadata=metadata, spec=successor.spec, status={})

    def _wants(self, row: Row) -> bool:
        if row.metadata.owner.lower() != self._organization:  # a program may write any memo
            return False
        where = {temporal.NAMESPACE: row.metadata.namespace, temporal.NAME: row.metadata.name}
        return self._wanted.has(row) and all(where[key].lower() == said for key, said in self._wanted.fields.items())
