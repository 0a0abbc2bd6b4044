"""What `create`, `apply` and `diff` send: documents made of flags, of files, or of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nebulous.cli import failures
from nebulous.cli.failures import UsageError
from nebulous.cli.flags import ContainerFlags, pairs
from nebulous.cli.names import kind_of
from nebulous.client import InvalidRequest, Json
from nebulous.errors import Conflict, NebulousError
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


def kind_and_name(words: list[str], name: str | None) -> tuple[Kind | None, str | None]:
    """`[KIND] [NAME]`: the first word is a kind."""
    if not words:
        return None, name
    kind = kind_of(words[0])
    if len(words) > 2:
        raise UsageError(f"one NAME is expected after {words[0]}, not {' '.join(words[1:])}")
    if len(words) == 2 and name and words[1] != name:
        raise UsageError(f"the name is {words[1]!r} and --name {name!r}: give one of them")
    return kind, words[1] if len(words) == 2 else name


def drafts_of(kind: Kind | None, identity: Identity, flags: ContainerFlags, file: Path | str | None) -> list[Draft]:
    """What a file says, as flags change it, or what flags alone say; a `str` may also be a folder or an address.

    Raises:
        UsageError: Flags and file do not go together. Rejected: The file is malformed; with line and column.
    """
    found, written = flags.document()
    metadata = _metadata(identity, flags)
    if file is None:
        if kind is None:
            advice = "such as: container --name web --image IMAGE"
            raise UsageError("which resource? give -f FILE, or a kind and flags", advice)
        return [Draft(kind, {"kind": kind.name, "metadata": metadata, **found}, overridden=written)]
    from nebulous.cli.files import called, read, read_all

    documents = read_all(file) if isinstance(file, str) else read(file)
    drafts = [Draft(document.kind, document.data, document) for document in documents]
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


def secret(kind: Kind, identity: Identity, value: str | None, file: Path | None) -> Draft:
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


def drafts_or_secret(
    kind: Kind | None, identity: Identity, flags: ContainerFlags, source: str | None, value: str | None
) -> list[Draft]:
    """What a file or flags say, or the secret of `--value`.

    Raises:
        UsageError: They do not go together.
    """
    if value is None:
        return drafts_of(kind, identity, flags, source)
    if kind is None or kind.name != "Secret" or source is not None or flags.given():
        raise UsageError("--value belongs to a secret: nebu apply secret NAME --value VALUE")
    return [secret(kind, identity, value, None)]


def explain(error: NebulousError, draft: Draft) -> int:
    """Say what is wrong with it, where that was written; return the exit code."""
    if isinstance(error, InvalidRequest):
        from nebulous.cli.files import report_problems

        return report_problems(error, draft.document, draft.overridden)
    metadata: Json = draft.data.get("metadata") or {}
    if isinstance(error, Conflict) and draft.document and "resource_version" in metadata and _is_stale(error):
        error.message = f"{draft.document.where(['metadata', 'resource_version'])}: {error.message}"
    named = str(metadata.get("name") or "").rpartition("/")[2]
    if named not in error.message:  # of many, which one?
        error.message = f"{draft}: {error.message}"
    return failures.report(error)


def _is_stale(error: Conflict) -> bool:
    """True when the version that the file gives is why it is refused."""
    return "resource_version" in f"{error.message} {error.hint}"
