"""How a resource is read: its memo for `describe()` and lists, search attributes, details, events, measures.

The phases say when something is shown; a kind says what, by `status` and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic

from temporalio import workflow

from nebulous import metrics, temporal
from nebulous.ids import Address
from nebulous.models.resources import EVENTS_KEPT, Event
from workflows.entity_state import S, as_dict, stamp


class Shown(Generic[S]):
    """A resource as readers see it."""

    state: S
    _published: dict[str, Any]  # the memo as it is; empty until it was looked at
    _status_since: datetime | None = None  # unknown after continue-as-new

    # --- what a kind says of itself -------------------------------------------------------------------

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
        changed = {key: value for key, value in view.items() if _said(self._published.get(key)) != _said(value)}
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

    @workflow.query(name="history", description="The last events, oldest first.")
    def on_history(self) -> dict[str, Any]:
        """Events, and whatever else a kind keeps too much of for the memo."""
        return {"events": [event.model_dump(mode="json") for event in self.state.events]}


def _said(shown: object) -> object:
    """What a part of the memo says: a null is as good as nothing, or a field that is new would change what replays.

    A part that is not there at all says less than an empty one, which readers need.
    """
    return None if shown is None else {key: value for key, value in as_dict(shown).items() if value is not None}
