"""`nebu create`: from flags, from a file, or from both; then, if asked, waits or follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nebulous.cli import failures, options
from nebulous.cli.afterwards import After, afterwards
from nebulous.cli.failures import UsageError
from nebulous.cli.flags import ContainerFlags, pairs, spread
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import kind_of
from nebulous.cli.screen import emit, note
from nebulous.client import Created, InvalidRequest, Json
from nebulous.errors import NebulousError, Unauthenticated, Unavailable
from nebulous.models.kinds import Kind

if TYPE_CHECKING:
    from nebulous.models.documents import Document


@dataclass(frozen=True)
class Draft:
    """One resource that is to be created, and where its fields were written."""

    kind: Kind
    data: Json
    document: Document | None = None
    overridden: dict[str, str] = field(default_factory=dict[str, str])  # field -> the flag that set it

    def __str__(self) -> str:
        metadata: Json = self.data.get("metadata") or {}
        name = metadata.get("name")
        return f"{self.kind.id}/{name}" if name else f"{self.kind.id} without a name"


@dataclass(frozen=True)
class Identity:
    """Name and place as flags give them."""

    name: str | None
    namespace: str | None
    owner: str | None


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
    kind, named = _kind_and_name(words or [], name)
    lookup = connect().within(namespace, owner)
    identity = Identity(named, namespace, owner)
    if kind and kind.name == "Secret" and (value is not None or file is None or not _is_document(file)):
        if flags.given():
            raise UsageError("the flags of containers mean nothing to a secret")
        drafts = [_secret(kind, identity, value, file)]
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
    code = 0
    for draft in drafts:
        try:
            foreseen = lookup.api.foresee(draft.kind.plural, draft.data, lookup.owner or lookup.context.organization)
        except NebulousError as error:
            explain(error, draft)
            code = code or (failures.FAILED if len(drafts) > 1 else failures.exit_code(error))
            continue
        name = foreseen["resource"]["metadata"]["name"]
        shown = name if (draft.data.get("metadata") or {}).get("name") else "a made-up name"
        emit(f"{draft.kind.id}/{shown} {_OUTCOMES[foreseen['outcome']]} (dry run)")
        if "offers" in foreseen:
            from nebulous.cli.offers import SHOWN, show_foreseen

            show_foreseen(foreseen, most=SHOWN)
    return code


_OUTCOMES = {
    "new": "would be created",
    "same": "is there just so: nothing would change",
    "next": "would be created once what has the name is proven gone",
}


def _create(lookup: Lookup, drafts: list[Draft], after: After) -> int:
    """Create one after the other; a line for each that is there, and for each that is not."""
    code, made = 0, None
    for position, draft in enumerate(drafts):
        try:
            made = create(lookup, draft)
            emit(f"{draft.kind.id}/{made.resource['metadata']['name']} {'unchanged' if made.unchanged else 'created'}")
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
    return afterwards(lookup, drafts[0].kind, made, after) if len(drafts) == 1 else 0


def create(lookup: Lookup, draft: Draft) -> Created:
    """Create one."""
    return lookup.api.create(draft.kind.plural, draft.data, lookup.owner or lookup.context.organization)


def explain(error: NebulousError, draft: Draft) -> None:
    """Say why it was not created, and where that was written."""
    if isinstance(error, InvalidRequest):
        from nebulous.cli.files import report_problems

        report_problems(error, draft.document, draft.overridden)
    else:
        failures.report(error)


def _kind_and_name(words: list[str], name: str | None) -> tuple[Kind | None, str | None]:
    """`[KIND] [NAME]`: the first word is a kind."""
    if not words:
        return None, name
    kind = kind_of(words[0])
    if len(words) > 2:
        raise UsageError(f"one NAME is expected after {words[0]}, not {' '.join(words[1:])}")
    if len(words) == 2 and name and words[1] != name:
        raise UsageError(f"the name is {words[1]!r} and --name {name!r}: give one of them")
    return kind, words[1] if len(words) == 2 else name


def drafts_of(kind: Kind | None, identity: Identity, flags: ContainerFlags, file: Path | None) -> list[Draft]:
    """The resources that flags and file describe.

    Raises:
        UsageError: They describe none, or contradict each other.
    """
    found, written = flags.document()
    metadata = _metadata(identity, flags)
    if file is None:
        if kind is None:
            raise UsageError(
                "create what?", "nebu create container --image IMAGE --cmd COMMAND, or nebu create -f FILE"
            )
        return [Draft(kind, {"kind": kind.name, "metadata": metadata, **found}, overridden=written)]
    from nebulous.cli.files import called, read

    drafts = [Draft(document.kind, document.data, document) for document in read(file)]
    for draft in drafts:
        if kind is not None and draft.kind != kind:
            raise UsageError(f"{called(file)} has a {draft.kind.name}, the command line says {kind.name}")
    if not found and not metadata:
        return drafts
    if len(drafts) > 1:
        raise UsageError(f"{called(file)} has {len(drafts)} documents: flags can change only a single one")
    return [_changed(drafts[0], found, metadata, written)]


def _changed(draft: Draft, found: Json, metadata: Json, written: dict[str, str]) -> Draft:
    """The file's document as flags change it: maps and variables are merged, everything else is replaced."""
    data = dict(draft.data)
    before: Json = data.get("metadata") or {}
    if metadata:
        labels: dict[str, str] = {**(before.get("labels") or {}), **metadata.get("labels", {})}
        data["metadata"] = {**before, **metadata, **({"labels": labels} if labels else {})}
    for name, value in found.items():
        spelled = "env" if name == "env_vars" and "env" in data else name
        data[spelled] = _merged(data.get(spelled), value)
    return Draft(draft.kind, data, draft.document, written)


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401 - any field of a spec
    if isinstance(new, dict) and isinstance(old, dict):
        return cast(Json, {**old, **new})
    if _are_variables(old) and _are_variables(new):
        variables = cast("list[Json]", [*old, *new])
        return list({variable["key"]: variable for variable in variables}.values())
    return cast(Any, new)


def _are_variables(value: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(value, list) and all(
        isinstance(each, dict) and "key" in each for each in cast("list[Any]", value)
    )


def _metadata(identity: Identity, flags: ContainerFlags) -> Json:
    labels = pairs(flags.labels or [], "--label")
    given = {"name": identity.name, "namespace": identity.namespace, "labels": labels or None}
    return {key: value for key, value in given.items() if value is not None}


def _secret(kind: Kind, identity: Identity, value: str | None, file: Path | None) -> Draft:
    """A secret from `--value`, a file, or stdin; one line feed at the end of input is not part of it."""
    from nebulous.cli.files import STDIN, read_text

    if identity.name is None:
        raise UsageError("which secret? give its NAME", "nebu create secret NAME --value VALUE")
    if value is not None and file is not None:
        raise UsageError("give --value or -f, not both")
    if value is None and file is None:
        raise UsageError(
            "a secret needs a value", "give --value VALUE, or `--value -` to read it from stdin, or -f FILE"
        )
    if value is None or value == "-":
        value = read_text(STDIN if file is None else file).removesuffix("\n")
    metadata = {"name": identity.name, "namespace": identity.namespace}
    return Draft(kind, {"kind": kind.name, "metadata": metadata, "value": value})


def _is_document(file: Path) -> bool:
    """True for a file of resources, which says so in its first words; anything else is a secret's value."""
    if not file.is_file():
        return False
    with file.open(errors="replace") as opened:
        start = opened.read(4096)
    return file.suffix in {".yaml", ".yml", ".json"} and "kind" in start and "Secret" in start
