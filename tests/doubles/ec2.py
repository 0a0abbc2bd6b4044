"""Amazon EC2, as moto pretends it, with what moto lacks and what goes wrong with the real one.

A WSGI application stands before moto's: client tokens are idempotent by zone, new machines are invisible, pending and
shutting down for as many descriptions as a test says, zones are sold out, the spot market takes machines back, and any
call can fail before its effect or lose its answer after it. With `Guests` every instance is a real machine that runs
its user data, and whose address is the instance's.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1,301 images, one to three seconds for each region

import boto3
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.doubles import ec2_wire as wire
from tests.doubles.ec2_wire import Answer, Request

if TYPE_CHECKING:
    from tests.doubles.guests import Guest, Guests

PARAMETER = "resolve:ssm:"
SUPPORTED = re.compile(
    r"instance-id|instance-state-name|tag:.*|tag-key|vpc-id|group-name|instance-type|default-for-az|name|state"
)
REASONS = {
    "spot": ("Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Instance terminated on reclaim"),
    "user": ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"),
    "self": ("Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: Instance initiated shutdown"),
}

#: What a strike does to a call: refuse it before its effect, lose the request, or lose the answer after its effect.
BEFORE, CUT, LOST = "before", "cut", "lost"


@dataclass
class Fault:
    """An error for the next calls of an operation."""

    operation: str
    code: str  # LOST and CUT are answers that never come
    message: str = ""
    status: int = 400
    times: int = 1
    region: str = ""

    def hits(self, request: Request) -> bool:
        return self.times > 0 and request.operation == self.operation and self.region in ("", request.region)


@dataclass
class World:
    """What a test sets and looks at."""

    regions: dict[str, bool] = field(default_factory=lambda: {"us-east-1": True, "us-west-2": True, "eu-west-1": True})
    images: dict[str, int] = field(default_factory=dict[str, int])  # GiB, by the Systems Manager name or id
    named: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])  # images: id, name, made
    capacity: dict[str, int] = field(default_factory=dict[str, int])  # by zone, or "zone type"
    spot: dict[tuple[str, str], list[tuple[float, datetime]]] = field(
        default_factory=dict[tuple[str, str], list[tuple[float, datetime]]]
    )  # by type and zone
    listed: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])  # by type and region
    quotas: dict[str, float] = field(default_factory=dict[str, float])  # by code
    denied: set[str] = field(default_factory=set[str])  # "ec2:RunInstances": may not be done
    closed: set[str] = field(default_factory=set[str])  # regions that do not take the credential
    revoked: bool = False
    invisible: int = 0  # descriptions that do not show a new machine
    pending: int = 0  # descriptions that show it pending
    ending: int = 0  # descriptions that show an ended one shutting down
    page: int = 1000  # rows of a page


class Ec2Double(World):
    """One account of Amazon, served on loopback."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Request] = []
        self.faults: list[Fault] = []
        #: Asked before each call whether something strikes it: BEFORE, CUT or LOST.
        self.strike: Callable[[Request], str | None] = lambda request: None
        self.consoles: dict[str, str] = {}
        self.guests: Guests | None = None
        self.machines: dict[str, Guest] = {}
        self.launched: dict[str, list[str]] = defaultdict(list)  # by key
        self._tokens: dict[tuple[str, str, str], tuple[dict[str, str], bytes, str]] = {}
        self._shown: Counter[str] = Counter()
        self._over: dict[str, tuple[str, int]] = {}  # why, and for how many descriptions it is still shown
        self._lock = threading.RLock()
        self._moto_lock = threading.Lock()  # moto was not made for threads
        self._boots = ThreadPoolExecutor(1)  # guests die with the thread that started them, and a request's soon ends
        self._zones: dict[str, str] = {}
        self._region_of: dict[str, str] = {}  # by machine
        self._clients: dict[tuple[str, str], Any] = {}
        self._clients_lock = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)

    # --- what a test does -----------------------------------------------------------------------------

    def fail(self, operation: str, code: str, message: str = "", **more: Any) -> None:
        """Refuse the next calls of an operation, before their effect."""
        self.faults.append(Fault(operation, code, message, **more))

    def lose_answer(self, operation: str, times: int = 1) -> None:
        """Let the next calls take effect, and break the connection."""
        self.faults.append(Fault(operation, LOST, times=times))

    def made(self, operation: str) -> list[Request]:
        """The calls of an operation, in order."""
        return [call for call in self.calls if call.operation == operation]

    def preempt(self, machine: str, region: str = "us-east-1") -> None:
        """The spot market takes a machine back."""
        self._end(machine, "spot", region)

    def power_off(self, machine: str, region: str = "us-east-1") -> None:
        """A machine switched itself off, and was told to end when it does."""
        self._end(machine, "self", region)

    def switched_off(self, guest: Guest) -> None:
        """A guest has ended: of itself, unless its end was asked for here."""
        if guest.name not in self._over:
            self._end(guest.name, "self", self._region_of[guest.name])

    def living(self) -> list[dict[str, Any]]:
        """What costs money: machines in any state but terminated, in every region."""
        return [
            row for region in self.regions for row in self._described(region) if row["State"]["Name"] != "terminated"
        ]

    def volumes(self) -> list[dict[str, Any]]:
        return [row for region in self.regions for row in self.client(region).describe_volumes()["Volumes"]]

    def groups(self, region: str = "us-east-1") -> list[dict[str, Any]]:
        """Security groups that somebody made."""
        rows = self.client(region).describe_security_groups()["SecurityGroups"]
        return [row for row in rows if row["GroupName"] != "default"]

    def client(self, region: str = "us-east-1", service: str = "ec2") -> Any:
        """A client that speaks to moto past everything here that goes wrong."""
        with self._clients_lock:
            if (region, service) not in self._clients:
                config = Config(retries={"total_max_attempts": 1}, user_agent_extra="behind-the-scenes")
                where = {"region_name": region, "endpoint_url": self.url}
                self._clients[region, service] = _session().client(service, config=config, **where)
            return self._clients[region, service]

    # --- being a server -------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[Ec2Double]:
        """Answer on a port of loopback for the block, with an empty account."""
        server = make_server("127.0.0.1", 0, self._respond, threaded=True, request_handler=_Quiet)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            self._reset()
            yield self
        finally:
            self._boots.shutdown()
            server.shutdown()
            thread.join()
            server.server_close()

    def _reset(self) -> None:
        import httpx

        httpx.post(f"{self.url}/moto-api/reset").raise_for_status()

    def _respond(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"].startswith("/moto-api") or "behind-the-scenes" in environ.get("HTTP_USER_AGENT", ""):
            answer = self._ask_moto(environ, body)
        else:
            request = Request.read(environ, body)
            answer = self._answer(request, environ)
        if answer is None:
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            answer = Answer(b"", 500)
        start(f"{answer.status} X", [("Content-Type", answer.type), ("Content-Length", str(len(answer.body)))])
        return [answer.body]

    def _answer(self, request: Request, environ: dict[str, Any]) -> Answer | None:
        """None: no answer comes."""
        with self._lock:
            self.calls.append(request)
            fault = next((each for each in self.faults if each.hits(request)), None)
            struck = self.strike(request)
            if fault:
                fault.times -= 1
                struck = fault.code if fault.code in (LOST, CUT) else struck
                if struck is None:
                    return wire.refusal(request, fault.code, fault.message, fault.status)
            if struck == BEFORE:
                return wire.refusal(request, "Unavailable", "struck", 503)
            if struck == CUT:
                return None
            answer = self._refused(request) or self._own(request) or self._as_moto(request, environ)
            return None if struck == LOST else answer

    def _refused(self, request: Request) -> Answer | None:
        if self.revoked or request.region in self.closed:
            code = "AuthFailure" if request.service == "ec2" else "InvalidClientTokenId"
            words = "AWS was not able to validate the provided access credentials"
            return wire.refusal(request, code, words, 401 if request.service == "ec2" else 403)
        if request.action in self.denied:
            words = (
                f"User: arn:aws:iam::123456789012:user/x is not authorized to perform: {request.action} on resource: *"
            )
            code = "UnauthorizedOperation" if request.service == "ec2" else "AccessDeniedException"
            return wire.refusal(request, code, words, 403)
        if request.form.get("DryRun") == "true":
            return wire.refusal(
                request, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412
            )
        if odd := [name for name in request.filters() if not SUPPORTED.fullmatch(name)]:
            return wire.refusal(request, "InvalidParameterValue", f"The filter {odd[0]!r} is invalid")
        return None

    def _own(self, request: Request) -> Answer | None:
        """What moto does not know, or knows too simply."""
        answers: dict[str, Callable[[Request], Answer | None]] = {
            "DescribeRegions": lambda request: wire.regions(request, self.regions),
            "DescribeSpotPriceHistory": self._spot_prices,
            "DescribeImages": self._images,
            "GetConsoleOutput": self._console,
            "GetProducts": self._products,
            "ListServiceQuotas": self._quotas,
            "GetParameters": lambda request: wire.document({"Parameters": [], "InvalidParameters": []}),
        }
        answer = answers.get(request.operation)
        return answer(request) if answer else None

    def _as_moto(self, request: Request, environ: dict[str, Any]) -> Answer:
        if request.operation == "RunInstances":
            return self._run(request, environ)
        if request.operation == "TerminateInstances":
            return self._terminate(request, environ)
        if request.operation == "DeleteSecurityGroup" and self._used(request.form["GroupId"], request.region):
            return wire.refusal(request, "DependencyViolation", "resource has a dependent object")
        if request.operation == "DescribeInstances":
            request.form["MaxResults"] = str(min(self.page, int(request.form.get("MaxResults", "1000"))))
            return self._shown_now(self._ask_moto(environ, request.body))
        return self._ask_moto(environ, request.body if request.form else None)

    def _terminate(self, request: Request, environ: dict[str, Any]) -> Answer:
        """Once more is fine, as with Amazon; moto looks for the interface that went with the first time."""
        if set(request.many("InstanceId")) <= set(self._over):
            return wire.reply(request, "<instancesSet/>")
        answer = self._ask_moto(environ, request.body)
        for machine in request.many("InstanceId") if answer.status == 200 else ():
            self._over.setdefault(machine, ("user", self.ending))
            self._switch_off(machine)
        return answer

    def _used(self, group: str, region: str) -> bool:
        """True while a machine has it; moto forgets to look at interfaces."""
        alive = [row for row in self._described(region) if row["State"]["Name"] != "terminated"]
        return group in {
            each["GroupId"] for row in alive for card in row["NetworkInterfaces"] for each in card["Groups"]
        }

    def _ask_moto(self, environ: dict[str, Any], body: bytes | None) -> Answer:
        import io

        if body is not None:
            environ = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        head: list[Any] = []
        with self._moto_lock:
            parts = self._moto(environ, lambda status, headers, *_: head.extend((status, dict(headers))))
            content = b"".join(parts)
        return Answer(content, int(head[0].split()[0]), head[1].get("Content-Type", "text/xml"))

    # --- launching ------------------------------------------------------------------------------------

    def _run(self, request: Request, environ: dict[str, Any]) -> Answer:
        subnet = request.form.get("NetworkInterface.1.SubnetId", "")
        zone = self._zone_of(subnet, request.region)
        scope = (request.region, zone, request.form.get("ClientToken", ""))
        if scope in self._tokens:
            form, body, machine = self._tokens[scope]
            if form != request.form:
                return wire.refusal(
                    request, "IdempotentParameterMismatch", "Arguments on this idempotent request are not the same"
                )
            return Answer(self._with_fate(body, machine))
        if refused := self._impossible(request, zone):
            return refused
        form = dict(request.form)
        if form["ImageId"].startswith(PARAMETER):
            request.form["ImageId"] = "ami-0123456789abcdef0"
        answer = self._ask_moto(environ, request.body)
        request.form = form
        if answer.status == 200:
            machine = str(re.search(rb"<instanceId>(i-\w+)</instanceId>", answer.body).group(1).decode())  # type: ignore[union-attr]
            self.launched[request.tags().get("nebulous-key", "")].append(machine)
            self._tokens[scope] = (form, answer.body, machine)
            self._region_of[machine] = request.region
            if self.guests:
                self.machines[machine] = self._boots.submit(self.guests.boot, machine, request.user_data).result()
        return answer

    def _impossible(self, request: Request, zone: str) -> Answer | None:
        form, kind = request.form, request.form["InstanceType"]
        image = form["ImageId"].removeprefix(PARAMETER)
        if self.images and image not in self.images:
            return wire.refusal(request, "InvalidParameterValue", f"Invalid systems manager parameter, ImageId {image}")
        least, size = self.images.get(image, 8), int(form.get("BlockDeviceMapping.1.Ebs.VolumeSize", "8"))
        if size < least:
            words = f"Volume of size {size}GB is smaller than snapshot 'snap-0', expect size >= {least}GB"
            return wire.refusal(request, "InvalidBlockDeviceMapping", words)
        for place in {zone, f"{zone} {kind}"} & set(self.capacity):
            there = [row for row in self._described(request.region) if row["Placement"]["AvailabilityZone"] == zone]
            if len([row for row in there if row["State"]["Name"] in ("pending", "running")]) >= self.capacity[place]:
                words = f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested"
                return wire.refusal(request, "InsufficientInstanceCapacity", f"{words} ({zone}).", 500)
        return None

    def _zone_of(self, subnet: str, region: str) -> str:
        if subnet not in self._zones:
            rows = self.client(region).describe_subnets(SubnetIds=[subnet])["Subnets"]
            self._zones[subnet] = str(rows[0]["AvailabilityZone"])
        return self._zones[subnet]

    def _described(self, region: str) -> list[dict[str, Any]]:
        pages = self.client(region).get_paginator("describe_instances").paginate()
        return [row for page in pages for each in page["Reservations"] for row in each["Instances"]]

    # --- describing -----------------------------------------------------------------------------------

    def _shown_now(self, answer: Answer) -> Answer:
        """The machines as far as Amazon's lists have come."""
        if answer.status != 200 or not (self.invisible or self.pending or self._over or self.machines):
            return answer
        root = wire.tree(answer.body)
        for holder, item, machine in wire.machines(root):
            self._shown[machine] += 1
            if self._shown[machine] <= self.invisible:
                holder.remove(item)
            elif machine in self._over:
                self._show_end(item, machine)
            elif self._shown[machine] <= self.invisible + self.pending:
                wire.put(item, "instanceState/code", "0")
                wire.put(item, "instanceState/name", "pending")
            elif machine in self.machines:
                wire.put(item, "ipAddress", self.machines[machine].address)
        wire.drop_empty(root)
        return Answer(wire.written(root), answer.status, answer.type)

    def _show_end(self, item: Any, machine: str) -> None:
        why, left = self._over[machine]
        self._over[machine] = (why, left - 1)
        code, message = REASONS[why]
        wire.put(item, "stateReason/code", code)
        wire.put(item, "stateReason/message", message)
        wire.put(item, "instanceState/code", "32" if left > 0 else "48")
        wire.put(item, "instanceState/name", "shutting-down" if left > 0 else "terminated")

    def _with_fate(self, body: bytes, machine: str) -> bytes:
        """What a launch is answered with once more: the machine as it is now."""
        root = wire.tree(body)
        for _, item, each in wire.machines(root):
            if each == machine and machine in self._over:
                self._show_end(item, machine)
        return wire.written(root)

    def _end(self, machine: str, why: str, region: str) -> None:
        with self._lock:
            self._over[machine] = (why, self.ending or 1)
        self.client(region).terminate_instances(InstanceIds=[machine])
        self._switch_off(machine)

    def fate(self, machine: str, code: str, message: str, region: str = "us-east-1") -> None:
        """Let a machine die for a reason of the cloud's."""
        REASONS[code] = (code, message)
        with self._lock:
            self._over[machine] = (code, 0)
        self.client(region).terminate_instances(InstanceIds=[machine])

    def _switch_off(self, machine: str) -> None:
        if guest := self.machines.get(machine):
            guest.kill()

    # --- what is simply told --------------------------------------------------------------------------

    def _spot_prices(self, request: Request) -> Answer:
        wanted = request.many("InstanceType")
        return wire.spot_prices(
            request,
            [
                (kind, zone, usd, at)
                for (kind, zone), history in self.spot.items()
                for usd, at in history
                if kind in wanted and zone.startswith(request.region)
            ],
        )

    def _images(self, request: Request) -> Answer:
        (pattern,) = request.filters().get("name", ["*"])
        return wire.images(request, [row for row in self.named if fnmatch(row[1], pattern)])

    def _console(self, request: Request) -> Answer | None:
        machine = request.form["InstanceId"]
        guest = self.machines.get(machine)
        return wire.console(request, guest.console() if guest else self.consoles.get(machine, ""))

    def _products(self, request: Request) -> Answer:
        (kind,) = [each["Value"] for each in request.document["Filters"] if each["Field"] == "instanceType"]
        return wire.products(kind, self.listed.get(kind, {}))

    def _quotas(self, request: Request) -> Answer:
        rows = [
            {"QuotaCode": code, "QuotaName": f"quota {code}", "Value": value} for code, value in self.quotas.items()
        ]
        return wire.document({"Quotas": rows})


@cache
def _session() -> Any:
    """One for all doubles: reading Amazon's description of its API takes a third of a second."""
    return boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test")


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


def now() -> datetime:
    return datetime.now(UTC)
