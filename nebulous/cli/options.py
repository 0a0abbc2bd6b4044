"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Namespace = Annotated[str | None, typer.Option("-n", "--namespace", help="Namespace; default: the context's.")]
Owner = Annotated[str | None, typer.Option("--owner", "--org", help="Organization; default: your own.")]
Labels = Annotated[list[str] | None, typer.Option("-l", "--label", metavar="K=V", help="Only those with this label.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KIND] NAME...", help="NAME, KIND NAME... or KIND/NAME.", show_default=False),
]
OneName = Annotated[
    list[str], typer.Argument(metavar="[KIND] NAME", help="NAME, KIND NAME or KIND/NAME.", show_default=False)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and show ranked offers; create nothing.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All of the kind, in every namespace unless -n is given.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
KindAndName = Annotated[list[str] | None, typer.Argument(metavar="[KIND] [NAME]", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="NAME or ORGANIZATION/NAME.")]
Source = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="FILE", help="A file, a folder, - for stdin, or an http(s) address."),
]
Value = Annotated[str | None, typer.Option("--value", help="Of a secret; - reads stdin.")]
