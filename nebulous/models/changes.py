"""What would change if a spec were applied to a resource: field by field, in place or only by a new life.

The workflow decides by this and the API shows it beforehand, so the two never disagree. Which field changes in
place is data on the models (`IN_PLACE`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic.fields import FieldInfo

from nebulous.models.base import IDENTITY, Spec
from nebulous.models.resources import Labels

HIDDEN = "***"
_LABELS = ("metadata", "labels")


@dataclass(frozen=True)
class Change:
    """One field that differs; None on a side means that it is not there."""

    path: tuple[str, ...]
    before: Any
    after: Any
    in_place: bool

    @property
    def field(self) -> str:
        """`resources.max_memory`, `env_vars.HELLO.value`, `metadata.labels.team`."""
        return ".".join(self.path)

    @property
    def name(self) -> str:
        """The field of the spec that it belongs to, as the table of fields has it."""
        return ".".join(self.path[:2]) if self.path[0] == "metadata" else self.path[0]

    def shown(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"field": self.field, "from": self.before, "to": self.after, "in_place": self.in_place}


@dataclass(frozen=True)
class Wanted:
    """A stored spec and its labels."""

    spec: Mapping[str, Any]
    labels: Labels | None = None
    owner_ref: str | None = None  # compared only where it is given


def against(model: type[Spec], status: str, before: Wanted, after: Wanted) -> list[Change]:
    """Like `between`, for a resource of this status: what is invalid has no life that could take a change."""
    found = between(model, before, after)
    return [replace(change, in_place=False) for change in found] if status == "invalid" else found


def unlike(model: type[Spec], before: Wanted, again: Wanted) -> str:
    """How a create that comes again asks for something else than what is there; "" when it does not.

    A create that says nothing of labels, or of an owner, asks for none: programs that know neither may repeat it.
    """
    labels = again.labels or before.labels
    changes = between(model, before, replace(again, labels=labels))
    if any(change.path[:2] != _LABELS for change in changes):
        return "another spec"
    return f"other labels ({', '.join(change.path[2] for change in changes)})" if changes else ""


def between(model: type[Spec], before: Wanted | None, after: Wanted) -> list[Change]:
    """Every field that differs, in the order of the model, labels first; `before` None compares with the defaults."""
    old = model.comparable(before.spec) if before else _defaults(model)
    new = model.comparable(after.spec)
    labels = (before.labels if before else None) or {}, after.labels or {}
    found = [Change(path, *pair, in_place=True) for path, *pair in _differences(_LABELS, *labels)]
    if after.owner_ref and before and after.owner_ref != before.owner_ref:
        found.append(Change(("metadata", "owner_ref"), before.owner_ref, after.owner_ref, in_place=False))
    for name in [*_fields(model), *sorted({*old, *new} - set(model.model_fields))]:
        field = model.model_fields.get(name)
        for path, was, wanted in _differences((name,), old.get(name), new.get(name)):
            hidden = _says(field, "writeOnly")
            pair = (was and HIDDEN, wanted and HIDDEN) if hidden else (was, wanted)
            found.append(Change(path, *pair, in_place=_says(field, "in_place")))
    return found


def in_place(model: type[Spec], name: str) -> bool:
    """True when a living resource takes a change of this field."""
    return _says(model.model_fields.get(name), "in_place")


def lasting(changes: Sequence[Change]) -> list[str]:
    """The fields that only a new life can change, each once."""
    return list(dict.fromkeys(change.name for change in changes if not change.in_place))


def cannot_change(fields: Sequence[str]) -> str:
    """Why an apply is refused that nobody allowed to replace."""
    return f"{', '.join(fields)} cannot change in place"


def _says(field: FieldInfo | None, word: str) -> bool:
    extra = cast("object", field.json_schema_extra) if field else None
    return isinstance(extra, dict) and cast("dict[str, object]", extra).get(word) is True


def _fields(model: type[Spec]) -> list[str]:
    return [name for name in model.model_fields if name not in IDENTITY]


def _defaults(model: type[Spec]) -> dict[str, Any]:
    fields = {name: model.model_fields[name] for name in _fields(model)}
    return {name: field.default for name, field in fields.items() if not field.is_required()}


def _differences(path: tuple[str, ...], before: object, after: object) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The smallest parts that differ; a part that is null is a part that is not there."""
    if before == after:
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        yield path, before, after
        return
    for name in {**old, **new}:
        yield from _differences((*path, name), old.get(name), new.get(name))


def _parts(value: object) -> dict[str, Any] | None:
    """A mapping as it is, a list of `{key, …}` by its keys; None for what has no named parts."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    if not isinstance(value, list) or not value:
        return None
    entries = cast("list[dict[str, Any]]", value)
    if not all(isinstance(each, dict) and isinstance(each.get("key"), str) for each in entries):  # pyright: ignore[reportUnnecessaryIsInstance] - any JSON
        return None
    keyed = {each["key"]: {name: part for name, part in each.items() if name != "key"} for each in entries}
    return keyed if len(keyed) == len(entries) else None
