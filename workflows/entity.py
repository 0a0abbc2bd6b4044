"""What every resource's workflow is made of: identity, intent, memo, events, lives, continue-as-new.

A kind subclasses `Resource` (`wishes.py`: what may be asked of a living one), gives it a state and a table of
phases; see `secrets.py` for the smallest. Handlers record intent and return; only the phases act on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import FailureError

from activities.failures import Failure
from activities.pace import Pace
from activities.resources import Owned, ResourceActivities
from nebulous import metrics, temporal
from nebulous.ids import Address
from nebulous.models.base import InvalidDocument, Record, check
from nebulous.models.resources import EVENTS_KEPT, LIVES_KEPT, Event, Metadata

NEWEST_BUILD = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
CASCADE_ROUND, CASCADE_PAUSE = timedelta(minutes=10), timedelta(seconds=30)


class NextLife(Record):
    """What begins under the same name once this life is over."""

    spec: dict[str, Any]
    metadata: dict[str, Any]
    asked_at: int = 0  # the resource_version that shows readers that it was asked for


class EntityState(Record):
    """All that survives continue-as-new; a kind adds its own fields, each with a default."""

    spec: dict[str, Any] = {}
    metadata: Metadata
    install: str = ""
    phase: str = "begin"
    deleting: bool = False
    next: NextLife | None = None
    lives: list[str] = []
    asked_at: int = 0  # the resource_version of the life before, since which this one was asked for
    applied: list[str] = []  # requests that changed this life in place
    requests: dict[str, str] = {}  # of each of these lives and changes that came with a key, the digest of the body
    events: list[Event] = []


S = TypeVar("S", bound=EntityState)
R = TypeVar("R")

Step = Callable[[], Awaitable[str]]


class Entity(Generic[S]):
    """A resource: one long-lived workflow whose state is the resource."""

    state: S
    _status_since: datetime | None = None  # unknown after continue-as-new

    # --- what a kind says of itself -------------------------------------------------------------------

    def steps(self) -> Mapping[str, Step]:
        """The phase table: each step acts, then names the next phase; an unknown name ends the workflow."""
        raise TypeError("a kind has a phase table")

    def status(self) -> dict[str, Any]:
        """`status` as readers see it, at most 1 kB."""
        raise TypeError("a kind has a status")

    def shown_spec(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A spec as readers see it."""
        return spec

    def rentals(self) -> dict[str, Any]:
        """What is or may be rented, by key; the sweep reads it."""
        return {}

    def account(self) -> str:
        """The platform account that this resource is at, for the search attribute."""
        return ""

    def details(self) -> str:
        """What a person reads in the Temporal UI, in Markdown."""
        return ""

    def final(self) -> bool:
        """True when nothing more happens by itself: a new life may begin under the name."""
        return False

    # --- start ----------------------------------------------------------------------------------------

    def load(self, raw: Mapping[str, Any], state: type[S], spec: type[BaseModel]) -> str | None:
        """Fill `self.state` from a loose start argument; return what is wrong with it, or None.

        Rule 10 of the engine: an argument that could not be decoded would leave a run RUNNING for ever without a
        memo, so anything is taken, and what does not fit becomes a resource that says so.
        """
        self._published: dict[str, Any] = {}
        self._stored = spec
        problem = None
        given = dict(raw)
        try:
            if not self.address.organization:
                raise ValueError(f"workflow id must be {self.address.kind}/ORGANIZATION/NAMESPACE/NAME")
            given["spec"] = as_dict(given.get("spec"))
            given["metadata"] = self._metadata(as_dict(given.get("metadata")), given["spec"])
            if "phase" not in given:  # what went through continue-as-new was checked when it was young
                check(spec, {key: value for key, value in given["spec"].items() if key != "metadata"})
            self.state = state.model_validate(given)
        except (InvalidDocument, ValidationError, ValueError, TypeError, AttributeError) as error:
            problem = str(error)
            self.state = self._salvage(given, state)
        if self.state.metadata.id not in self.state.lives:
            self.state.lives = [*self.state.lives, self.state.metadata.id][-LIVES_KEPT:]
        self.remember(self.state.metadata.id, self.state.metadata.request)
        return problem

    def remember(self, request: str, digest: str) -> None:
        """Keep what a request asked for, as long as its id is known."""
        known = {**self.state.requests, **({request: digest} if digest else {})}
        self.state.requests = {key: known[key] for key in known if key in (*self.state.lives, *self.state.applied)}

    def _salvage(self, given: dict[str, Any], state: type[S]) -> S:
        """Keep every field that can be read, above all what is rented; what cannot gets its default."""
        kept = {**given, "spec": as_dict(given.get("spec"))}
        kept["metadata"] = self._metadata(
            {key: value for key, value in as_dict(given.get("metadata")).items() if key in ("id", "created_at")}, {}
        )
        while True:
            try:
                return state.model_validate(kept)
            except ValidationError as error:
                wrong = {str(detail["loc"][0]) for detail in error.errors()}
                if "metadata" in wrong:
                    kept["metadata"] = self._metadata({}, {})
                kept = {key: value for key, value in kept.items() if key not in wrong - {"metadata"}}

    def _metadata(self, given: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the metadata: the workflow id says where, the rest has defaults."""
        inner = as_dict(spec.get("metadata"))
        address = self.address
        now = int(workflow.now().timestamp())
        where = {"name": address.name, "namespace": address.namespace, "owner": address.organization}
        spelled = {key: given[key] for key, said in where.items() if str(given.get(key)).lower() == said.lower()}
        return {
            "id": workflow.uuid4().hex[:12],
            "created_at": now,
            "updated_at": now,
            **{key: inner[key] for key in ("labels", "owner_ref") if inner.get(key)},
            **given,
            **where,  # the workflow id decides; the metadata may only spell it
            **spelled,
        }

    # --- main loop ------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Step from phase to phase until one ends the workflow; a cancel from outside means delete.

        The steps run in a task of their own, which a cancel of the workflow does not reach: no activity is ever
        cut off between acting and being recorded (research: half of all cancels get lost otherwise).
        """
        main = asyncio.create_task(self._loop())
        while True:
            try:
                return await asyncio.shield(main)
            except asyncio.CancelledError:
                if main.done():  # evicted from the cache, not cancelled
                    raise
                self.want_deleted("Cancelled", "cancelled through Temporal: this means delete")

    async def _loop(self) -> None:
        while step := self.steps().get(self.state.phase):
            self.state.phase = await step()  # whatever waits publishes first, so nothing is published twice in one task
            await self.continue_when_suggested()
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self.state.next:
            self._begin_next_life(self.state.next)

    async def close(self) -> str:
        """The last phase: delete what belongs to this resource; then the name is free."""
        gone = await self.act(
            ResourceActivities.delete_owned,
            Owned(owner_ref=str(self.address)),
            Pace.quick(CASCADE_ROUND),
            summary="delete what belongs to it",
        )
        if isinstance(gone, Failure):
            self.record("StillOwning", f"{gone}; trying again, for ever", warning=True)
            await self.wait(lambda: False, workflow.now() + CASCADE_PAUSE, summary="before the next round")
            return "close"
        return "closed"

    # --- acting and waiting ---------------------------------------------------------------------------

    async def act(
        self,
        activity: Callable[[Any, Any], Awaitable[R]],
        request: BaseModel,
        pace: Pace,
        *,
        summary: str,
        queue: str | None = None,
        local: bool = False,
    ) -> R | Failure:
        """Do one thing in the world and wait for it; its failure is a value, for the caller to decide on."""
        self.publish()
        try:
            if local:
                return await workflow.execute_local_activity_method(
                    activity, request, summary=summary, **pace.local_options()
                )
            return await workflow.execute_activity_method(
                activity, request, task_queue=queue, summary=summary, **self._options(pace)
            )
        except FailureError as error:
            return Failure.of(error)

    async def race(
        self,
        activity: Callable[[Any, Any], Awaitable[R]],
        request: BaseModel,
        pace: Pace,
        *,
        summary: str,
        queue: str,
        until: Callable[[], bool],
    ) -> R | Failure | None:
        """Like `act`, but let go of it when `until` becomes true, or to continue as new (None).

        Only for what is harmless to repeat and to abandon.
        """
        self.publish()
        handle = workflow.start_activity_method(
            activity, request, task_queue=queue, summary=summary, **self._options(pace)
        )
        await self.wait(lambda: handle.done() or until())
        if not handle.done():
            handle.add_done_callback(_look_away)
            handle.cancel()
            return None
        try:
            return await handle
        except FailureError as error:
            return Failure.of(error)

    @staticmethod
    def _options(pace: Pace) -> dict[str, Any]:
        return {
            **pace.options(),
            "priority": Priority(priority_key=pace.priority),
            "cancellation_type": workflow.ActivityCancellationType.TRY_CANCEL,
        }

    async def wait(self, condition: Callable[[], bool], deadline: datetime | None = None, *, summary: str = "") -> bool:
        """Wait for the condition, the deadline, or a suggestion to continue as new; true when the condition holds."""
        if condition():
            return True  # a status that nobody could have seen is not worth an update
        self.publish()
        timeout = max(timedelta(0), deadline - workflow.now()) if deadline else None
        try:
            await workflow.wait_condition(
                lambda: condition() or self._full(), timeout=timeout, timeout_summary=summary or None
            )
        except TimeoutError:
            return condition()
        return condition()

    @staticmethod
    def _full() -> bool:
        info = workflow.info()  # a new build is a reason too: a pinned run would stay on the old one
        return info.is_continue_as_new_suggested() or info.is_target_worker_deployment_version_changed()

    async def continue_when_suggested(self) -> None:
        """Start over with a short history; the only place that may, because the memo must go along (rule 1)."""
        if self._full():
            await workflow.wait_condition(workflow.all_handlers_finished)
            workflow.continue_as_new(
                self.state.model_dump(mode="json"), memo=self.view(), initial_versioning_behavior=NEWEST_BUILD
            )

    def _begin_next_life(self, life: NextLife) -> None:
        now = int(workflow.now().timestamp())
        version = str(int(self.state.metadata.resource_version) + 1)  # counting goes on: what was read is outdated
        metadata = {**life.metadata, "created_at": now, "updated_at": now}
        metadata |= {"resource_version": version, "spec_version": version}
        fresh = {"spec": life.spec, "metadata": metadata, "install": self.state.install}
        fresh |= {"lives": self.state.lives, "requests": self.state.requests, "asked_at": life.asked_at}
        shown = self.shown_spec(life.spec)
        memo = {"metadata": metadata, "spec": shown, "status": {"status": "defined"}, "rentals": {}}
        workflow.continue_as_new(fresh, memo=memo, initial_versioning_behavior=NEWEST_BUILD)

    # --- being read -----------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Where this resource lives; a workflow started under another kind of id belongs to no organization."""
        kind, workflow_id = workflow.info().workflow_type.lower(), workflow.info().workflow_id
        try:
            parsed = Address.parse(workflow_id)
        except ValueError:
            return Address(kind, "", "", workflow_id)
        return parsed if parsed.kind == kind else Address(kind, "", "", workflow_id)

    def view(self) -> dict[str, Any]:
        """The memo: all that `describe()` and lists show."""
        return {
            "metadata": self.state.metadata.model_dump(mode="json"),
            "spec": self.shown_spec(self.state.spec),
            "status": self.status(),
            "rentals": self.rentals(),
        }

    def publish(self, asked: bool = False) -> None:
        """Bring memo, search attributes and details up to date; `asked` outdates what was read: the wish changed."""
        if not self._published:
            self._published = dict(workflow.memo())
        view = self.view()
        changed = {key: value for key, value in view.items() if self._published.get(key) != value}
        if changed or asked:
            metadata = self.state.metadata
            metadata.resource_version = str(int(metadata.resource_version) + 1)
            metadata.spec_version = metadata.resource_version if asked else metadata.spec_version
            metadata.updated_at = int(workflow.now().timestamp())
            changed["metadata"] = metadata.model_dump(mode="json")
            workflow.upsert_memo(changed)
            if "status" in changed:
                self._measure(as_dict(self._published.get("status")), changed["status"])
            self._published |= changed
        self._publish_search_attributes(bool(changed))
        workflow.set_current_details(self.details())

    def _measure(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Count the status that is reached, and time the one that is left; a replay does neither again."""
        word, left, kind = str(now.get("status")), str(before.get("status")), self.address.kind
        if word == left and now.get("reason") == before.get("reason"):
            return
        meter, platform = workflow.metric_meter(), str(now.get("platform") or "")
        reason = str(now.get("reason") or "")
        metrics.count(meter, metrics.TRANSITIONS, kind=kind, status=word, reason=reason, platform=platform)
        if word != left:
            if self._status_since:
                took = (workflow.now() - self._status_since).total_seconds()
                where = platform or str(before.get("platform") or "")
                metrics.measure(meter, metrics.PHASES, took, kind=kind, status=left, platform=where)
            self._status_since = workflow.now()

    def _publish_search_attributes(self, changed: bool) -> None:
        """Bring what it is found by up to date; watchers find by NebuChangedAt that anything at all has changed."""
        metadata = self.state.metadata
        wanted = temporal.search_attributes(
            self.address,
            metadata.id,
            str(self.status().get("status", "")),
            metadata.labels,
            platform=self.account(),
            queue=str(self.state.spec.get("queue") or ""),
            owner_ref=(metadata.owner_ref or "").lower(),
        )
        updates = temporal.changes(workflow.info().typed_search_attributes, wanted)
        if updates or changed:
            workflow.upsert_search_attributes([*updates, temporal.CHANGED_AT.value_set(workflow.now())])

    def record(self, reason: str, message: str, warning: bool = False) -> None:
        """Add an event; the last 50 are kept."""
        event = Event(at=stamp(workflow.now()), reason=reason, message=message, type="Warning" if warning else "Normal")
        self.state.events = [*self.state.events, event][-EVENTS_KEPT:]

    # --- messages -------------------------------------------------------------------------------------

    def want_deleted(self, reason: str, message: str) -> None:
        """Note that it is to end, and why."""
        if not self.state.deleting:
            self.state.deleting = True
            self.state.metadata.deleted_at = int(workflow.now().timestamp())
            self.record(reason, message)
            self.publish(asked=True)

    def addressed(self, request: Mapping[str, Any]) -> bool:
        """True when a message means this life: it names its id, or none."""
        return request.get("id") in (None, "", self.state.metadata.id)

    @workflow.query(name="history", description="The last events, oldest first.")
    def on_history(self) -> dict[str, Any]:
        """Events, and whatever else a kind keeps too much of for the memo."""
        return {"events": [event.model_dump(mode="json") for event in self.state.events]}


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str | None) -> datetime | None:
    """Read a stamp back."""
    return datetime.fromisoformat(text) if text else None


def _look_away(handle: asyncio.Task[Any]) -> None:
    """Take note of how an abandoned activity ended, so that asyncio does not complain that nobody did."""
    if not handle.cancelled():
        handle.exception()


def as_dict(value: object) -> dict[str, Any]:
    """A mapping as a dict of its own; anything else as an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
