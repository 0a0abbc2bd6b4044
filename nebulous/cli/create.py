"""`nebu create`: from flags, from a file, or from both; then, if asked, waits or follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.afterwards import After, afterwards
from nebulous.cli.drafts import Draft, Identity, drafts_of, explain, kind_and_name, secret
from nebulous.cli.failures import UsageError
from nebulous.cli.flags import ContainerFlags, spread
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.screen import emit, note
from nebulous.client import Created
from nebulous.errors import NebulousError, Unauthenticated, Unavailable


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
    remove: Annotated[
        bool, typer.Option("--rm", help="Delete it when it has ended; Ctrl-C then stops and deletes it.")
    ] = False,
    dry_run: options.DryRun = False,
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
    after = After(wait, until, follow, remove)
    if after.anything and (len(drafts) > 1 or drafts[0].kind.name != "Container"):
        raise UsageError("--wait, --for, --follow and --rm go with one container")
    after.check()
    return foresee(lookup, drafts) if dry_run else _create(lookup, drafts, after)


def foresee(lookup: Lookup, drafts: list[Draft]) -> int:
    """Say what creating would come to, of each; the exit code is the one that creating would have."""
    from nebulous.cli.keys import with_local_keys

    codes: list[int] = []
    for draft in drafts:
        try:
            data, owner = with_local_keys(lookup.placed(draft.data)), lookup.owner or lookup.context.organization
            foreseen = lookup.api.foresee(draft.kind.plural, data, owner)
        except NebulousError as error:
            codes.append(explain(error, draft))
            continue
        codes.append(0)
        name = foreseen["resource"]["metadata"]["name"]
        shown = name if (draft.data.get("metadata") or {}).get("name") else "a made-up name"
        emit(f"{draft.kind.id}/{shown} {_OUTCOMES[foreseen['outcome']]} (dry run)")
        if "offers" in foreseen:
            from nebulous.cli.offers import SHOWN, show_foreseen

            show_foreseen(foreseen, most=SHOWN)
    return failures.of_many(codes)


_OUTCOMES = {
    "new": "would be created",
    "same": "is there just so: nothing would change",
    "next": "would be created once what has the name is proven gone",
}


def _create(lookup: Lookup, drafts: list[Draft], after: After) -> int:
    """Create one after the other; a line for each that is there, and for each that is not."""
    codes, made = list[int](), None
    for position, draft in enumerate(drafts):
        try:
            made = create(lookup, draft)
            codes.append(0)
            emit(f"{draft.kind.id}/{made.resource['metadata']['name']} {'unchanged' if made.unchanged else 'created'}")
        except NebulousError as error:
            codes.append(explain(error, draft))
            if len(drafts) > 1:
                note(f"{draft} not created")
            if isinstance(error, (Unavailable, Unauthenticated)):  # the rest would fare no better
                for rest in drafts[position + 1 :]:
                    note(f"{rest} not created")
                return codes[-1]
    if (code := failures.of_many(codes)) or made is None:
        return code
    return afterwards(lookup, drafts[0].kind, made, after) if len(drafts) == 1 else 0


def create(lookup: Lookup, draft: Draft) -> Created:
    """Create one."""
    from nebulous.cli.keys import with_local_keys

    data = with_local_keys(lookup.placed(draft.data))
    return lookup.api.create(draft.kind.plural, data, lookup.owner or lookup.context.organization)


def _is_document(file: Path) -> bool:
    """True for a file of resources, which says so in its first words; anything else is a secret's value."""
    if not file.is_file():
        return False
    with file.open(errors="replace") as opened:
        start = opened.read(4096)
    return file.suffix in {".yaml", ".yml", ".json"} and "kind" in start and "Secret" in start
