"""What `nebu doctor` asks of a project of Google Cloud: which permissions are missing, and what may still be rented."""

from __future__ import annotations

import json
from typing import cast

from activities.platforms.gce_api import READ_S, Clients, GceApi
from activities.platforms.gce_errors import Told, meaning
from nebulous.errors import Unavailable

#: The role of docs/clouds.md. `useReadOnly` of images is public for Google's own.
PERMISSIONS = (
    "compute.acceleratorTypes.list",
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.firewalls.create",
    "compute.firewalls.delete",
    "compute.firewalls.get",
    "compute.firewalls.list",
    "compute.firewalls.update",
    "compute.globalOperations.get",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setTags",
    "compute.machineTypes.list",
    "compute.networks.get",
    "compute.networks.updatePolicy",
    "compute.projects.get",
    "compute.regions.list",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
)


async def missing_permissions(api: GceApi) -> list[str]:
    """Those of `PERMISSIONS` that the credentials do not have on the project, in order.

    Raises:
        AuthFailed: The credentials are refused, or the Resource Manager API is off. Unavailable: no answer.
    """
    granted = await api.read(lambda clients: _granted(clients, api))
    return [each for each in PERMISSIONS if each not in granted]


def _granted(clients: Clients, api: GceApi) -> frozenset[str]:
    answer = clients.session.post(
        f"{clients.resources}/v3/projects/{clients.project}:testIamPermissions",
        json={"permissions": list(PERMISSIONS)},
        timeout=READ_S,
    )
    if answer.status_code != 200:
        raise meaning(_refusal(answer.status_code, answer.content), api.where)
    return frozenset(cast("list[str]", answer.json().get("permissions", [])))


def _refusal(status: int, content: bytes) -> Told:
    try:
        error = cast("dict[str, dict[str, object]]", json.loads(content))["error"]
        return Told((str(error.get("status", "")),), str(error.get("message", "")), status)
    except (ValueError, KeyError, TypeError):
        return Told((), f"the Resource Manager answers with {status}", status)


async def quotas(api: GceApi, regions: list[str]) -> dict[str, float]:
    """What is left of each quota on accelerators and processors, by `PLACE METRIC`.

    H100 and newer ones are not among them: Google counts those elsewhere (November 2026).
    """
    listed, project = await api.read(
        lambda clients: (
            list(clients.regions.list(request={"project": clients.project}, **clients.reads)),
            clients.projects.get(request={"project": clients.project}, **clients.reads),
        )
    )
    if not listed:
        raise Unavailable("Google lists no regions for the project")
    left = {
        f"{region.name} {quota.metric}": quota.limit - quota.usage
        for region in listed
        if not regions or region.name in regions
        for quota in region.quotas
        if _counts(quota.metric)
    }
    return left | {
        f"global {quota.metric}": quota.limit - quota.usage for quota in project.quotas if _counts(quota.metric)
    }


def _counts(metric: str) -> bool:
    return metric.endswith(("_GPUS", "CPUS", "_ALL_REGIONS", "IN_USE_ADDRESSES"))
