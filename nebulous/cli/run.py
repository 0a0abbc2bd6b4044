"""`nebu run`: create, follow the logs, end with the command's own exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nebulous.cli import options
from nebulous.cli.afterwards import After, afterwards
from nebulous.cli.create import create, foresee
from nebulous.cli.drafts import Draft, Identity, drafts_of, explain
from nebulous.cli.failures import UsageError, exit_code
from nebulous.cli.flags import ContainerFlags, spread
from nebulous.cli.lookup import connect
from nebulous.cli.screen import emit, note
from nebulous.errors import NebulousError
from nebulous.models import kinds

#: The first word that is no flag begins CMD: what follows is the command's, dashes and all.
settings = {"allow_interspersed_args": False}


@spread
def command(
    flags: ContainerFlags,
    words: Annotated[list[str] | None, typer.Argument(metavar="[--] CMD...", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="NAME or ORGANIZATION/NAME; default: made up.")] = None,
    namespace: options.Namespace = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="The rest of it: YAML or JSON; - is stdin.")] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Print the name and return at once.")] = False,
    remove: Annotated[
        bool, typer.Option("--rm", help="Delete it when it has ended; Ctrl-C then stops and deletes it.")
    ] = False,
    dry_run: options.DryRun = False,
    owner: options.Owner = None,
) -> int:
    """Create a container, print what it writes, and end with its exit code: `nebu run --image busybox -- echo hello`.

    CMD is executed as it is; for a shell write --cmd 'echo $HOME'. Ctrl-C stops following, not the container, and says
    how to come back; with --rm it stops and deletes the container.
    """
    if detach and remove:
        raise UsageError("-d and --rm contradict each other: nobody would be there to delete it")
    if words and flags.cmd:
        raise UsageError("the command is given twice", "give CMD or --cmd, not both")
    lookup = connect().within(namespace, owner)
    draft = _draft(flags, Identity(name, namespace, owner), file, words)
    if dry_run:
        return foresee(lookup, [draft])
    try:
        made = create(lookup, draft)
    except NebulousError as error:
        explain(error, draft)
        return exit_code(error)
    made_name = made.resource["metadata"]["name"]
    if detach:
        emit(made_name)
        return 0
    note(f"{draft.kind.id}/{made_name} {'unchanged' if made.unchanged else 'created'}")
    return afterwards(lookup, draft.kind, made, After(follow=True, remove=remove))


def _draft(flags: ContainerFlags, identity: Identity, file: Path | None, words: list[str] | None) -> Draft:
    container = kinds.find("container")
    drafts = drafts_of(container, identity, flags, file)
    if len(drafts) > 1:
        raise UsageError(f"{file} has {len(drafts)} documents: run takes one container")
    draft = drafts[0]
    if words:
        draft = replace(draft, data={**draft.data, "command": words}, overridden={**draft.overridden, "command": "CMD"})
    if not any(draft.data.get(field) for field in ("command", "image")):
        raise UsageError("run what?", "nebu run --image IMAGE -- CMD, or nebu run -- CMD on this host")
    return draft
