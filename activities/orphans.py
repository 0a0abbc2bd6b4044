"""Destroying what nobody owns: late, after two proofs, never many at once, never of another install."""

from __future__ import annotations

import logging
import time

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from activities.platforms.base import Platform
from nebulous import metrics, temporal
from nebulous.errors import NebulousError
from nebulous.ids import INSTALL_WORKFLOW
from nebulous.models.platforms import Instance

log = logging.getLogger(__name__)

DESTROYED_AT_ONCE = 3
SHARE_DESTROYED_AT_ONCE = 0.1


class Orphans:
    """Suspects among the listed instances, and since when each is one, on our own monotonic clock."""

    def __init__(self, client: Client, platform: Platform, install: str, grace_s: float) -> None:
        self._client = client
        self._platform = platform
        self._install = install
        self._grace_s = grace_s
        self._meter = metrics.meter(client)
        self.suspects: dict[str, float] = {}
        self.alarm: str | None = None

    async def judge(self, mine: dict[str, Instance], owned: set[str]) -> None:
        """Look at every listed instance that no open workflow is known to own; destroy the ones proven twice."""
        now = time.monotonic()
        found = [key for key, instance in mine.items() if key not in owned and await self._ownerless(instance)]
        self.suspects = {key: self.suspects.get(key, now) for key in found}
        due = [key for key, since in self.suspects.items() if now - since >= self._grace_s]
        self.alarm = await self._why_not(len(self.suspects), len(mine)) if due else None
        where = {"account": self._platform.account}
        metrics.measure(self._meter, metrics.ORPHANS, len(self.suspects), **where)
        metrics.measure(self._meter, metrics.ALARMS, 1 if self.alarm else 0, **where)
        if self.alarm:
            log.error("orphans of %s: %s", self._platform.account, self.alarm)
            return
        for key in due:
            await self._destroy(mine[key])

    async def _ownerless(self, instance: Instance) -> bool:
        """True when the workflow in the tag is closed, unknown, another life, or does not hold the key.

        An error of describe means keep.
        """
        try:
            description = await self._client.get_workflow_handle(instance.workflow).describe(
                rpc_timeout=temporal.RPC_TIMEOUT
            )
        except RPCError as error:
            return temporal.is_not_found(error)
        if description.status != WorkflowExecutionStatus.RUNNING:
            return True
        row = await temporal.row(description)
        if row is None:  # a workflow that has not run its first task yet: not proof of anything
            return False
        return row.metadata.id != instance.life or instance.key not in row.rentals

    async def _why_not(self, suspects: int, listed: int) -> str | None:
        """Why nothing is destroyed now; None when it may be. Many suspects at once are more likely our mistake."""
        limit = max(DESTROYED_AT_ONCE, int(listed * SHARE_DESTROYED_AT_ONCE))
        if suspects > limit:
            return f"{suspects} of {listed} instances look like orphans, more than {limit} at once: destroying nothing"
        try:
            description = await self._client.get_workflow_handle(INSTALL_WORKFLOW).describe(
                rpc_timeout=temporal.RPC_TIMEOUT
            )
            known = (await description.memo()).get("install")
        except RPCError as error:
            return f"Temporal does not know this install ({error.message}): destroying nothing"
        return (
            None
            if known == self._install
            else f"Temporal holds install {known!r}, not {self._install!r}: destroying nothing"
        )

    async def _destroy(self, instance: Instance) -> None:
        log.warning("destroying orphan %s (%s), rented for %s", instance.id, instance.key, instance.workflow)
        try:
            await self._platform.delete(instance.key)
            metrics.count(self._meter, metrics.DESTROYED, account=self._platform.account)
        except NebulousError as error:
            log.warning("orphan %s: %s; trying again at the next sweep", instance.id, error)
