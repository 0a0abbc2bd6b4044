"""The methods of Compute Engine that the double serves, with the refusals that the real one has for bad requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.doubles.gce_world import ROOT, Json, shown

if TYPE_CHECKING:
    from tests.doubles.gce import Gce

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CUSTOM = re.compile(r"custom-(\d+)-(\d+)")

PERMISSIONS = {
    "acceleratorTypes.aggregatedList": "compute.acceleratorTypes.list",
    "firewalls.delete": "compute.firewalls.delete",
    "firewalls.insert": "compute.firewalls.create",
    "firewalls.list": "compute.firewalls.list",
    "firewalls.patch": "compute.firewalls.update",
    "globalOperations.get": "compute.globalOperations.get",
    "instances.aggregatedList": "compute.instances.list",
    "instances.delete": "compute.instances.delete",
    "instances.get": "compute.instances.get",
    "instances.getSerialPortOutput": "compute.instances.getSerialPortOutput",
    "instances.insert": "compute.instances.create",
    "machineTypes.aggregatedList": "compute.machineTypes.list",
    "networks.get": "compute.networks.get",
    "projects.get": "compute.projects.get",
    "regions.list": "compute.regions.list",
    "zoneOperations.get": "compute.zoneOperations.get",
    "zoneOperations.list": "compute.zoneOperations.list",
}


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def missing(path: str) -> Refused:
    return Refused(404, "notFound", f"The resource '{path}' was not found")


def invalid(message: str) -> Refused:
    return Refused(400, "invalid", message)


# --- machines -----------------------------------------------------------------------------------------


def insert(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    world, zone = cloud.world, where["zone"]
    request = query.get("requestId", "")
    if request and not UUID.fullmatch(request):
        raise invalid(f"Invalid value for field 'requestId': '{request}'")
    if before := world.requests.get(request):
        return before.json
    check(cloud, zone, body)
    if (zone, body["name"]) in world.machines:
        link = f"projects/{world.project}/zones/{zone}/instances/{body['name']}"
        raise Refused(409, "alreadyExists", f"The resource '{link}' already exists")
    work = world.insert(zone, body)
    if request:
        world.requests[request] = work
    return work.json


def check(cloud: Gce, zone: str, body: Json) -> None:
    """What the real one refuses at once."""
    world = cloud.world
    if not NAME.fullmatch(body.get("name", "")):
        raise invalid(f"Invalid value for field 'resource.name': '{body.get('name')}'. Must be a match of regex")
    if zone not in world.zones:
        raise Refused(403, "forbidden", f"Location {zone} is not found or access is unauthorized.")
    kind = body["machineType"].rpartition("/")[2]
    if kind not in world.types[zone] and not CUSTOM.fullmatch(kind):
        raise missing(f"projects/{world.project}/zones/{zone}/machineTypes/{kind}")
    for key, value in body.get("labels", {}).items():
        if not LABEL.fullmatch(value):
            raise invalid(f"Invalid value for field 'resource.labels': '{key}={value}'.")
    if sum(len(each["value"]) for each in body["metadata"]["items"]) > 512 * 1024:
        raise invalid("Metadata size exceeds the limit")
    if any(not NAME.fullmatch(tag) for tag in body.get("tags", {}).get("items", [])):
        raise invalid("Invalid value for field 'resource.tags.items'")
    _check_disk(cloud, body["disks"][0]["initializeParams"])
    _check_network(cloud, body["networkInterfaces"][0])
    _check_gpus(cloud, zone, kind, body)


def _check_disk(cloud: Gce, disk: Json) -> None:
    match = re.fullmatch(r"projects/([^/]+)/global/images/family/(.+)", disk["sourceImage"])
    size = cloud.world.images.get((match[1], match[2])) if match else None
    if size is None:
        raise missing(disk["sourceImage"])
    if int(disk["diskSizeGb"]) < size:
        raise invalid(f"Requested disk size cannot be smaller than the image size ({size} GB)")


def _check_network(cloud: Gce, interface: Json) -> None:
    network = cloud.world.networks.get(interface["network"].rpartition("/")[2])
    if network is None:
        raise missing(interface["network"])
    if not network.get("autoCreateSubnetworks") and "subnetwork" not in interface:
        raise invalid("Subnetwork must be specified when the network is a custom subnet mode network")


def _check_gpus(cloud: Gce, zone: str, kind: str, body: Json) -> None:
    scheduling, attached = body.get("scheduling", {}), body.get("guestAccelerators", [])
    n1 = kind.startswith(("n1-", "custom-"))
    if attached and not n1:
        raise invalid("[n1-standard] are the machine types that accelerators are attached to")
    for each in attached:
        if each["acceleratorType"].rpartition("/")[2] not in cloud.world.accelerators.get(zone, []):
            raise missing(each["acceleratorType"])
    brings = kind.startswith(("a2-", "a3-", "a4-", "g2-", "g4-"))
    if (attached or brings) and scheduling.get("onHostMaintenance") != "TERMINATE":
        raise invalid("Instances with guest accelerators do not support live migration.")
    if scheduling.get("provisioningModel") == "SPOT" and scheduling.get("automaticRestart", True):
        raise invalid("Automatic restart must be disabled for spot instances.")
    if "maxRunDuration" in scheduling and "instanceTerminationAction" not in scheduling:
        raise invalid("You must specify an instance termination action.")


def get(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    machine = _visible(cloud, where)
    return shown(machine)


def _visible(cloud: Gce, where: Json) -> Json:
    machine = cloud.world.machines.get((where["zone"], where["instance"]))
    if machine is None or _hidden(cloud, machine):
        raise missing(f"projects/{where['project']}/zones/{where['zone']}/instances/{where['instance']}")
    return machine


def _hidden(cloud: Gce, machine: Json) -> bool:
    cloud.looks[machine["id"]] = looks = cloud.looks.get(machine["id"], 0) + 1
    return looks <= cloud.hidden_looks


def delete(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    key = (where["zone"], where["instance"])
    if key not in cloud.world.machines:
        raise missing(f"projects/{where['project']}/zones/{key[0]}/instances/{key[1]}")
    return cloud.world.delete(*key).json


def listing(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    ours = sorted(
        (zone, name)
        for (zone, name), machine in cloud.world.machines.items()
        if matches(machine, query.get("filter", "")) and zone not in cloud.silent_zones and not _hidden(cloud, machine)
    )
    page, token = _page(cloud, ours, query)
    scopes: Json = {f"zones/{zone}": _nothing(f"zones/{zone}") for zone in cloud.world.zones}
    for zone, name in page:
        scope = scopes[f"zones/{zone}"]
        scope.pop("warning", None)
        scope.setdefault("instances", []).append(shown(cloud.world.machines[zone, name]))
    for zone in cloud.silent_zones:
        data = [{"key": "scope", "value": f"zones/{zone}"}]
        warning = {"code": "UNREACHABLE", "message": f"The zone {zone} cannot be reached.", "data": data}
        scopes[f"zones/{zone}"] = {"warning": warning}
    silent = [f"projects/{where['project']}/zones/{zone}" for zone in sorted(cloud.silent_zones)]
    more = {"unreachables": silent} if silent else {}
    return {"kind": "compute#instanceAggregatedList", "id": "list", "items": scopes, **token, **more}


def serial(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    machine = _visible(cloud, where)
    contents = cloud.world.console(machine)
    return {
        "kind": "compute#serialPortOutput",
        "contents": contents,
        "start": "0",
        "next": str(len(contents)),
        "selfLink": f"{machine['selfLink']}/serialPort",
    }


# --- lists --------------------------------------------------------------------------------------------


def matches(thing: Json, condition: str) -> bool:
    """Google's filters, as far as they are used: alternatives of one comparison each."""
    if not condition:
        return True
    return any(_holds(thing, each.strip().strip("()")) for each in condition.split(" OR "))


