"""`nebu logout`: forgets the token of a context."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer

from nebulous import contexts
from nebulous.cli.screen import emit, note


def command(
    name: Annotated[str | None, typer.Argument(metavar="[CONTEXT]", help="Default: the current one.")] = None,
) -> None:
    """Forget the token; the server's address stays, for the next `nebu login`."""
    known = contexts.load()
    chosen = name or known.current
    if chosen is None or (name is None and chosen not in known.known):
        note("not logged in")
        return
    current = known.current
    context = known.use(chosen)
    known.current = current
    known.known[chosen] = replace(context, token=None)
    known.save()
    emit(f"logged out of {context.server} (context {chosen!r})")
    if os.environ.get("NEBU_API_KEY"):
        note("note: NEBU_API_KEY is still set in your environment, and wins over the file")
