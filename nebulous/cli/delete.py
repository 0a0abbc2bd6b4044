"""`nebu delete`: asks for the end of each at once, then waits for the proof that nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.actions import Choice, Chosen, choose, each_of
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import Target, kind_of
from nebulous.cli.progress import detachable, until_gone
from nebulous.cli.screen import emit
from nebulous.client import Json


def command(
    names: options.Names = None,
    namespace: options.Namespace = None,
    labels: options.Labels = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Those in this file; - is stdin.")] = None,
    everything: options.All = False,
    yes: options.Yes = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until nothing is left.")] = True,
    owner: options.Owner = None,
) -> int:
    """Stop what runs, give the machines back, and delete; the logs stay readable by id for a while."""
    lookup = connect().within(namespace, owner)
    if file is not None:
        if names or labels or everything:
            raise failures.UsageError("-f says what to delete: give no names, -l or --all with it")
        chosen = _in_file(file, lookup)
    else:
        chosen = choose("delete", Choice(names or [], labels or [], everything, yes), lookup, lambda _: True)
    return delete(chosen, lookup, wait)


def delete(chosen: list[Chosen], lookup: Lookup, wait: bool) -> int:
    """Ask for all first, so that everything ends as soon as it can; return the exit code."""
    going: list[tuple[Chosen, str | None]] = []

    def ask(each: Chosen) -> None:
        row = lookup.api.delete(each.place)
        going.append((each, row.get("metadata", {}).get("id")))
        if not wait:
            emit(f"{each} is being deleted")

    code = each_of(chosen, lookup, ask)
    if wait and going:
        plural = going[0][0].target.kind.plural
        with detachable(f"the deletion goes on; look with: nebu get {plural}") as progress:
            for each, life in going:
                until_gone(lookup.api, each.place, life, progress)
                progress.finish()
                emit(f"{each} deleted")
    return code


def _in_file(file: Path, lookup: Lookup) -> list[Chosen]:
    from nebulous.cli.files import read

    chosen: list[Chosen] = []
    for document in read(file):
        metadata: Json = document.data.get("metadata") or {}
        if not metadata.get("name"):
            raise failures.UsageError(f"{file}: a document without metadata.name names nothing to delete")
        name = str(metadata["name"])
        owner, _, bare = name.rpartition("/")
        target = Target(kind_of(str(document.data.get("kind"))), bare, owner or metadata.get("owner"))
        inside = lookup.within(lookup.namespace or metadata.get("namespace"), lookup.owner)
        chosen.append(Chosen(target, inside.place(target), listed=False))
    return chosen
