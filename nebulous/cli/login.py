"""`nebu login`: asks for what is missing, tries it, and saves it as a context."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from nebulous import contexts
from nebulous.cli.failures import UsageError
from nebulous.cli.screen import emit, interactive, note
from nebulous.client import Api
from nebulous.errors import Unauthenticated

LOCAL = "local"  # the name that `nebu serve` gives its own context


def command(
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Address of the API server.")] = None,
    token: Annotated[str | None, typer.Option("--token", metavar="TOKEN", help="Your token; - reads stdin.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the context; default: the host.")] = None,
) -> None:
    """Log in to an API server; what you do not give is asked for."""
    known = contexts.load()
    server = contexts.server_url(url or _ask_for_url(known.active().server))
    secret = sys.stdin.read().strip() if token == "-" else (token or _ask_for_token(server)).strip()  # noqa: S105
    if not secret:
        raise UsageError("the token is empty", "`nebu serve` prints one; or ask the server's admin")
    if server.startswith("http:") and not contexts.is_loopback(server):
        note(f"note: {server} is not encrypted: whoever is on the way reads the token; put TLS in front of the API")
    try:
        with Api(server, secret) as api:
            me = api.read("/v1/users/me")
    except Unauthenticated as error:
        raise Unauthenticated(f"{server} refuses this token: {error.message}", "nothing was saved") from error
    saved = contexts.save_context(name or _name(server, known), server, secret)
    emit(f"logged in to {server} as {me['handle']} of {me['organization']}; context {saved.name!r} in {known.path}")


def _name(server: str, known: contexts.Contexts) -> str:
    """The context that this server already has, else its host."""
    for context in known.known.values():
        if context.server == server:
            return context.name
    return LOCAL if contexts.is_loopback(server) else urlsplit(server).hostname or "server"


def _ask_for_url(suggested: str) -> str:
    if not interactive():
        raise UsageError("which server? there is no terminal to ask on", "give --url URL and --token - (from stdin)")
    print(f"API server [{suggested}]: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or suggested


def _ask_for_token(server: str) -> str:
    if not interactive():
        raise UsageError("which token? there is no terminal to ask on", "give --token - and write it to stdin")
    from getpass import getpass

    return getpass(f"Token for {server} (not shown): ", stream=sys.stderr)
