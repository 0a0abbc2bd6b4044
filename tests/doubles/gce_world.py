"""What there is in a Google project of the double: machines, rules, operations; and what zones have to rent."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nebulous import catalog

if TYPE_CHECKING:
    from tests.doubles.guests import Guest, Guests

ROOT = "https://www.googleapis.com/compute/v1"
Json = dict[str, Any]

#: (project, family) -> GB
IMAGES = {
    ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64"): 10,
    ("ubuntu-os-cloud", "ubuntu-2404-lts-arm64"): 10,
    ("deeplearning-platform-release", "common-cu129-ubuntu-2404-nvidia-580"): 50,
    ("deeplearning-platform-release", "common-cu129-ubuntu-2204-nvidia-580"): 50,
    ("ubuntu-os-accelerator-images", "ubuntu-accelerator-2404-amd64-with-nvidia-580"): 10,
}


def moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Work:
    """An operation, with what it does at its end."""

    json: Json
    half_at: float
    done_at: float
    finish: Callable[[], Json | None]  # its error, if it fails
    half: Callable[[], None] = lambda: None
    halfway: bool = False

    @property
    def over(self) -> bool:
        return self.json["status"] == "DONE"


@dataclass
class Refusal:
    """Why inserts in a place are refused, in their operation."""

    code: str
    message: str
    status: int = 503
    words: str = "SERVICE UNAVAILABLE"
    details: list[Json] = field(default_factory=list[Json])
    times: int = -1  # without end


def sold_out(zone: str, kind: str) -> Refusal:
    """As Google words it in 2026."""
    metadatas = {"vmType": kind, "zone": zone, "zonesAvailable": "", "attachment": ""}
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadatas}
    link = {
        "description": "Troubleshooting documentation",
        "url": "https://cloud.google.com/compute/docs/resource-error",
    }
    told = f"A {kind} VM instance is currently unavailable in the {zone} zone."
    details = [
        {"help": {"links": [link]}},
        {"localizedMessage": {"locale": "en-US", "message": told}},
        {"errorInfo": info},
    ]
    message = (
        f"The zone 'projects/p/zones/{zone}' does not have enough resources available to fulfill the request. "
        "Try a different zone, or try again later."
    )
    return Refusal("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", message, details=details)


class World:
    """The project's things; the double's lock is held by whoever calls."""

    def __init__(self, project: str, guests: Guests | None = None) -> None:
        self.project = project
        self.number = 4823749827349872
        self.guests = guests
        self.machines: dict[tuple[str, str], Json] = {}  # (zone, name)
        self.rules: dict[str, Json] = {}
        self.works: dict[str, Work] = {}
        self.requests: dict[str, Work] = {}  # by requestId
        self.running: dict[str, Guest] = {}  # by machine id
        self.ever: list[str] = []  # ids of all machines that were ever let in
        self.refusals: dict[str, Refusal] = {}  # by zone, or "*"
        self.networks: dict[str, Json] = {"default": {"autoCreateSubnetworks": True}}
        self.images = dict(IMAGES)
        self.insert_s, self.delete_s, self.op_s, self.stop_s = 0.02, 0.02, 0.01, 0.2  # how long things take
        self._counter = 0
        self.zones, self.types, self.accelerators = _inventory()

    # --- time -----------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let happen what is due."""
        for work in list(self.works.values()):
            if work.over:
                continue
            now = time.monotonic()
            if now >= work.done_at:
                self._over(work)
            elif now >= work.half_at and not work.halfway:
                work.halfway = True
                work.half()
                work.json |= {"status": "RUNNING", "progress": 50, "startTime": moment()}
        for key, machine in list(self.machines.items()):
            guest = self.running.get(machine["id"])
            if guest and not guest.alive and machine["status"] in ("RUNNING", "STOPPING"):
                machine["status"] = "TERMINATED"
            if machine.get("_gone_at", float("inf")) <= time.monotonic():
                self.remove(key)

    def _over(self, work: Work) -> None:
        error = work.finish()
        work.json |= {"status": "DONE", "progress": 100, "endTime": moment()}
        if error:
            work.json |= error

    def work(self, kind: str, scope: str, target: str, target_id: str, seconds: float, **does: Any) -> Work:
        """Begin an operation."""
        self._counter += 1
        name = f"operation-{self._counter}-{uuid.uuid4().hex[:8]}"
        link = f"{ROOT}/projects/{self.project}/{scope}"
        body: Json = {
            "kind": "compute#operation",
            "id": self._id(),
            "name": name,
            "operationType": kind,
            "targetLink": f"{link}/{target}",
            "targetId": target_id,
            "status": "PENDING",
            "user": f"nebulous@{self.project}.iam.gserviceaccount.com",
            "progress": 0,
            "insertTime": moment(),
            "selfLink": f"{link}/operations/{name}",
        }
        if scope.startswith("zones/"):
            body["zone"] = link
        now = time.monotonic()
        finish, half = does.get("finish", lambda: None), does.get("half", lambda: None)
        work = Work(body, now + seconds / 2, now + seconds, finish, half)
        self.works[name] = work
        return work

    def _id(self) -> str:
        self._counter += 1
        return str(6_000_000_000_000_000_000 + self._counter)

    # --- machines -------------------------------------------------------------------------------------

    def insert(self, zone: str, body: Json) -> Work:
        """Take in a machine: visible at once, decided by its operation."""
        key = (zone, body["name"])
        machine = self.machines[key] = self._made(zone, deepcopy(body))
        self.ever.append(machine["id"])

        def half() -> None:
            if machine["status"] == "PROVISIONING" and not self._refusal(zone):
                machine["status"] = "STAGING"

        def finish() -> Json | None:
            refusal = self._refusal(zone)
            if refusal:
                refusal.times -= 1
                self.ever.remove(machine["id"])
                self.machines.pop(key, None)
                return _error(refusal)
            if self.machines.get(key) is machine and machine["status"] in ("PROVISIONING", "STAGING"):
                self._run(machine)
            return None

        return self.work(
            "insert",
            f"zones/{zone}",
            f"instances/{body['name']}",
            machine["id"],
            self.insert_s,
            half=half,
            finish=finish,
        )

    def _refusal(self, zone: str) -> Refusal | None:
        refusal = self.refusals.get(zone) or self.refusals.get("*")
        return refusal if refusal and refusal.times else None

    def _made(self, zone: str, body: Json) -> Json:
        link = f"{ROOT}/projects/{self.project}/zones/{zone}"
        interfaces = [
            {**each, "kind": "compute#networkInterface", "name": f"nic{number}", "fingerprint": "AAAA"}
            for number, each in enumerate(body["networkInterfaces"])
        ]
        scheduling = {**body.get("scheduling", {})}
        scheduling["preemptible"] = scheduling.get("provisioningModel") == "SPOT"
        return {
            **body,
            "kind": "compute#instance",
            "id": self._id(),
            "creationTimestamp": moment(),
            "zone": link,
            "selfLink": f"{link}/instances/{body['name']}",
            "status": "PROVISIONING",
            "cpuPlatform": "Unknown CPU Platform",
            "labelFingerprint": "AAAA",
            "networkInterfaces": interfaces,
            "scheduling": scheduling,
            "startRestricted": False,
            "deletionProtection": False,
        }

    def _run(self, machine: Json) -> None:
        machine |= {"status": "RUNNING", "lastStartTimestamp": moment()}
        address = f"203.0.113.{len(self.ever) % 250 + 1}"
        if self.guests:
            script = next(each["value"] for each in machine["metadata"]["items"] if each["key"] == "startup-script")
            guest = self.running[machine["id"]] = self.guests.boot(machine["name"], script)
            address = guest.address
        interface = machine["networkInterfaces"][0]
        interface["networkIP"] = "10.128.0.2"
        for config in interface.get("accessConfigs", []):
            config |= {"kind": "compute#accessConfig", "natIP": address}

    def delete(self, zone: str, name: str) -> Work:
        machine = self.machines[zone, name]
        machine["status"] = "STOPPING"

        def finish() -> None:
            if self.machines.get((zone, name)) is machine:
                self.remove((zone, name))

        return self.work("delete", f"zones/{zone}", f"instances/{name}", machine["id"], self.delete_s, finish=finish)

    def remove(self, key: tuple[str, str]) -> None:
        machine = self.machines.pop(key)
        if guest := self.running.pop(machine["id"], None):
            guest.kill()

    def preempt(self, name: str, *, notice: bool = True) -> None:
        """Google wants a spot machine back: notice, soft-off, and it is deleted or kept as its request said."""
        zone, machine = next((zone, each) for (zone, called), each in self.machines.items() if called == name)
        assert machine["scheduling"]["provisioningModel"] == "SPOT"
        guest = self.running.get(machine["id"])
        if guest and notice:
            guest.notice("gce")
        machine["status"] = "STOPPING"
        work = self.work("compute.instances.preempted", f"zones/{zone}", f"instances/{name}", machine["id"], 0)
        work.json["user"] = "system"
        if machine["scheduling"].get("instanceTerminationAction") == "DELETE":
            machine["_gone_at"] = time.monotonic() + self.stop_s

    def console(self, machine: Json) -> str:
        guest = self.running.get(machine["id"])
        return guest.console() if guest else machine.get("_console", "")


