"""`nebu whoami`: who the server says you are."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from nebulous.cli.lookup import connect
from nebulous.cli.screen import emit, structured
from nebulous.client import Json


def command(
    output: Annotated[Literal["text", "json", "yaml"], typer.Option("-o", "--output")] = "text",
) -> None:
    """Print your name, your organizations with your role in each, and the server."""
    lookup = connect()
    me: Json = lookup.api.read("/v1/users/me")
    if output != "text":
        emit(structured(me, output))
        return
    roles: dict[str, Json] = me.get("organizations") or {}
    emit(f"{me['handle']} on {lookup.api.server}" + (", admin of the server" if me.get("admin") else ""))
    for name, about in roles.items():
        own = " (yours by default)" if name == me.get("organization") else ""
        emit(f"  {about.get('org_role')} in {name}{own}")
