"""`nebu events`: what happened to one resource."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from nebulous.cli import options
from nebulous.cli.describe import EVENTS, event_cells
from nebulous.cli.lookup import connect
from nebulous.cli.names import select
from nebulous.cli.screen import emit, note, structured
from nebulous.cli.tables import table


def command(
    names: options.OneName,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
    output: Annotated[Literal["table", "json", "yaml"], typer.Option("-o", "--output")] = "table",
) -> None:
    """Print the last events of a resource, oldest first."""
    target = select(names).only()
    lookup = connect().within(namespace, owner)
    events = lookup.api.history(lookup.place_of(target.kind, lookup.find(target)))["events"]
    if output != "table":
        emit(structured({"events": events}, output))
    elif events:
        emit(table(EVENTS, [event_cells(event) for event in events]))
    else:
        note(f"nothing has happened to {target} yet")
