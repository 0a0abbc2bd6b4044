"""`nebu apply`: make what exists what files say; in place where that is possible, by a new life after asking."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.drafts import Identity, drafts_or_secret, explain, kind_and_name
from nebulous.cli.failures import UsageError
from nebulous.cli.flags import ContainerFlags, spread
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.plans import Plan, plan_all, show, tell_nothing
from nebulous.cli.screen import confirm, emit, interactive, note
from nebulous.client import Created, Json
from nebulous.errors import NebulousError, Unauthenticated, Unavailable

_DONE = {"new": "created", "same": "unchanged", "changed": "changed", "next": "replaced"}


@dataclass(frozen=True)
class How:
    """What may be done, and what is to follow."""

    source: str | None
    replace: bool
    dry_run: bool
    wait: bool


@spread
def command(
    flags: ContainerFlags,
    words: options.KindAndName = None,
    name: options.Name = None,
    namespace: options.Namespace = None,
    source: options.Source = None,
    value: options.Value = None,
    replace: Annotated[bool, typer.Option("--replace", help="Begin a new life where nothing less will do.")] = False,
    yes: options.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what begins, as `create --wait` does.")] = False,
    owner: options.Owner = None,
) -> int:
    """Create what is not there, change in place what can change, and begin a new life of the rest after asking."""
    kind, named = kind_and_name(words or [], name)
    lookup = connect().within(namespace, owner)
    identity = Identity(named, namespace, owner)
    drafts = drafts_or_secret(kind, identity, flags, source, value)
    plans, code = plan_all(lookup, drafts)
    if code:
        if len(drafts) > 1:
            note("nothing was changed")
        return code
    if dry_run:
        show(plans, sys.stdout)
        if all(plan.outcome == "same" for plan in plans):
            tell_nothing(plans)
        return 0
    how = How(source, replace or yes, dry_run, wait)
    _consent(plans, how)
    return _apply_all(lookup, plans, how)


def _consent(plans: list[Plan], how: How) -> None:
    """Ask before a life is ended.

    Raises:
        UsageError: Nobody is there to ask; with what to type. NebulousError: The answer was no.
    """
    ending = [plan for plan in plans if plan.replaces]
    if not ending or how.replace:
        return
    show(plans, sys.stderr)
    why = "; ".join(f"{plan} needs a new life: {', '.join(plan.lasting)} cannot change in place" for plan in ending)
    if not interactive():
        typed = f"nebu apply -f {how.source} --replace" if how.source else "the same with --replace"
        raise UsageError(why, f"nothing was changed; to stop what runs and begin anew, type: {typed}")
    what = str(ending[0]) if len(ending) == 1 else f"{len(ending)} of them"
    if not confirm(f"stop {what} and begin a new life?"):
        raise NebulousError("nothing was changed: a new life was not confirmed", "nebu diff shows what differs")


def _apply_all(lookup: Lookup, plans: list[Plan], how: How) -> int:
    """Apply one after the other; a line for each."""
    code = 0
    begun: list[tuple[Plan, Created]] = []
    for position, plan in enumerate(plans):
        try:
            made = _one(lookup, plan, how)
        except NebulousError as error:
            known = explain(error, plan.draft)
            code = code or (known if len(plans) == 1 else failures.FAILED)
            missed = plans[position:] if isinstance(error, (Unavailable, Unauthenticated)) else [plan]
            for each in missed if len(plans) > 1 else []:
                note(f"{each} not applied")
            if len(missed) > 1:
                return known
        else:
            if made and made.outcome in ("new", "next"):
                begun.append((plan, made))
    return code or (_wait(lookup, begun) if how.wait else 0)


def _one(lookup: Lookup, plan: Plan, how: How) -> Created | None:
    """Apply what was planned, unless the resource changed since."""
    if plan.outcome == "same":
        emit(f"{plan} {_DONE['same']}")
        return None
    metadata: Json = {"resource_version": plan.version, **(plan.draft.data.get("metadata") or {})}
    made = lookup.api.apply(plan.place, {**plan.draft.data, "metadata": metadata}, replace=how.replace or plan.replaces)
    emit(f"{plan} {_DONE.get(made.outcome, made.outcome)}")
    return made


def _wait(lookup: Lookup, begun: list[tuple[Plan, Created]]) -> int:
    """Wait for each container that began, as `create --wait` does; the first failure's exit code."""
    from nebulous.cli.progress import detachable, until_gone
    from nebulous.cli.wait import FINISHED, wait

    code = 0
    for plan, made in begun:
        if plan.draft.kind.name != "Container":
            continue
        if made.outcome == "next":
            with detachable(f"it goes on; look with: nebu get {plan.draft.kind.plural}") as progress:
                until_gone(lookup.api, plan.place, plan.life, progress)
        usual = "running" if made.resource.get("restart") == "Always" else FINISHED
        place = lookup.place_of(plan.draft.kind, made.resource)
        code = wait(lookup, place, made.resource["metadata"]["id"], usual) or code
    return code
