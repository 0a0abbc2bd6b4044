"""`nebu watch` and `nebu get -w`: what there is, then a line for each change, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from nebulous.cli import options
from nebulous.cli.failures import UsageError
from nebulous.cli.get import Output, selection_of
from nebulous.cli.lookup import Lookup, check_labels, connect
from nebulous.cli.names import Selection, Target
from nebulous.cli.progress import tell_away
from nebulous.cli.screen import emit, note, structured
from nebulous.cli.tables import Columns
from nebulous.client import Json
from nebulous.errors import NebulousError, NotFound
from nebulous.models.kinds import Kind

#: Room for the longer words to come, so that later lines stand under the first ones; the most telling column first.
_ROOM = {"STATUS": 23, "AGE": 5, "$/H": 5, "NAME": 12, "PLATFORM": 10}


def command(
    what: Annotated[str, typer.Argument(metavar="KIND", help="A kind.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = "table",
    namespace: options.Namespace = None,
    everywhere: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces (the default).")] = False,
    labels: options.Labels = None,
    owner: options.Owner = None,
    only: Annotated[bool, typer.Option("--watch-only", help="Changes only, without what is there now.")] = False,
) -> None:
    """Print what there is, then a line for each change: `nebu watch containers`, `nebu watch containers foo`."""
    from nebulous.cli import catalog

    if what.lower() in catalog.TABLES:
        raise UsageError(f"{what} cannot be watched", f"look again: nebu get {what}")
    if everywhere and namespace:
        raise UsageError("-n and -A contradict each other: give one of them")
    selection = selection_of(what, names or [])
    if selection.targets and labels:
        raise UsageError("give a NAME, or -l: not both")
    lookup = connect().within(namespace, owner)
    filters = _filters(selection, labels, lookup)
    spread = selection.kind.namespaced and not filters.get("namespace")
    printer = _PRINTERS.get(output, _Table)(selection.kind, output, spread)
    try:
        _watch(lookup, selection.kind, filters, printer, only)
    except NotFound as error:
        if "/v1/watch" not in error.message:
            raise
        again = f"upgrade it, or look again: nebu get {selection.kind.plural}"
        raise NebulousError(f"the server {lookup.api.server} is older than `watch`", again) from error


def _filters(selection: Selection, labels: list[str] | None, lookup: Lookup) -> Json:
    """What to ask the server for. A NAME must be there: waiting for one to come is not what is meant by a slip."""
    if selection.targets:
        row = lookup.find(selection.only())
        metadata = row["metadata"]
        return {"namespace": metadata["namespace"], "name": metadata["name"], "owner": metadata["owner"]}
    check_labels(labels)
    return {"namespace": lookup.namespace, "owner": lookup.organization(), "label": labels}


def _watch(lookup: Lookup, kind: Kind, filters: Json, printer: Printer, only: bool) -> None:
    first: list[Json] = []
    synced = False
    changes = lookup.api.watch(kind.id, **filters)
    changes.away = tell_away
    for word, row in changes:
        if word == "synced":
            synced = True
            if not first:
                note(f"no {kind.plural} yet; waiting for the first (Ctrl-C ends)")
            # As `get` has them; the watch begins with the oldest.
            newest = sorted(first, key=lambda row: row["metadata"].get("created_at") or 0)[::-1]
            printer.begin([] if only else newest)
        elif synced:
            printer.change(word, row)
        else:
            first.append(row)
        sys.stdout.flush()


class Printer:
    """How rows are printed as they come; this one prints names."""

    def __init__(self, kind: Kind, output: str, spread: bool) -> None:
        self.kind, self.output, self.spread = kind, output, spread

    def begin(self, rows: list[Json]) -> None:
        """What is there at first."""
        for row in rows:
            self.change("added", row)

    def change(self, word: str, row: Json) -> None:
        """One change: `added`, `modified` or `deleted`."""
        emit(str(Target(self.kind, row["metadata"]["name"])))


class _Objects(Printer):
    """JSON, one object a line, or YAML, one document each; `event` says what became of it."""

    def change(self, word: str, row: Json) -> None:
        told = {"event": word, **row}
        if self.output == "yaml":
            emit(f"---\n{structured(told, 'yaml')}")
            return
        import json

        emit(json.dumps(told, ensure_ascii=False))


class _Table(Printer):
    """The table of `get`, to which lines are added."""

    def __init__(self, kind: Kind, output: str, spread: bool) -> None:
        from nebulous.cli import views

        super().__init__(kind, output, spread)
        self._views = views
        self._table = Columns(views.headers(kind, output == "wide", spread), _ROOM)

    def begin(self, rows: list[Json]) -> None:
        cells = [self._cells("added", row) for row in rows]
        for row in cells:
            self._table.fit(row)
        if head := self._table.head():
            emit(head)
        for row in cells:
            self._print(row)

    def change(self, word: str, row: Json) -> None:
        self._print(self._cells(word, row))

    def _print(self, cells: list[str]) -> None:
        text = self._table.row(cells)
        emit(f"{text}\n" if self._table.stacked else text)

    def _cells(self, word: str, row: Json) -> list[str]:
        if word == "deleted":
            status = {**row["status"], "status": "deleted", "reason": "", "cost_per_hr": None}
            row = {**row, "status": status}
        return self._views.cells(self.kind, row, time.time(), self.output == "wide", self.spread)


_PRINTERS: dict[str, Callable[[Kind, str, bool], Printer]] = {"json": _Objects, "yaml": _Objects, "name": Printer}
