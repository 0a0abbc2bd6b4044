"""A pod in RunPod's words and in ours: what is asked for, and what a listing says. Pure translation, no calls.

There are no labels, so our tags are variables of the pod; so is the run that its command is in, which makes one list of
all pods tell which of them was started. A pod is rented without a run: our entry (`runpod_entry.sh`) waits in it.
`start` gives it one, by changing its variables, and RunPod then makes the container anew.

`args` is one string, which RunPod reads as JSON with `cmd` and `entrypoint` where it is that (its docs, "Container
start command"; runpodctl pull request 314). So the image's own entrypoint is replaced; all that matters is in
variables, which nobody splits into words.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from activities.platforms.base import Command
from activities.platforms.runpod_keys import PodKeys
from nebulous.errors import Rejected
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.models.container_fields import PublicPort
from nebulous.models.containers import Launch
from nebulous.models.platforms import Exit, Instance, InstanceState, Offer

ENTRY = Path(__file__).with_name("runpod_entry.sh")
ARGS = json.dumps({"entrypoint": ["/bin/sh", "-c"], "cmd": ['eval "$NEBULOUS_ENTRY"']})
MOST_VARIABLES = 50  # RunPod's limit (its docs, environment variables)
SSH = 22
WAIT_S = 3600  # what was never started ends by itself after this
LINGER_S = 24 * 3600  # and what has ended, without contact, unless it is to be kept longer
MARGIN_S = 600  # behind `timeout`: the server was to end it long before
GPU_DISK_GB, CPU_DISK_GB_PER_VCPU = 50, 10
COMMUNITY = "COMMUNITY"
PROXY = "{pod}-{port}.proxy.runpod.net"  # https, port 443; for ports with protocol http

RUN, STOPPED = "NEBULOUS_RUN", "NEBULOUS_STOP"
STATES = {
    "PROVISIONING": InstanceState.BOOTING,
    "STARTING": InstanceState.BOOTING,
    "RUNNING": InstanceState.READY,
    "EXITED": InstanceState.PREEMPTED,  # we never stop a pod: RunPod or its owner did
    "ERROR": InstanceState.PREEMPTED,
    "TERMINATED": InstanceState.DELETING,
}
ON_ITS_WAY = frozenset({InstanceState.BOOTING, InstanceState.READY})


def variable(tag: str) -> str:
    """The tag as a variable: NEBULOUS_KEY of nebulous-key."""
    return tag.upper().replace("-", "_")


@dataclass(frozen=True)
class Pod:
    """One pod of a listing."""

    id: str
    name: str
    status: str
    env: dict[str, str]
    place: str
    registry: str
    created_at: str
    uptime_s: float | None
    ports: tuple[tuple[int, int, str, str], ...]  # private, public, type, ip
    direct: tuple[str, int] | None  # where SSH reaches it
    wanted: tuple[str, ...]  # ports asked for, as `8888/http`

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Pod:
        """Read one; fields that are not there are as good as null."""
        runtime = _part(raw, "runtime")
        listed = cast("list[dict[str, Any]]", runtime.get("ports") or [])
        ports = [
            (
                int(each.get("private") or 0),
                int(each.get("public") or 0),
                str(each.get("type")),
                str(each.get("ip") or ""),
            )
            for each in listed
        ]
        direct = _part(_part(raw, "ssh"), "direct")
        at = (str(direct["host"]), int(direct["port"])) if direct.get("host") and direct.get("port") else None
        mapped = next(((ip, public) for private, public, kind, ip in ports if private == SSH and kind == "tcp"), None)
        return cls(
            id=str(raw["id"]),
            name=str(raw.get("name") or ""),
            status=str(raw.get("status") or ""),
            env={str(name): str(value) for name, value in _part(raw, "env").items()},
            place=str(raw.get("dataCenterId") or ""),
            registry=str(raw.get("registry") or ""),
            created_at=str(raw.get("createdAt") or ""),
            uptime_s=runtime.get("uptime"),
            ports=tuple(ports),
            direct=at or mapped,
            wanted=tuple(map(str, cast("list[object]", raw.get("ports") or []))),
        )

    def tag(self, tag: str) -> str:
        """One of our tags; "" where it has none."""
        return self.env.get(variable(tag), "")

    @property
    def key(self) -> str:
        """Under which it was rented."""
        return self.tag(TAG_KEY)

    @property
    def run(self) -> str | None:
        """The run of its command that it was last told."""
        return self.env.get(RUN) or None

    @property
    def state(self) -> InstanceState:
        """Of a pod whose command's end, if any, nobody knows."""
        state = STATES.get(self.status, InstanceState.UNKNOWN)
        return InstanceState.RUNNING if self.run and state in ON_ITS_WAY else state

    def instance(self, account: str, identity: str, end: Exit | None, message: str = "") -> Instance:
        """The same in the words of the contract."""
        public = [PublicPort(port=public, protocol=kind, public_ip=ip) for _, public, kind, ip in self._reached]
        proxied = [PublicPort(port=443, protocol="http", public_ip=name) for name in self._proxied]
        address = next((ip for _, _, kind, ip in self.ports if kind == "tcp" and ip), None)
        return Instance(
            key=self.key,
            id=self.id,
            account=account,
            identity=identity,
            region=self.place,
            state=InstanceState.EXITED if end else self.state,
            run=self.run,
            exit=end,
            workflow=self.tag(TAG_WORKFLOW),
            life=self.tag(TAG_ID),
            install=self.tag(TAG_INSTALL),
            ip=address or (self.direct[0] if self.direct else None),
            public_ports=public + proxied,
            message=message or self._words,
            created_at=self.created_at,
        )

    @property
    def _reached(self) -> list[tuple[int, int, str, str]]:
        return [port for port in self.ports if port[0] != SSH and port[2] == "tcp" and port[1] and port[3]]

    @property
    def _proxied(self) -> list[str]:
        ports = [port.partition("/")[0] for port in self.wanted if port.endswith("/http")]
        return [PROXY.format(pod=self.id, port=port) for port in ports]

    @property
    def _words(self) -> str:
        said = {"EXITED": "RunPod stopped the pod", "ERROR": "RunPod says that the container cannot run"}
        return said.get(self.status, "" if self.status in STATES else f"RunPod says {self.status!r}")


