"""The install: one workflow that holds this installation's id, so that tags can say whose a machine is."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

from workflows.cancels import untouched


@workflow.defn(name="Install")
class InstallWorkflow:
    """Holds the install id in its memo, for ever; started once, by whichever worker process comes first.

    A cancel means nothing to it. Without it a worker that starts would have another id, and what is rented no owner.
    """

    @workflow.run
    async def run(self, install: str) -> None:
        """Stay."""
        await untouched(self._stay(install))

    async def _stay(self, install: str) -> None:
        while True:
            workflow.set_current_details(f"Install id `{install}`; every rented thing carries it as a tag.")
            await workflow.wait_condition(lambda: workflow.info().is_continue_as_new_suggested())
            memo: dict[str, Any] = dict(workflow.memo())
            workflow.continue_as_new(install, memo=memo)
