"""`nebu token create`: a token by the server's own key, where that key is; the API is not asked.

It is how a server that was not started by `nebu serve` gets its first caller.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nebulous.cli.failures import UsageError
from nebulous.cli.screen import emit, note
from nebulous.errors import Rejected

DAYS = 30
DAYS_AT_MOST = 3650


def create(
    admin: Annotated[bool, typer.Option("--admin", help="For the admin of the whole server.")] = False,
    days: Annotated[int, typer.Option("--days", min=1, max=DAYS_AT_MOST, help="How long it is good for.")] = DAYS,
) -> None:
    """Print a new token for this server's admin; run it where the API runs, with the API's settings."""
    if not admin:
        raise UsageError("for whom? there are only tokens of the server's admin so far", "nebu token create --admin")
    from datetime import UTC, datetime, timedelta  # here: `nebu token --help` needs none of these

    from nebulous import tokens
    from nebulous.settings import Settings

    try:
        key = tokens.signing_key(Settings(), make=False)
    except (ValueError, OSError) as error:  # pydantic's ValidationError is a ValueError
        raise Rejected(f"the settings cannot be used: {error}", "see docs/settings.md") from error
    emit(tokens.mint(key, tokens.local_admin(), timedelta(days=days)))
    end = datetime.now(UTC) + timedelta(days=days)
    note(f"good until {end:%Y-%m-%d} for everything on this server; only another signing key takes it back")


commands = {"create": create}