def survivors(pods: list[Pod]) -> tuple[list[Pod], list[Pod]]:
    """One pod for each key, and the others: one that was started stays, else the one with the lowest id."""
    kept: dict[str, Pod] = {}
    others: list[Pod] = []
    for pod in sorted(pods, key=lambda pod: (pod.run is None, pod.id)):
        if pod.key in kept:
            others.append(pod)
        else:
            kept[pod.key] = pod
    return list(kept.values()), others


def next_run(pod: str, run: str | None) -> str:
    """The run after this one: the same for everybody who asks, so that a repeated start is no other."""
    return hashlib.sha256(f"{pod}\0{run or ''}".encode()).hexdigest()[:12]


def order(launch: Launch, offer: Offer, command: Command, keys: PodKeys, api: str, registry: str) -> dict[str, Any]:
    """The body that rents a pod.

    Raises:
        Rejected: RunPod has nothing of the kind, or takes no such thing.
    """
    spec = launch.container
    if not spec.image:
        raise Rejected("platform runpod needs an image", "set image:")
    if spec.argv is None:
        hint = "give command: (the Dockerfile's ENTRYPOINT and CMD, or what the image's page says)"
        raise Rejected("RunPod tells nobody how an image's own command ended, so a command has to be given", hint)
    variables(launch, command, keys, api, run="0" * 12)  # refuse too many before anything is rented
    disk = int(spec.disk) if spec.disk else GPU_DISK_GB
    body: dict[str, Any] = {
        "name": launch.key,
        "image": spec.image.strip(),
        "args": ARGS,
        "env": waiting(launch, keys, api),
        "ports": [f"{SSH}/tcp", *_ports(launch)],
        "disk": max(1, disk),
        "cloud": COMMUNITY if offer.zone.endswith(COMMUNITY) else "SECURE",
    }
    if offer.region:
        body["dataCenterIds"] = [offer.region]
    if registry:
        body["registry"] = registry
    if offer.accelerator:
        body["gpu"] = {"id": offer.instance_type, "count": offer.accelerator_count}
    else:
        flavor, _, processors = offer.instance_type.rpartition(":")
        body["cpu"] = {"id": flavor, "vcpuCount": int(processors)}
        body["disk"] = max(1, int(spec.disk) if spec.disk else min(GPU_DISK_GB, CPU_DISK_GB_PER_VCPU * int(processors)))
    return body


def waiting(launch: Launch, keys: PodKeys, api: str) -> dict[str, str]:
    """The variables of a pod that waits: our tags and our entry."""
    tags = {TAG_INSTALL: launch.install, TAG_WORKFLOW: launch.workflow, TAG_ID: launch.metadata.id, TAG_KEY: launch.key}
    return {
        **{variable(tag): value for tag, value in tags.items()},
        "NEBULOUS_ENTRY": entry(),
        "NEBULOUS_API": api,
        "NEBULOUS_SSH_HOST": keys.host_private,
        "NEBULOUS_SSH_KEY": keys.client_public,
        "NEBULOUS_WAIT": str(WAIT_S),
    }


def variables(launch: Launch, command: Command, keys: PodKeys, api: str, run: str) -> dict[str, str]:
    """The variables of a pod whose command runs.

    Raises:
        Rejected: They are more than RunPod takes.
    """
    spec = launch.container
    limit, keep = spec.timeout_span, int(spec.keep_span.total_seconds())
    ours = {
        **waiting(launch, keys, api),
        "NEBULOUS_COMMAND": " ".join(map(shlex.quote, spec.argv or [])),
        "NEBULOUS_GRACE": str(int(spec.stop_grace_span.total_seconds())),
        "NEBULOUS_LIMIT": str(int(limit.total_seconds()) + MARGIN_S) if limit else "",
        "NEBULOUS_LINGER": str(max(LINGER_S, keep + MARGIN_S if keep else 0)),
        RUN: run,
        STOPPED: "",
    }
    theirs = {**launch.own_env, **command.env}
    if len(ours) + len(theirs) > MOST_VARIABLES:
        given, room = len(command.env), MOST_VARIABLES - len(ours) - len(launch.own_env)
        message = f"{given} variables are too many for RunPod: it takes {MOST_VARIABLES}, and {room} are left for you"
        raise Rejected(message, "put several into one, or into a file that the command reads")
    return {**theirs, **ours}


@cache
def entry() -> str:
    """Our entry, without its comments."""
    lines = ENTRY.read_text().splitlines()
    return "\n".join(line for line in lines if line and not line.startswith("#")) + "\n"


def _ports(launch: Launch) -> list[str]:
    ports = [port for port in launch.container.ports or [] if port.public]
    for port in ports:
        if port.transport == "udp":
            raise Rejected(
                f"RunPod lets no UDP in, so port {port.port} cannot be public", "leave out public, or use tcp"
            )
    return [f"{port.port}/{'http' if port.protocol == 'http' else 'tcp'}" for port in ports if port.port != SSH]


def _part(raw: dict[str, Any], name: str) -> dict[str, Any]:
    found = raw.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