def shown(machine: Json) -> Json:
    return {key: value for key, value in machine.items() if not key.startswith("_")}


def _error(refusal: Refusal) -> Json:
    error: Json = {"code": refusal.code, "message": refusal.message}
    if refusal.details:
        error["errorDetails"] = refusal.details
    return {
        "error": {"errors": [error]},
        "httpErrorStatusCode": refusal.status,
        "httpErrorMessage": refusal.words,
    }


def _inventory() -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """Zones; machine types and attachable accelerators by zone: two zones a region, as the catalog has them."""
    types: dict[str, list[str]] = {}
    accelerators: dict[str, list[str]] = {}
    for shapes in (*catalog.load().shapes["gce"].values(), catalog.machines("gce")):
        for shape in shapes:
            attached = re.fullmatch(r"n1\+(.+)", shape.type)
            for zone in (f"{region}-{letter}" for region in shape.regions for letter in "ab"):
                found = accelerators if attached else types
                name = attached[1] if attached else shape.type
                if name not in found.setdefault(zone, []):
                    found[zone].append(name)
    zones = sorted({*types, *accelerators})
    for zone in zones:
        types.setdefault(zone, []).extend(["e2-standard-2", "n1-standard-4", "n1-standard-8", "n1-standard-16"])
    return zones, types, accelerators
