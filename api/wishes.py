"""Asking a living resource to take another spec; what that means is decided by its workflow.

The neighbour `store.py` creates and reads. Nothing here waits for an effect beyond the decision.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NoReturn

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from api.keys import Reused
from api.problems import NO_WORKER, NeedsNewLife, translated
from api.store import (
    READ_AGAIN,
    TRIES,
    Found,
    New,
    Store,
    announced,
    check_version,
    closed_meanwhile,
    made_by,
    named,
    wanted,
)
from nebulous.errors import Conflict, NebulousError, NotFound, Rejected, Unavailable
from nebulous.models.base import Spec
from nebulous.models.changes import Change, against, between, cannot_change, lasting
from nebulous.models.resources import Row

Outcome = Literal["new", "same", "changed", "next"]
#: An update waits in Temporal for a worker, unseen; a request that was answered 503 must not be done much later.
VALID_FOR = timedelta(seconds=60)
DROPPED = f"{NO_WORKER}; what no worker takes within {VALID_FOR.total_seconds():.0f} s is dropped, not done later"
HOW_TO_REPLACE = (
    "`nebu apply --replace` (PUT with ?replace=true) begins a new life with it, once this one is proven gone"
)


class Stale(Conflict):
    """Somebody else's change came first."""

    @property
    def type(self) -> str:
        """For the wire this is a conflict like any other."""
        return "Conflict"


@dataclass(frozen=True)
class Wish:
    """Another spec for a resource, and on which conditions."""

    new: New  # as it would be created
    model: type[Spec]
    version: str | None = None  # refuse if it changed since; "" if it exists, "*" if it does not
    replace: bool = False

    @property
    def seen(self) -> str | None:
        """The version that a living resource is compared with."""
        return None if self.version == "*" else self.version


@dataclass(frozen=True)
class Came:
    """What came of it, or would."""

    row: Row
    outcome: Outcome
    changes: list[Change] = field(default_factory=list[Change])


async def apply(store: Store, wish: Wish) -> Came:
    """Create it, change it in place, or let a new life follow.

    Raises:
        NeedsNewLife: It cannot change in place, and replacing was not allowed. Stale: it changed since. Conflict:
        it is gone, or another life is about to begin. Unavailable: Temporal or the worker does not answer.
    """
    new = wish.new
    for _ in range(TRIES):
        found = await store.look(new.address)
        if found and found.row.metadata.id == new.metadata.id:
            return Came(made_by(new, found.row), "new")  # what it made, whatever became of it
        if found and found.open:
            if came := await _meet(store, found, wish):
                return came
        elif await _begin(store, wish, ended=found is not None):
            return Came(new.row, "new")
    raise Conflict(f"{named(new.address)} is being changed by others all the time", "try again")


async def foresee(store: Store, wish: Wish) -> Came:
    """What `apply` would come to with leave to replace; nothing is asked or changed, and no worker is needed.

    Raises:
        Conflict: As `apply` would.
    """
    found = await store.look(wish.new.address)
    if found is None or not found.open:
        _require_absence(wish, ended=found is not None)
        return Came(wish.new.row, "new", between(wish.model, None, wanted(wish.new.row)))
    check_version(found.row, wish.seen)
    changes = differences(wish, found.row)
    if found.row.metadata.deleted_at is not None or lasting(changes):
        return Came(found.row, "next", changes)
    return Came(found.row, "changed" if changes else "same", changes)


def require_in_place(wish: Wish, came: Came) -> Came:
    """What was foreseen, unless that is a new life.

    Raises:
        NeedsNewLife: As `apply` does without leave to replace.
    """
    if fields := lasting(came.changes):
        shown = [change.shown() for change in came.changes]
        raise NeedsNewLife(f"{named(wish.new.address)}: {cannot_change(fields)}", HOW_TO_REPLACE, shown)
    return came


def differences(wish: Wish, row: Row) -> list[Change]:
    """What the wish would change of a resource."""
    return against(wish.model, str(row.status.get("status")), wanted(row), wanted(wish.new.row))


def _require_absence(wish: Wish, ended: bool) -> None:
    if wish.version:
        message = f"{named(wish.new.address)} does not exist{' any more' if ended else ''}"
        raise Conflict(message, "leave out resource_version and If-Match to create it")


async def _begin(store: Store, wish: Wish, ended: bool) -> bool:
    _require_absence(wish, ended)
    return await store.start(wish.new)


async def _meet(store: Store, found: Found, wish: Wish) -> Came | None:
    """What it means while something has the name; None when that closed meanwhile."""
    new = wish.new
    fresh = wish.seen is None or not found.row.metadata.outdates(wish.seen)
    if fresh and found.settled(new.steady) and not differences(wish, found.row):
        return Came(found.row, "same")
    decision = await _ask(store, wish)
    if decision is None:
        return None
    store.lists.wrote(new.address.organization)
    outcome: Outcome = decision["outcome"]
    if outcome == "next":
        return Came(announced(new, str(decision["id"])), "next")
    now = await store.look(new.address)
    return Came(now.row if now else found.row, outcome)


async def _ask(store: Store, wish: Wish) -> dict[str, Any] | None:
    new = wish.new
    request = {
        "spec": new.spec,
        "metadata": new.metadata.model_dump(),
        "resource_version": wish.seen,
        "replace": wish.replace,
        "by": time.time() + VALID_FOR.total_seconds(),
    }
    try:
        return await _update(store, wish, request)
    except NotFound:
        return None
    except Unavailable as error:
        if closed_meanwhile(error.__cause__):
            return None
        raise Unavailable(error.message, DROPPED if error.hint == NO_WORKER else error.hint) from error


async def _update(store: Store, wish: Wish, request: dict[str, Any]) -> dict[str, Any]:
    with translated(named(wish.new.address)):
        try:
            return await store.update(wish.new.address, "apply", request)
        except WorkflowUpdateFailedError as error:
            if isinstance(error.cause, ApplicationError) and not closed_meanwhile(error):
                _raise(wish.new, error.cause)
            raise


def _raise(new: New, refusal: ApplicationError) -> NoReturn:
    """Raise what the workflow refused as an error of ours."""
    what = named(new.address)
    if refusal.type == "Reused":
        raise Reused(new.key, what)
    known: dict[str, type[NebulousError]] = {"Conflict": Conflict, "Stale": Stale, "Rejected": Rejected}
    changes: Sequence[Any] = refusal.details[0] if refusal.details else []
    message = f"{what}: {refusal.message}"
    if refusal.type == "Conflict" and changes:
        raise NeedsNewLife(message, HOW_TO_REPLACE, list(changes))
    kind = known.get(str(refusal.type))
    if kind is None:
        raise Unavailable(message, "try again")
    raise kind(message, READ_AGAIN if kind is Stale else None)
