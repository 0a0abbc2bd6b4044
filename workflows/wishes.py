"""What may be asked of a living resource: create under its name again, or apply another spec to it.

Both are updates, decided here and nowhere else (rules 2 and 9 of the engine). A bad request is refused by the
validator, so that nothing of it is in history; a handler records what is wanted, and returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from nebulous.models.base import InvalidDocument, Record, Spec, check
from nebulous.models.changes import Wanted, against, between, cannot_change, lasting, unlike
from nebulous.models.resources import LIVES_KEPT
from workflows.entity import Entity
from workflows.entity_state import EntityState, NextLife, S, Said, as_dict, number

LONGEST_LIST = 500  # characters of an event that lists changes
REUSED = "its key was used with another body already"
LATE = "no worker took it in time, and nobody waits for it any more"


class Apply(Record):
    """The argument of `apply`; plain JSON, all but `spec` defaulted."""

    spec: dict[str, Any]
    metadata: dict[str, Any] = {}  # labels, owner_ref; `id` makes a repeated request the same one
    resource_version: str | None = None  # as read; "" means that nothing was there
    replace: bool = False
    by: float | None = None  # unix seconds; a request that comes later is refused

    @property
    def life(self) -> str:
        """The id of the request, and of the life that it may begin."""
        return str(self.metadata.get("id") or "")

    @property
    def digest(self) -> str:
        """Of the body that it came with, if it came with a key."""
        return str(self.metadata.get("request") or "")

    @property
    def wanted(self) -> Wanted:
        """What is asked for, as it is compared."""
        return wanted(self.spec, self.metadata)


class Decision(Record):
    """What an `apply` means: what comes of it, or why nothing does."""

    outcome: Literal["same", "changed", "next", "conflict"]
    id: str
    message: str = ""
    stale: bool = False  # refused because the writer has not seen the latest change
    reused: bool = False  # refused because its key stands for another body
    done: bool = False  # nothing is left to do: it was done by an earlier request, or asks for what is
    changes: list[dict[str, Any]] = []


class Meant(NamedTuple):
    """Which lives a message means."""

    this: bool  # the one that there is
    coming: bool  # the one that is to follow it
    earlier: bool  # the one that there is, but said of the life before: its sender knew that another was to follow


class Resource(Entity[S]):
    """A resource that can be asked for again, and changed."""

    #: What its specs are compared by.
    model: ClassVar[type[Spec]]

    def over(self) -> bool:
        """True when a POST under this name begins a new life rather than meeting this one."""
        return self.final()

    def took(self, before: dict[str, Any]) -> None:
        """Adjust what was derived from the spec `before`: it is another now, in fields that change in place."""

    # --- create again ---------------------------------------------------------------------------------

    @workflow.update(name="create", description="Create under a name that exists: same, new, next or conflict.")
    def on_create(self, request: dict[str, Any]) -> dict[str, str]:
        """Decide what a second POST means, by rule 9 of the engine."""
        spec, metadata = as_dict(request.get("spec")), as_dict(request.get("metadata"))
        life = str(metadata.get("id") or "")
        mine, coming = self.state.metadata.id, self.state.next
        if self._reused(life, str(metadata.get("request") or "")):
            return _decided("reused", mine, REUSED)
        if life and life in self.state.lives:
            return _decided("same" if life == mine else "past", life, f"that request made {life}, which is over")
        asked = wanted(spec, metadata)
        following = str(coming.metadata.get("id")) if coming else ""
        if coming and (not coming.stopped or life == following):
            if unlike(self.model, wanted(coming.spec, coming.metadata), asked):
                return _decided("conflict", mine, "another life is about to begin under this name")
            return _decided("next", following)
        if coming or self.state.deleting or self.over():  # as a stopped one, one that would begin stopped is followed
            life = life or workflow.uuid4().hex[:12]
            self.follow_with(NextLife(spec=spec, metadata={**metadata, "id": life}))
            return _decided("new" if self.final() and not self.rentals() else "next", life)
        known = self.state.metadata
        other = unlike(self.model, Wanted(self.state.spec, known.labels, known.owner_ref), asked)
        if not other:
            return _decided("same", mine)
        return _decided("conflict", mine, f"it exists with {other} and is {self.status().get('status')}")

    @on_create.validator
    def refuse_create(self, request: dict[str, Any]) -> None:
        """Keep out of history what is no spec; a finished life must not make way for it."""
        self._require_spec(as_dict(as_dict(request).get("spec")))

    def _require_spec(self, spec: dict[str, Any]) -> None:
        try:
            check(self._stored, {name: value for name, value in spec.items() if name != "metadata"})
        except InvalidDocument as error:
            raise _refusal(str(error), "Rejected") from error

    def _reused(self, life: str, digest: str) -> bool:
        """True when a request's id is known for another body."""
        coming = self.state.next.metadata if self.state.next else {}
        known = coming.get("request") if life and life == coming.get("id") else self.state.requests.get(life)
        return bool(known and digest and known != digest)

    # --- apply ----------------------------------------------------------------------------------------

    @workflow.update(name="apply", description="Change it in place, or by a new life: same, changed or next.")
    def on_apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take what changes in place, or prepare the life that follows; `refuse_apply` has let it pass."""
        wish = Apply.model_validate(request)
        decision = self._decide(wish)
        if decision.done or decision.outcome in ("same", "conflict"):
            return decision.model_dump(mode="json")
        if decision.outcome == "changed":
            self._change(wish, decision)
        else:
            decision.id = wish.life or workflow.uuid4().hex[:12]
            self._replace(wish, decision)
        return decision.model_dump(mode="json")

    @on_apply.validator
    def refuse_apply(self, request: dict[str, Any]) -> None:
        """Keep out of history what cannot be done: malformed, late, stale, or in need of a leave to replace."""
        try:
            wish = Apply.model_validate(request)
        except ValidationError as error:
            raise _refusal(str(error), "Rejected") from error
        self._require_spec(wish.spec)
        if wish.by is not None and workflow.now().timestamp() > wish.by:
            raise _refusal(LATE, "Unavailable")
        decision = self._decide(wish)
        if decision.outcome == "conflict":
            kind = "Reused" if decision.reused else "Stale" if decision.stale else "Conflict"
            raise _refusal(decision.message, kind, decision.changes)

    def _decide(self, wish: Apply) -> Decision:
        """What the request means now; looks only, so that validator and handler agree."""
        state, mine, life = self.state, self.state.metadata.id, wish.life
        coming = str(state.next.metadata.get("id")) if state.next else ""
        if self._reused(life, wish.digest):
            return Decision(outcome="conflict", id=mine, message=REUSED, reused=True)
        if life and life in (*state.applied, coming, mine):
            return Decision(outcome="next" if life == coming else "changed", id=coming or mine, done=True)
        if life in state.lives:
            return _conflict(mine, f"that request made {life}, which is over")
        if wish.resource_version is not None and state.metadata.outdates(wish.resource_version):
            message = state.metadata.outdated(wish.resource_version)
            return Decision(outcome="conflict", id=mine, message=message, stale=True)
        if state.next and not between(self.model, wanted(state.next.spec, state.next.metadata), wish.wanted):
            return Decision(outcome="next", id=coming, done=True)
        if state.next and not wish.replace:
            return _conflict(mine, "another life is about to begin under this name")
        if state.deleting:
            return Decision(outcome="next", id=life)
        return self._compare(wish)

    def _compare(self, wish: Apply) -> Decision:
        mine, status = self.state.metadata, str(self.status().get("status"))
        before = Wanted(self.state.spec, mine.labels, mine.owner_ref)
        changes = against(self.model, status, before, wish.wanted)
        shown = [change.shown() for change in changes]
        if fields := lasting(changes):
            if wish.replace:
                return Decision(outcome="next", id=wish.life, changes=shown)
            return _conflict(mine.id, cannot_change(fields), shown)
        return Decision(outcome="changed" if changes else "same", id=mine.id, changes=shown)

    def _change(self, wish: Apply, decision: Decision) -> None:
        state, before = self.state, self.state.spec
        state.spec = wish.spec
        state.metadata.labels = wish.wanted.labels or None
        if wish.life:
            state.applied = [*state.applied, wish.life][-LIVES_KEPT:]
            self.remember(wish.life, wish.digest)
        self.record("Changed", _listed(decision.changes))
        self.took(before)
        self.publish(asked=True)

    def _replace(self, wish: Apply, decision: Decision) -> None:
        """Let the new life follow; whatever this one has rented is proven gone first."""
        metadata = {**self._metadata({}, {}), **wish.metadata, "id": decision.id, "deleted_at": None}
        self.follow_with(
            NextLife(spec=wish.spec, metadata=metadata), f": {_listed(decision.changes)}" if decision.changes else ""
        )
        self.want_deleted("Replaced", "it makes way for the next life")

    def follow_with(self, life: NextLife, why: str = "") -> None:
        """Let another life follow this one, and show readers that it was asked for."""
        self.state.next, self.state.metadata.next_id = life, str(life.metadata.get("id"))
        self.record("NextLife", f"a new life {life.metadata.get('id')} begins under this name{why}")
        self.publish(asked=True)
        life.asked_at = int(self.state.metadata.resource_version)

    # --- delete ---------------------------------------------------------------------------------------

    @workflow.signal(name="delete", description="Delete this resource; ends in proof that nothing of it is left.")
    def on_delete(self, request: Said = None, *_: Said) -> None:
        """Want gone what is meant. Idempotent."""
        meant = which(self.state, request)
        if meant.coming:
            self.drop_next()
        if meant.this or meant.earlier:
            self.want_deleted("DeleteRequested", "deletion requested")

    # --- of the life that is to follow --------------------------------------------------------------------

    def hold_next(self, stopped: bool) -> None:
        """Let the life that is to follow begin stopped, or run after all."""
        coming = self.state.next
        if coming and coming.stopped != stopped:
            coming.stopped = stopped
            if stopped:
                self.record("NextLifeStopped", "the life that is to follow begins stopped")
            else:
                self.record("NextLifeStarts", "the life that is to follow runs after all")


def which(state: EntityState, said: Said) -> Meant:
    """Say which lives a message means: those that its sender could know of (docs/adr/0012).

    It names a life by `id`, and by `version` (resource_version) what of it its sender had seen. Whoever had seen one
    life while the next was asked for already means the name: both, also when the next has begun meanwhile. Whoever
    had not means the one life. Without a version the name is meant, without an id whatever has it.
    """
    request = as_dict(said)
    coming, life = state.next, request.get("id")
    seen = number(request.get("version"))
    this = life in (None, "", state.metadata.id)
    follows = coming is not None and (
        life == coming.metadata.get("id") or (this and (seen is None or seen >= coming.asked_at))
    )
    earlier = not this and life in state.lives and seen is not None and seen >= state.asked_at > 0
    return Meant(this, follows, earlier)


def wanted(spec: dict[str, Any], metadata: dict[str, Any]) -> Wanted:
    """A spec and what goes with it, as they are compared."""
    said = {**as_dict(spec.get("metadata")), **metadata}
    return Wanted(spec, as_dict(said.get("labels")), said.get("owner_ref"))


def _listed(changes: Sequence[dict[str, Any]]) -> str:
    """The changes as an event tells them: to viewers too, so without the values of variables."""
    words = [
        str(change["field"])
        if str(change["field"]).startswith("env_vars")
        else f"{change['field']}: {_said(change['from'])} → {_said(change['to'])}"
        for change in changes
    ]
    text = "; ".join(words)
    return text if len(text) <= LONGEST_LIST else f"{text[: LONGEST_LIST - 1]}…"


def _said(value: object) -> str:
    return "none" if value is None else str(value)


def _conflict(mine: str, message: str, changes: list[dict[str, Any]] | None = None) -> Decision:
    return Decision(outcome="conflict", id=mine, message=message, changes=changes or [])


def _refusal(message: str, kind: str, *details: Any) -> ApplicationError:  # noqa: ANN401 - any JSON
    return ApplicationError(message, *details, type=kind, non_retryable=True)


def _decided(outcome: str, life: str, message: str = "") -> dict[str, str]:
    return {"outcome": outcome, "id": life, "message": message}
