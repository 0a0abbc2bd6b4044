"""A platform account as an entity: its memo is what its worker last reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio import workflow

from nebulous import temporal
from nebulous.ids import Address
from nebulous.models.platforms import PlatformReport
from workflows.cancels import untouched
from workflows.entity_state import Said, as_dict, stamp


@workflow.defn(name="Platform")
class PlatformWorkflow:
    """Shows one platform account: what it can do, why it cannot, when it was swept; a cancel means nothing to it."""

    @workflow.init
    def __init__(self, report: dict[str, Any]) -> None:
        self._report = PlatformReport.model_validate(report)
        self._since = stamp(workflow.now())

    @workflow.run
    async def run(self, report: dict[str, Any]) -> None:
        """Publish each report; never ends by itself."""
        await untouched(self._stay())

    async def _stay(self) -> None:
        shown: dict[str, Any] = {}
        while True:
            view = self.view()
            if view != shown:
                workflow.upsert_memo(view)
                shown = view
            self._publish_search_attributes()
            workflow.set_current_details(self._details())
            current = self._report
            await workflow.wait_condition(lambda: self._report != current or _full())  # noqa: B023
            if _full():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._report.model_dump(mode="json"), memo=self.view())

    def view(self) -> dict[str, Any]:
        """The memo, in the shape that every resource has."""
        report = self._report
        metadata = {"name": report.account, "namespace": "", "owner": "", "id": report.account}
        return {
            "metadata": metadata,
            "spec": {"kind": "Platform"},
            "status": report.model_dump(mode="json"),
            "rentals": {},
        }

    def _publish_search_attributes(self) -> None:
        report = self._report
        wanted = temporal.search_attributes(
            Address("platform", "", "", report.account),
            "",
            "disabled" if report.disabled else "ready",
            None,
            platform=report.account,
        )
        updates = temporal.changes(workflow.info().typed_search_attributes, wanted)
        if updates:
            workflow.upsert_search_attributes(updates)

    def _details(self) -> str:
        report = self._report
        lines = [
            f"## {report.platform}: {'not usable' if report.disabled else 'ready'}",
            report.disabled or report.detail,
        ]
        if report.alarm:
            lines.append(f"**Alarm**: {report.alarm}")
        lines += [f"* orphan: {orphan}" for orphan in report.orphans]
        lines.append(f"* last sweep: {report.swept_at or 'not yet'}")
        return "\n".join(lines)

    @workflow.signal(name="report", description="What the platform's worker found: only the fields that changed.")
    def on_report(self, changed: Said = None, *_: Said) -> None:
        """Take over what is said; unsaid fields stay."""
        known: Mapping[str, Any] = self._report.model_dump(mode="json")
        try:
            self._report = PlatformReport.model_validate({**known, **as_dict(changed)})
        except ValueError as error:
            workflow.logger.warning("dropped a report: %s", error)


def _full() -> bool:
    return workflow.info().is_continue_as_new_suggested()
