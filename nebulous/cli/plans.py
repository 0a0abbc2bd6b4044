"""What applying documents would change: asked of the API for all before anything is done, and shown field by field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from nebulous.cli import failures
from nebulous.cli.drafts import Draft, explain
from nebulous.cli.failures import UsageError
from nebulous.cli.lookup import Lookup
from nebulous.cli.screen import note, paint
from nebulous.client import Json, Place
from nebulous.contexts import DEFAULT_NAMESPACE
from nebulous.errors import NebulousError, Unauthenticated, Unavailable

_COLORS = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(frozen=True)
class Plan:
    """One document, and what applying it would come to."""

    draft: Draft
    place: Place
    outcome: str  # new, same, changed, next
    changes: list[Json]
    version: str  # of what was read; "" for what was not there

    def __str__(self) -> str:
        inside = self.place.namespace not in (None, DEFAULT_NAMESPACE)
        return f"{self.draft.kind.id}/{self.place.name}" + (f" in {self.place.namespace}" if inside else "")

    @property
    def lasting(self) -> list[str]:
        """The fields that only a new life can change."""
        return [change["field"] for change in self.changes if not change["in_place"]]

    @property
    def replaces(self) -> bool:
        """True when a life that goes on would be ended for it; one that is being deleted ends anyway."""
        return self.outcome == "next" and bool(self.lasting)

    @property
    def life(self) -> str:
        """The id of the life that was read."""
        return self.version.rpartition(".")[0]


def plan_all(lookup: Lookup, drafts: list[Draft]) -> tuple[list[Plan], int]:
    """Ask what each would come to; the exit code says whether one of them cannot be applied, and why is printed.

    Raises:
        Unavailable, Unauthenticated: The rest would fare no better.
    """
    plans: list[Plan] = []
    code = 0
    places = [place_of(lookup, draft) for draft in drafts]
    for draft, place in zip(drafts, places, strict=True):
        coming = [f"{each.draft.kind.id}/{each.place.namespace}/{each.place.name}" for each in plans]
        try:
            answer = lookup.api.plan(place, draft.data, assume=coming)
        except (Unavailable, Unauthenticated):
            raise
        except NebulousError as error:
            code = code or explain(error, draft)
        else:
            plans.append(Plan(draft, place, answer["outcome"], answer["changes"], answer["resource_version"]))
    return plans, code


def place_of(lookup: Lookup, draft: Draft) -> Place:
    """Where the document's resource is.

    Raises:
        UsageError: It has no name.
    """
    metadata: Json = draft.data.get("metadata") or {}
    name = metadata.get("name") if isinstance(metadata, dict) else None  # pyright: ignore[reportUnnecessaryIsInstance] - what a file says
    if not isinstance(name, str) or not name:
        where = draft.document.where() if draft.document else draft.kind.id
        raise UsageError(f"{where}: metadata.name is missing: nothing says what to compare with", "give it a name")
    namespace = metadata.get("namespace")
    inside = namespace if isinstance(namespace, str) and namespace not in ("", "-") else lookup.default_namespace
    return Place(draft.kind.plural, name.rpartition("/")[2], inside, lookup.owner or lookup.context.organization)


def lines(plan: Plan, stream: TextIO) -> Iterator[str]:
    """The plan for people: a headline, then `+`, `-` and `~` lines; nothing when nothing would change."""
    if plan.outcome == "same":
        return
    yield paint(f"{plan} {_headline(plan)}", "bold", stream)
    for change in plan.changes:
        yield _line(change, plan.replaces, stream)


def show(plans: list[Plan], stream: TextIO) -> None:
    """Print what would change."""
    for plan in plans:
        for line in lines(plan, stream):
            print(line, file=stream, flush=True)


def tell_nothing(plans: list[Plan]) -> None:
    """Say that there is no difference, where a person reads it."""
    count = len(plans)
    note("no differences" if count == 1 else f"no differences in {count} resources")


def trouble(code: int) -> int:
    """The exit code of a comparison that could not be made: 1 means that there are differences."""
    return failures.USAGE if code == failures.FAILED else code


def _headline(plan: Plan) -> str:
    if plan.outcome == "new":
        return "is new"
    if plan.replaces:
        return "needs a new life"
    return "changes in place" if plan.outcome == "changed" else "begins anew once it is deleted"


def _line(change: Json, replaces: bool, stream: TextIO) -> str:
    old, new = change["from"], change["to"]
    if old is None:
        sign, what = "+", _value(new)
    elif new is None:
        sign, what = "-", _value(old)
    else:
        sign, what = "~", f"{_value(old)} -> {_value(new)}"
    mark = "  (new life)" if replaces and not change["in_place"] else ""
    return paint(f"  {sign} {change['field']}: {what}{mark}", _COLORS[sign], stream)


def _value(value: Any) -> str:  # noqa: ANN401 - any field of a spec
    """A value on one line, such that nothing in it can move the cursor."""
    if isinstance(value, str) and value and value.isprintable() and value == value.strip():
        return value
    return json.dumps(_given(value), ensure_ascii=True)


def _given(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, dict):
        return {name: _given(part) for name, part in value.items() if part is not None}  # pyright: ignore[reportUnknownVariableType]
    return [_given(part) for part in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]
