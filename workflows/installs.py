"""The install: one workflow that holds this installation's id, so that tags can say whose a machine is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

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

    @workflow.signal(dynamic=True)
    def on_anything(self, name: str, _: Sequence[RawValue]) -> None:
        """Take no notice. Without a handler a signal wakes nobody who could see that the history has grown long."""
        workflow.logger.info("the install was sent %r, which means nothing to it", name)
