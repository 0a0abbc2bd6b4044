"""`nebu version`: of the client and of the server."""

from __future__ import annotations

from nebulous import __version__
from nebulous.cli.lookup import connect
from nebulous.cli.screen import emit
from nebulous.client import Json
from nebulous.errors import NebulousError


def command() -> None:
    """Print both versions; a server that does not answer is no failure here."""
    emit(f"client  {__version__}")
    try:
        lookup = connect()
        about: Json = lookup.api.read("/")
        emit(f"server  {about.get('version', 'unknown')} at {lookup.api.server}")
    except NebulousError as error:
        emit(f"server  none: {error.message}")
