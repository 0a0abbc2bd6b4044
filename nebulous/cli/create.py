"""`nebu create`: from flags, from a file, or from both; then, if asked, waits or follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.drafts import Draft, Identity, drafts_of, explain, kind_and_name, secret
from nebulous.cli.failures import UsageError
from nebulous.cli.flags import ContainerFlags, spread
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.screen import emit, note
from nebulous.client import Created, Json
from nebulous.errors import NebulousError, Unauthenticated, Unavailable
from nebulous.models.kinds import Kind


@spread
def command(
    flags: ContainerFlags,
    words: Annotated[list[str] | None, typer.Argument(metavar="[KIND] [NAME]", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="NAME or ORGANIZATION/NAME; default: made up.")] = None,
    namespace: options.Namespace = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="YAML or JSON; - is stdin.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Of a secret; - reads stdin.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has finished (with restart Always: runs).")
    ] = False,
    until: Annotated[str | None, typer.Option("--for", metavar="STATUS", help="Wait for this status.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print the logs; end with the command's exit code.")] = False,
    owner: options.Owner = None,
) -> int:
    """Create resources: `nebu create container --image … --cmd …`, `nebu create -f FILE`, `nebu create secret NAME`."""
    kind, named = kind_and_name(words or [], name)
    lookup = connect().within(namespace, owner)
    identity = Identity(named, namespace, owner)
    if kind and kind.name == "Secret" and (value is not None or file is None or not _is_document(file)):
        if flags.given():
            raise UsageError("the flags of containers mean nothing to a secret")
        drafts = [secret(kind, identity, value, file)]
    elif value is not None:
        raise UsageError("--value belongs to a secret: nebu create secret NAME --value VALUE")
    else:
        drafts = drafts_of(kind, identity, flags, file)
    if (wait or until or follow) and (len(drafts) > 1 or drafts[0].kind.name != "Container"):
        raise UsageError("--wait, --for and --follow go with one container")
    return _create(lookup, drafts, After(wait, until, follow))


@dataclass(frozen=True)
class After:
    """What to do once it is created."""

    wait: bool
    until: str | None
    follow: bool


def _create(lookup: Lookup, drafts: list[Draft], after: After) -> int:
    """Create one after the other; a line for each that is there, and for each that is not."""
    if after.until:
        from nebulous.cli.wait import check

        check(after.until)
    code, made = 0, None
    for position, draft in enumerate(drafts):
        try:
            made = _one(lookup, draft)
        except NebulousError as error:
            code = code or failures.FAILED if len(drafts) > 1 else failures.exit_code(error)
            explain(error, draft)
            if len(drafts) > 1:
                note(f"{draft} not created")
            if isinstance(error, (Unavailable, Unauthenticated)):  # the rest would fare no better
                for rest in drafts[position + 1 :]:
                    note(f"{rest} not created")
                return failures.exit_code(error)
    if code or made is None:
        return code
    return _afterwards(lookup, drafts[0].kind, made.resource, after) if len(drafts) == 1 else 0


def _one(lookup: Lookup, draft: Draft) -> Created:
    from nebulous.cli.keys import with_local_keys

    made = lookup.api.create(
        draft.kind.plural, with_local_keys(draft.data), lookup.owner or lookup.context.organization
    )
    metadata = made.resource["metadata"]
    emit(f"{draft.kind.id}/{metadata['name']} {'unchanged' if made.unchanged else 'created'}")
    return made


def _afterwards(lookup: Lookup, kind: Kind, row: Json, after: After) -> int:
    place, life = lookup.place_of(kind, row), row["metadata"]["id"]
    if after.follow:
        from nebulous.cli.logs import follow_log

        return follow_log(lookup, place, life, {})
    if after.wait or after.until:
        from nebulous.cli.wait import FINISHED, check, wait

        usual = "running" if row.get("restart") == "Always" else FINISHED
        return wait(lookup, place, life, check(after.until or usual))
    return 0


def _is_document(file: Path) -> bool:
    """True for a file of resources, which says so in its first words; anything else is a secret's value."""
    if not file.is_file():
        return False
    with file.open(errors="replace") as opened:
        start = opened.read(4096)
    return file.suffix in {".yaml", ".yml", ".json"} and "kind" in start and "Secret" in start
