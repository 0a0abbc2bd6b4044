"""`nebu config`: the contexts of the client."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from nebulous import contexts
from nebulous.cli.screen import emit, note
from nebulous.cli.tables import NOTHING, table


def list_contexts() -> None:
    """List the contexts; the current one has a star."""
    known = contexts.load()
    if not known.known:
        note(f"no contexts in {known.path}: `nebu serve` or `nebu login` makes one")
        return
    rows = [
        ["*" if name == known.current else " ", name, context.server, context.organization or NOTHING, _space(context)]
        for name, context in sorted(known.known.items())
    ]
    emit(table(("", "NAME", "SERVER", "ORGANIZATION", "NAMESPACE"), rows))


def use(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The context.")],
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="Also: its default namespace.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", "--org", help="Also: its default organization.")] = None,
) -> None:
    """Make a context the current one."""
    known = contexts.load()
    chosen = known.use(name)
    known.known[name] = replace(
        chosen, namespace=namespace or chosen.namespace, organization=owner or chosen.organization
    )
    known.save()
    emit(f"context {name!r}: {chosen.server}, namespace {_space(known.known[name])}")


def show() -> None:
    """Show what is in force, and where it comes from; never the token itself."""
    known = contexts.load()
    active = known.active()
    emit(f"file:          {known.path}{'' if known.path.exists() else ' (does not exist)'}")
    emit(f"context:       {active.name}")
    emit(f"server:        {active.server}{_from_environment('NEBU_SERVER')}")
    emit(f"token:         {'yes' if active.token else 'none'}{_from_environment('NEBU_API_KEY')}")
    emit(f"organization:  {active.organization or 'your own'}")
    emit(f"namespace:     {_space(active)}")


def _space(context: contexts.Context) -> str:
    return context.namespace or contexts.DEFAULT_NAMESPACE


def _from_environment(name: str) -> str:
    import os

    return f" (from {name})" if os.environ.get(name) else ""


commands = {"contexts": list_contexts, "use": use, "show": show}
