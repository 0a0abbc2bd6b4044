"""Waiting for what Google Compute Engine does after its answer: an accepted request may still be refused."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from activities.platforms.doubt import maybe_rented
from activities.platforms.gce_api import GceApi
from activities.platforms.gce_errors import Where, of_operation
from activities.platforms.gce_machine import ALLOCATED
from nebulous.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

#: A full zone is mostly told within 30 s; an activity that rents has a minute.
INSERT_S = 40.0
CHANGE_S = 20.0
FIRST_LOOK_S, SLOWEST_LOOK_S, LOOK_FACTOR = 0.05, 2.0, 1.7
#: Operations that take longer are asked about by way of their machine, too.
IMPATIENT_S = 2.0


async def rented(api: GceApi, operation: Operation, name: str, where: Where) -> None:
    """Return once the insert is done, once its machine has its place, or after `INSERT_S` if nothing was decided.

    Raises:
        OutOfCapacity, QuotaExceeded, AuthFailed, Rejected: It was refused; nothing is rented.
        Unavailable: It cannot be looked at.
    """
    begun, pause = time.monotonic(), FIRST_LOOK_S
    while not _over(operation, where) and time.monotonic() - begun < INSERT_S:
        with maybe_rented(name):
            if time.monotonic() - begun > IMPATIENT_S and await _allocated(api, name, where):
                return
            await asyncio.sleep(pause)
            pause = min(pause * LOOK_FACTOR, SLOWEST_LOOK_S)
            operation = await _in_zone(api, operation.name, where.zone)


async def finished(api: GceApi, operation: Operation) -> None:
    """Return once a change of the firewall is done.

    Raises:
        NebulousError: It was refused. Unavailable: it takes longer than `CHANGE_S`.
    """
    begun, pause, name = time.monotonic(), FIRST_LOOK_S, operation.name
    while not _over(operation, api.where):
        if time.monotonic() - begun > CHANGE_S:
            raise Unavailable(f"{operation.operation_type} of {operation.target_link} takes long")
        await asyncio.sleep(pause)
        pause = min(pause * LOOK_FACTOR, SLOWEST_LOOK_S)
        operation = await api.read(
            lambda clients: clients.global_operations.get(
                request={"project": clients.project, "operation": name}, **clients.reads
            )
        )


async def _in_zone(api: GceApi, name: str, zone: str) -> Operation:
    return await api.read(
        lambda clients: clients.zone_operations.get(
            request={"project": clients.project, "zone": zone, "operation": name}, **clients.reads
        )
    )


async def _allocated(api: GceApi, name: str, where: Where) -> bool:
    try:
        machine = await api.read(
            lambda clients: clients.instances.get(
                request={"project": clients.project, "zone": where.zone, "instance": name}, **clients.reads
            )
        )
    except NotFound:
        return False
    return machine.status in ALLOCATED


def _over(operation: Operation, where: Where) -> bool:
    if operation.status.name != "DONE":
        return False
    if error := of_operation(operation, where):
        raise error
    return True


async def ended(api: GceApi, zone: str, machine_id: int) -> bool:
    """Whether a machine that is not there was deleted or taken back, rather than not seen yet."""
    request = {"zone": zone, "filter": f"targetId = {machine_id}"}
    listed = await api.read(
        lambda clients: list(
            clients.zone_operations.list(request={"project": clients.project, **request}, **clients.reads)
        )
    )
    return any(operation.operation_type != "insert" for operation in listed)


async def preempted(api: GceApi, zone: str) -> set[str]:
    """The ids of machines that Google took back in a zone lately, newest five hundred."""
    listed = await api.read(
        lambda clients: next(
            iter(
                clients.zone_operations.list(
                    request={
                        "project": clients.project,
                        "zone": zone,
                        "filter": 'operationType = "compute.instances.preempted"',
                        "order_by": "creationTimestamp desc",
                        "max_results": 500,
                    },
                    **clients.reads,
                ).pages
            )
        )
    )
    return {str(operation.target_id) for operation in listed.items}