def _holds(thing: Json, comparison: str) -> bool:
    parsed = re.fullmatch(r'([\w.-]+?)\s*(:\*|=| eq )\s*"?([^"]*)"?', comparison)
    assert parsed, f"a filter that the double does not know: {comparison}"
    field, operator, value = parsed[1], parsed[2].strip(), parsed[3].strip()
    found: Any = thing
    for part in field.split(".", 1):
        found = (found or {}).get(part)
    if operator == ":*":
        return found is not None
    return re.fullmatch(value, found or "") is not None if operator == "eq" else found == value


def _page(cloud: Gce, items: list[Any], query: Json) -> tuple[list[Any], Json]:
    begin, size = int(query.get("pageToken", 0)), min(int(query.get("maxResults", 500)), cloud.page)
    token = {"nextPageToken": str(begin + size)} if begin + size < len(items) else {}
    return items[begin : begin + size], token


def _nothing(scope: str) -> Json:
    message = f"There are no results for scope '{scope}' on this page."
    return {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": message, "data": [{"key": "scope", "value": scope}]}}


def machine_types(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    return _kinds(cloud, query, cloud.world.types, "machineTypes", "compute#machineType")


def accelerator_types(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    return _kinds(cloud, query, cloud.world.accelerators, "acceleratorTypes", "compute#acceleratorType")


def _kinds(cloud: Gce, query: Json, kinds: dict[str, list[str]], word: str, kind: str) -> Json:
    every = [(zone, name) for zone in cloud.world.zones for name in kinds.get(zone, [])]
    chosen = [(zone, name) for zone, name in every if matches({"name": name}, query.get("filter", ""))]
    page, token = _page(cloud, chosen, query)
    scopes: Json = {f"zones/{zone}": _nothing(f"zones/{zone}") for zone in cloud.world.zones}
    project = f"{ROOT}/projects/{cloud.world.project}"
    for zone, name in page:
        scope = scopes[f"zones/{zone}"]
        scope.pop("warning", None)
        of = zone if word == "machineTypes" else f"{project}/zones/{zone}"
        scope.setdefault(word, []).append({"kind": kind, "name": name, "zone": of})
    return {"kind": f"{kind}AggregatedList", "items": scopes, **token}


def regions(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    names = sorted({zone.rpartition("-")[0] for zone in cloud.world.zones})
    items = [{"kind": "compute#region", "name": name, "status": "UP", "quotas": cloud.quotas} for name in names]
    return {"kind": "compute#regionList", "items": items}


def image(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    size = cloud.world.images.get((where["project"], where["family"]))
    if size is None:
        raise missing(f"projects/{where['project']}/global/images/family/{where['family']}")
    return {
        "kind": "compute#image",
        "name": f"{where['family']}-v20261101",
        "family": where["family"],
        "diskSizeGb": str(size),
    }


def network(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    found = cloud.world.networks.get(where["network"])
    if found is None:
        raise missing(f"projects/{where['project']}/global/networks/{where['network']}")
    return {"kind": "compute#network", "name": where["network"], **found}


def project(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    if where["project"] != cloud.world.project:
        raise missing(f"projects/{where['project']}")
    quotas = [
        {"metric": "GPUS_ALL_REGIONS", "limit": 4.0, "usage": 0.0},
        {"metric": "NETWORKS", "limit": 5.0, "usage": 1.0},
    ]
    return {"kind": "compute#project", "id": str(cloud.world.number), "name": where["project"], "quotas": quotas}


def zone_operation(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    work = cloud.world.works.get(where["operation"])
    if work is None:
        raise missing(f"projects/{where['project']}/operations/{where['operation']}")
    return work.json


def zone_operations(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    mine = [
        work.json
        for work in reversed(cloud.world.works.values())
        if work.json.get("zone", "").endswith(f"/{where['zone']}") and matches(work.json, query.get("filter", ""))
    ]
    page, token = _page(cloud, mine, query)
    return {"kind": "compute#operationList", "items": page, **token}


# --- firewall -----------------------------------------------------------------------------------------


def rules(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    chosen = [rule for rule in cloud.world.rules.values() if matches(rule, query.get("filter", ""))]
    page, token = _page(cloud, chosen, query)
    return {"kind": "compute#firewallList", "items": page, **token}


def make_rule(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    if body["name"] in cloud.world.rules:
        raise Refused(409, "alreadyExists", f"The resource 'projects/p/global/firewalls/{body['name']}' already exists")
    if not NAME.fullmatch(body["name"]):
        raise invalid("Invalid value for field 'resource.name'")
    rule = {"kind": "compute#firewall", "id": "77", "creationTimestamp": "2026-11-24T10:00:00.000-08:00", **body}
    cloud.world.rules[body["name"]] = rule
    return cloud.world.work("insert", "global", f"firewalls/{body['name']}", "77", cloud.world.op_s).json


def change_rule(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    _rule(cloud, where).update(body)
    return cloud.world.work("patch", "global", f"firewalls/{where['firewall']}", "77", cloud.world.op_s).json


def remove_rule(cloud: Gce, where: Json, query: Json, body: Json) -> Json:
    _rule(cloud, where)
    del cloud.world.rules[where["firewall"]]
    return cloud.world.work("delete", "global", f"firewalls/{where['firewall']}", "77", cloud.world.op_s).json


def _rule(cloud: Gce, where: Json) -> Json:
    rule = cloud.world.rules.get(where["firewall"])
    if rule is None:
        raise missing(f"projects/{where['project']}/global/firewalls/{where['firewall']}")
    return rule


METHODS: dict[str, Callable[[Gce, Json, Json, Json], Json]] = {
    "acceleratorTypes.aggregatedList": accelerator_types,
    "firewalls.delete": remove_rule,
    "firewalls.insert": make_rule,
    "firewalls.list": rules,
    "firewalls.patch": change_rule,
    "globalOperations.get": zone_operation,
    "images.getFromFamily": image,
    "instances.aggregatedList": listing,
    "instances.delete": delete,
    "instances.get": get,
    "instances.getSerialPortOutput": serial,
    "instances.insert": insert,
    "machineTypes.aggregatedList": machine_types,
    "networks.get": network,
    "projects.get": project,
    "regions.list": regions,
    "zoneOperations.get": zone_operation,
    "zoneOperations.list": zone_operations,
}
