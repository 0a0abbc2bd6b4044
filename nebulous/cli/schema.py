"""`nebu schema`: the JSON schema of a kind, for editors and generators."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nebulous.cli.names import kind_of
from nebulous.cli.screen import emit


def command(kind: Annotated[str, typer.Argument(metavar="KIND", help="Such as container.")]) -> None:
    """Print the JSON schema of a kind; no server is asked."""
    from nebulous.models.schema import schema

    emit(json.dumps(schema(kind_of(kind)), indent=2, ensure_ascii=False))
