"""Containers for programs that speak Temporal directly; reached as `nebulous.temporal.start_container`.

Whoever reaches Temporal is an administrator: no tenant is checked here, and nothing that the API alone knows, such
as whether a secret exists. What the model can tell is told before anything is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from nebulous import ids, temporal, waiting
from nebulous.errors import Conflict, NotFound, NotReady, Unavailable
from nebulous.ids import Address
from nebulous.models import asked
from nebulous.models.containers import FINAL, ContainerSpec, ContainerStatus, Status
from nebulous.models.resources import Metadata, MetadataRequest, Row
from nebulous.models.seen import seen
from nebulous.waiting import Until

WORKFLOW = "Container"

#: After so long without a first task it is asked whether anybody works at all.
WORKER_EXPECTED = timedelta(seconds=5)
#: A worker that waits for work asks again each minute.
POLLED_WITHIN = timedelta(seconds=75)


async def start_container(
    client: Client,
    spec: ContainerSpec | asked.Fields,
    *,
    name: str | None = None,
    namespace: str | None = None,
    organization: str | None = None,
) -> ContainerHandle:
    """Start the workflow of a container, which needs no worker to be alive; return its handle.

    Args:
        client: Made by `nebulous.temporal.connect`.
        spec: A specification, or the same as in a file.
        name: Default the specification's, else two words made up.
        namespace: Default the specification's, else `default`.
        organization: Default the specification's owner, else `local`.

    Raises:
        InvalidRequest: The specification or a name is wrong; nothing was started.
        Conflict: A container of this name exists, running or finished.
        Unavailable: Temporal does not answer.
    """
    where = {"name": name, "namespace": namespace, "owner": organization}
    wanted = asked.container_spec(spec, {key: value for key, value in where.items() if value is not None})
    metadata = wanted.metadata or MetadataRequest()
    address = _address(metadata.name or ids.two_words(), metadata.namespace, metadata.owner)
    document = asked.document(wanted)
    kept = {key: value for key, value in document.pop("metadata", {}).items() if key in ("labels", "owner_ref")}
    spelled = {"name": address.name, "namespace": address.namespace, "owner": address.organization}
    with _translated(address):
        await client.start_workflow(
            WORKFLOW,
            {"spec": document, "metadata": {**kept, **spelled}},
            id=str(address),
            task_queue=ids.TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            static_summary=f"{wanted.image or 'command'} {document.get('command') or ''}"[:180].strip(),
            rpc_timeout=temporal.RPC_TIMEOUT,
        )
    return ContainerHandle(client, address)


def get_container(
    client: Client, name: str, *, namespace: str | None = None, organization: str | None = None
) -> ContainerHandle:
    """The handle of a container that may exist; nothing is asked yet."""
    return ContainerHandle(client, _address(name, namespace, organization))


@dataclass(frozen=True)
class ContainerHandle:
    """One container, by the workflow that lives it."""

    client: Client
    address: Address

    @property
    def workflow(self) -> WorkflowHandle[Any, Any]:
        """Temporal's own handle, for everything that is not here."""
        return self.client.get_workflow_handle(str(self.address))

    async def metadata(self) -> Metadata | None:
        """Its metadata; None until a worker has looked at it.

        Raises:
            NotFound: It does not exist (any more).
        """
        row = await self._row()
        return row.metadata if row else None

    async def status(self) -> ContainerStatus:
        """Its status; `defined` until a worker has looked at it.

        Raises:
            NotFound: It does not exist (any more).
        """
        row = await self._row()
        return seen(ContainerStatus, row.status) if row else _UNSEEN

    async def wait(self, until: Until = "finished", *, limit: timedelta | None = None) -> ContainerStatus:
        """Wait until it has a status and return it then; `finished` is any end, good or bad.

        Raises:
            Ended: It has ended otherwise, so it can no longer come to that.
            NotReady: It is not there yet after `limit`.
            Unavailable: There is no worker.
            NotFound: It was deleted.
        """
        waiting.check_until(until)
        begun, pause, worked = monotonic(), waiting.FIRST_PAUSE, False
        while True:
            row = await self._row()
            status = seen(ContainerStatus, row.status) if row else _UNSEEN
            if waiting.reached(until, status, self._called):
                return status
            if limit is not None and monotonic() - begun > limit.total_seconds():
                raise NotReady(f"{self._called} is {waiting.described(status)}, and not {until} after {limit}")
            if not worked and row is None and monotonic() - begun > WORKER_EXPECTED.total_seconds():
                worked = await self._check_worker()
            await asyncio.sleep(pause)
            pause = min(pause * waiting.GROWTH, waiting.LONGEST_PAUSE)

    async def stop(self) -> None:
        """Ask for the end of its command and of its machine; remembered even with no worker alive."""
        await self._signal("stop")

    async def start(self) -> None:
        """Ask for another run of one that has ended; return once it has left its end, or after some seconds."""
        ended = await self.status()
        await self._signal("start")
        begun = monotonic()
        while ended.status in FINAL and monotonic() - begun < waiting.LEAVES_WITHIN.total_seconds():
            now = await self.status()
            if now.status not in FINAL or now.attempt != ended.attempt:
                return
            await asyncio.sleep(waiting.FIRST_PAUSE)

    async def restart(self) -> None:
        """Ask for the end of its command and another start on the same machine."""
        await self._signal("restart")

    async def delete(self, *, wait: bool = False, limit: timedelta | None = None) -> None:
        """Ask for its end, and with `wait` return once it is proven that nothing is left of it.

        Raises:
            NotReady: It is not gone yet after `limit`; the deletion goes on.
        """
        await self._signal("delete")
        begun, pause = monotonic(), waiting.FIRST_PAUSE
        while wait and await self._open():
            if limit is not None and monotonic() - begun > limit.total_seconds():
                raise NotReady(f"{self._called} is not gone yet after {limit}", "its deletion goes on")
            await asyncio.sleep(pause)
            pause = min(pause * waiting.GROWTH, waiting.LONGEST_PAUSE)

    @property
    def _called(self) -> str:
        return f"container/{self.address.name}"

    async def _row(self) -> Row | None:
        with _translated(self.address):
            described = await self.workflow.describe(rpc_timeout=temporal.RPC_TIMEOUT)
        if described.close_time is not None:
            raise NotFound(f"{self._called} does not exist any more")
        return await temporal.row(described)

    async def _open(self) -> bool:
        try:
            await self._row()
        except NotFound:
            return False
        return True

    async def _signal(self, name: str) -> None:
        with _translated(self.address):
            await self.workflow.signal(name, {}, rpc_timeout=temporal.RPC_TIMEOUT)

    async def _check_worker(self) -> bool:
        """True when somebody polls for the tasks of containers.

        Raises:
            Unavailable: Nobody does.
        """
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TaskQueue(name=ids.TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        with _translated(self.address):
            answer = await self.client.workflow_service.describe_task_queue(request, timeout=temporal.RPC_TIMEOUT)
        now = datetime.now(UTC)
        if not any(now - each.last_access_time.ToDatetime(UTC) < POLLED_WITHIN for each in answer.pollers):
            raise Unavailable(
                f"{self._called} was started, and no worker is there to run it",
                "start one: `nebu worker`, or `nebu serve` for everything; nothing is lost meanwhile",
            )
        return True


_UNSEEN = ContainerStatus(
    status=Status.DEFINED, reason="NotReadYet", message="no worker has looked at it yet", attempt=0
)


def _address(name: str, namespace: str | None, organization: str | None) -> Address:
    where = MetadataRequest.model_construct(name=name, namespace=namespace, owner=organization)
    checked = asked.checked(MetadataRequest, {key: value for key, value in where if value is not None})
    return Address(
        "container",
        checked.owner or ids.LOCAL_ORGANIZATION,
        checked.namespace or ids.DEFAULT_NAMESPACE,
        checked.name or name,
    )


@contextmanager
def _translated(address: Address) -> Generator[None]:
    """What Temporal's client raises, as our errors."""
    what = f"container/{address.name}"
    try:
        yield
    except WorkflowAlreadyStartedError as error:
        raise Conflict(
            f"{what} exists already in namespace {address.namespace!r} of {address.organization!r}",
            "delete it first, also if it has finished, or give another name",
        ) from error
    except RPCError as error:
        if temporal.is_not_found(error):
            raise NotFound(f"{what} does not exist in namespace {address.namespace!r}") from error
        raise Unavailable(f"Temporal does not answer ({error.status.name}: {error.message})") from error
    except RuntimeError as error:  # a lazy client that cannot connect says so with this, and nothing finer
        raise Unavailable(f"Temporal does not answer: {error}", "start `nebu serve`, or check the address") from error
