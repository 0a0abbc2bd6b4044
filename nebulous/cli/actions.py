"""What `stop`, `start`, `restart` and `delete` share: choosing many, asking first, and saying what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nebulous.cli import failures
from nebulous.cli.containers import FINAL
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import Target, select
from nebulous.cli.screen import confirm, emit, interactive, note
from nebulous.client import Json, Place
from nebulous.errors import NebulousError, NotFound, Unauthenticated, Unavailable
from nebulous.models.kinds import Kind


@dataclass(frozen=True)
class Chosen:
    """One resource to act on, and how it was called."""

    target: Target
    place: Place
    listed: bool  # found by --all or -l, not named

    def __str__(self) -> str:
        return str(self.target)


@dataclass(frozen=True)
class Choice:
    """Which of them, as the command line says."""

    names: list[str]
    labels: list[str]
    everything: bool
    sure: bool


def choose(verb: str, choice: Choice, lookup: Lookup, concerns: Callable[[Json], bool]) -> list[Chosen]:
    """The resources named, or found by label, or all of them after asking.

    Raises:
        UsageError: Nothing was chosen, too much was, or nobody is there to confirm `--all`.
    """
    selection = select(choice.names)
    if selection.targets and (choice.everything or choice.labels):
        raise failures.UsageError("give names, or -l, or --all: not both")
    if selection.targets:
        return [Chosen(target, lookup.place(target), listed=False) for target in selection.targets]
    if not choice.everything and not choice.labels:
        selection.only()
    kind = selection.kind
    rows = [row for row in lookup.rows(kind, choice.labels or None) if concerns(row)]
    if choice.everything and rows and not choice.sure:
        _ask(verb, kind, len(rows), lookup)
    if not rows:
        note(f"no {kind.plural} to {verb}{labelled(choice.labels)}")
    if choice.everything and kind.plural == "containers" and verb in ("stop", "delete"):
        _mention_others(verb, kind, lookup)
    return [Chosen(Target(kind, row["metadata"]["name"]), lookup.place_of(kind, row), listed=True) for row in rows]


def act(verb: str, doing: str, choice: Choice, namespace: str | None, owner: str | None) -> int:
    """Ask the API for `stop`, `start` or `restart` of each; return the exit code."""
    lookup = connect().within(namespace, owner)
    chosen = choose(verb, choice, lookup, _finished if verb == "start" else _lives)
    _require(verb, chosen)

    def one(each: Chosen) -> None:
        asked = lookup.api.ask(each.place, verb)
        emit(f"{each} {already(verb, asked.resource) if asked.unchanged else doing}")

    return each_of(chosen, lookup, one)


def already(verb: str, row: Json) -> str:
    """What is so already, for a verb without effect."""
    status = str(row["status"]["status"])
    if row["metadata"].get("deleted_at"):
        return "is being deleted"
    if verb == "stop":
        return f"is {status} already" if status in ("stopped", "stopping") else f"has ended already: {status}"
    return "runs already" if status == "running" else f"is on its way already: {status}"


def each_of(chosen: Iterable[Chosen], lookup: Lookup, action: Callable[[Chosen], None]) -> int:
    """Do it to each, whatever becomes of the others; the first failure's exit code, or 0.

    Raises:
        Unavailable, Unauthenticated: The rest would fare no better.
    """
    code = 0
    for each in chosen:
        try:
            action(each)
        except (Unavailable, Unauthenticated):
            raise
        except NotFound as error:
            if each.listed:  # it went away meanwhile
                continue
            failed = failures.report(lookup.missing(each.target) if not lookup.namespace else error)
            code = code or failed
        except NebulousError as error:
            failed = failures.report(error)
            code = code or failed
    return code


def _finished(row: Json) -> bool:
    return row["status"]["status"] in FINAL and row["status"]["status"] != "invalid"  # which can never run


def _lives(row: Json) -> bool:
    """True for what costs something: also a failed one whose machine is kept, and one that is to be followed."""
    status = row["status"]
    conditions: list[Json] = status.get("conditions") or []
    kept = any(each.get("reason") == "KeptOnFailure" for each in conditions)
    return status["status"] not in FINAL or kept or bool(row["metadata"].get("next_id"))


def labelled(labels: list[str] | None) -> str:
    """` with label team=a, tier=b`, for messages."""
    return f" with label{'s' if len(labels) > 1 else ''} {', '.join(labels)}" if labels else ""


def _require(verb: str, chosen: list[Chosen]) -> None:
    for each in chosen:
        if verb not in each.target.kind.verbs:
            raise failures.UsageError(f"a {each.target.kind.id} cannot be asked to {verb}")


def _mention_others(verb: str, kind: Kind, lookup: Lookup) -> None:
    """Tell the server's admin what is rented in organizations that `--all` does not reach."""
    try:
        running: list[Json] = lookup.api.read("/v1/doctor")["running"]
        whose = lookup.organization() or str(lookup.api.read("/v1/users/me")["organization"])
    except NebulousError:  # not the admin's: others' machines are not theirs to know of
        return
    counts = Counter(str(rental["owner"]) for rental in running)
    for owner, count in sorted(counts.items()):
        if owner.lower() != whose.lower():
            what = "1 machine is" if count == 1 else f"{count} machines are"
            note(f"note: {what} rented in organization {owner}: nebu {verb} {kind.plural} --all --owner {owner}")


def _ask(verb: str, kind: Kind, count: int, lookup: Lookup) -> None:
    where = f"namespace {lookup.namespace}" if lookup.namespace else "all namespaces"
    whose = lookup.organization() or "your organization"
    what = f"{count} {kind.plural if count > 1 else kind.id} in {where} of {whose}"
    if not interactive():
        raise failures.UsageError(f"--all would {verb} {what}", "confirm it with --yes")
    if not confirm(f"{verb} {what}?"):
        raise NebulousError(f"nothing was done: {verb} was not confirmed")
