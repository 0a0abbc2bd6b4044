"""Sweeps: level-triggered observers, one per platform account. A sweep holds no state that matters."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.pace import Pace
from activities.sweeps import SweepActivities, SweepRequest
from nebulous.ids import platform_queue
from workflows.cancels import untouched

PAUSE_AFTER_ERROR = timedelta(seconds=5)


@workflow.defn(name="PlatformSweep")
class PlatformSweepWorkflow:
    """Watches one platform account through one long activity, taken up again whenever it ends.

    A cancel means nothing to it: unwatched, nobody would see a command exit or a machine vanish.
    """

    @workflow.run
    async def run(self, account: str) -> None:
        """Observe for ever; a lost worker process or an error only means a new observer."""
        await untouched(self._observe(account))

    async def _observe(self, account: str) -> None:
        workflow.set_current_details(f"Compares what `{account}` really has with what the workflows believe.")
        while not workflow.info().is_continue_as_new_suggested():
            try:
                await workflow.execute_activity_method(
                    SweepActivities.sweep,
                    SweepRequest(account=account),
                    task_queue=platform_queue(account),
                    summary=f"watch {account}",
                    **Pace.observer().options(),
                )
            except ActivityError as error:
                workflow.logger.warning("the sweep of %s failed: %s", account, error.cause)
                await workflow.sleep(PAUSE_AFTER_ERROR, summary="after an error of the sweep")
        workflow.continue_as_new(account)
