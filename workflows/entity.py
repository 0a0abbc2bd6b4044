"""What every resource's workflow is made of: its start, its phases, acting and waiting, lives, continue-as-new.

How it is read is in `showing.py`, what it knows in `entity_state.py`, what may be asked of a living one in `wishes.py`.
A kind subclasses `Resource` of that, and gives it a state and a table of phases; see `secrets.py` for the smallest.
Handlers record intent and return; only the phases act on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.common import Priority
from temporalio.exceptions import FailureError

from activities.failures import Failure
from activities.pace import Pace
from activities.resources import Owned, ResourceActivities
from nebulous.models.base import InvalidDocument, check
from nebulous.models.resources import LIVES_KEPT
from workflows.cancels import untouched
from workflows.entity_state import NextLife, S, as_dict, number
from workflows.showing import Shown

NEWEST_BUILD = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
CASCADE_ROUND, CASCADE_PAUSE = timedelta(minutes=10), timedelta(seconds=30)

R = TypeVar("R")
Step = Callable[[], Awaitable[str]]


class Entity(Shown[S]):
    """A resource: one long-lived workflow whose state is the resource."""

    # --- what a kind says of itself -------------------------------------------------------------------

    def steps(self) -> Mapping[str, Step]:
        """The phase table: each step acts, then names the next phase; an unknown name ends the workflow."""
        raise TypeError("a kind has a phase table")

    def final(self) -> bool:
        """True when nothing more happens by itself: a new life may begin under the name."""
        return False

    # --- start ----------------------------------------------------------------------------------------

    def load(self, raw: Mapping[str, Any], state: type[S], spec: type[BaseModel]) -> str | None:
        """Fill `self.state` from a loose start argument; return what is wrong with it, or None.

        Rule 10 of the engine: an argument that could not be decoded would leave a run RUNNING for ever without a
        memo, so anything is taken, and what does not fit becomes a resource that says so.
        """
        self._published = {}
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
            **_readable(given),
            **where,  # the workflow id decides; the metadata may only spell it
            **spelled,
        }

    # --- main loop ------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Step from phase to phase until one ends the workflow; a cancel from outside means delete."""
        await untouched(self._loop(), self._cancelled)

    def _cancelled(self) -> None:
        self.drop_next()
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
        metadata = {**life.metadata, "created_at": now, "updated_at": now, "next_id": None}
        metadata |= {"resource_version": version, "spec_version": version}
        fresh = {"spec": life.spec, "metadata": metadata, "install": self.state.install}
        fresh |= {"lives": self.state.lives, "requests": self.state.requests, "asked_at": life.asked_at}
        fresh |= {"wanted": "stop"} if life.stopped else {}
        shown = self.shown_spec(life.spec)
        memo = {"metadata": metadata, "spec": shown, "status": {"status": "defined"}, "rentals": {}}
        workflow.continue_as_new(fresh, memo=memo, initial_versioning_behavior=NEWEST_BUILD)

    # --- messages -------------------------------------------------------------------------------------

    def drop_next(self) -> None:
        """Note that no other life is to follow."""
        if self.state.next:
            self.state.next = self.state.metadata.next_id = None
            self.record("NextLifeDropped", "the life that was to follow is not wanted any more")
            self.publish(asked=True)

    def want_deleted(self, reason: str, message: str) -> None:
        """Note that it is to end, and why."""
        if not self.state.deleting:
            self.state.deleting = True
            self.state.metadata.deleted_at = int(workflow.now().timestamp())
            self.record(reason, message)
            self.publish(asked=True)


def _readable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without an id and versions that are none: what is rented is named by the one, the others are counted."""
    counted = {each for each in ("resource_version", "spec_version") if number(metadata.get(each)) is None}
    return {key: value for key, value in metadata.items() if key not in counted and (key != "id" or value)}


def _look_away(handle: asyncio.Task[Any]) -> None:
    """Take note of how an abandoned activity ended, so that asyncio does not complain that nobody did."""
    if not handle.cancelled():
        handle.exception()
