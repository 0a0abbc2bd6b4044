"""Activities that all kinds share."""

from __future__ import annotations

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from activities.failures import translated
from activities.heartbeat import beating
from nebulous import temporal
from nebulous.errors import NotReady
from nebulous.models.base import Record
from nebulous.models.resources import Row


class Owned(Record):
    """Whose dependants to delete."""

    owner_ref: str


class ResourceActivities:
    """Work on resources as such; runs on the queue `nebulous`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="delete_owned")
    async def delete_owned(self, request: Owned) -> int:
        """Signal `delete` to every open resource whose owner_ref is this one; succeed when none is left.

        Raises:
            ApplicationError: NotReady while some are still on their way out.
        """
        query = f"{temporal.OWNER_REF.name} = {temporal.quote(request.owner_ref)} AND ExecutionStatus = 'Running'"
        left = 0
        async with beating():
            async for execution in self._client.list_workflows(query):
                left += await self._delete(execution.id, await temporal.row(execution))
        with translated():
            if left:
                raise NotReady(f"{left} resources of {request.owner_ref!r} are being deleted", retry_after=0.5)
        return left

    async def _delete(self, workflow_id: str, row: Row | None) -> int:
        try:
            await self._client.get_workflow_handle(workflow_id).signal(
                "delete", {"id": row.metadata.id if row else None}, rpc_timeout=temporal.RPC_TIMEOUT
            )
        except RPCError as error:
            if temporal.is_not_found(error):
                return 0
            raise
        return 1
