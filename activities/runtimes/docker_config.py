"""What the Engine is told to create for a launch, and what its answers mean: pure translation, no calls."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.platforms.base import Command
from activities.runtimes.docker_engine import part
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.ids import (
    TAG_FOREIGN,
    TAG_GPUS,
    TAG_ID,
    TAG_IMAGE,
    TAG_INSTALL,
    TAG_KEY,
    TAG_NAMESPACE,
    TAG_WORKFLOW,
    dns_label,
)
from nebulous.models.container_fields import PublicPort
from nebulous.models.containers import ContainerSpec, Launch
from nebulous.models.platforms import Exit, Instance, InstanceState

GIB = 1 << 30
BRIDGE = "bridge"  # the Engine's own network, which knows no names
STACK_BYTES = 64 << 20
CPU_SHARES = 1024  # the weight of one processor
NEVER = "0001-01-01T00:00:00Z"  # the Engine's time of what has not happened
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # the Engine's, where an image has none
SIGKILLED = 128 + 9  # exit code
WRONG_MACHINE = "nebulous.wrong_machine"  # what is added to the Engine's State, beside its own words
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}  # the kernel's word -> images'
IMAGE_ADVICE = "write [REGISTRY/]NAME[:TAG], such as python:3.12-slim"

#: Wider than the Engine's own grammar, but nothing in it means something else in a URL.
_REFERENCE = re.compile(r"^\w[\w.:@+-]*(/\w[\w.:@+-]*)*$", re.ASCII)

#: The Engine's words for the state of a container; any other is UNKNOWN.
STATES = {
    "created": InstanceState.READY,
    "running": InstanceState.RUNNING,
    "paused": InstanceState.RUNNING,
    "restarting": InstanceState.RUNNING,
    "exited": InstanceState.EXITED,
    "removing": InstanceState.DELETING,
    "dead": InstanceState.DELETING,
}


@dataclass(frozen=True)
class Machine:
    """The Engine's machine, as far as a configuration depends on it."""

    processors: int
    memory: int  # bytes
    has_init: bool
    architecture: str = ""  # as images call it: amd64, arm64

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Machine:
        """Read `/info`. Where docker-init is missing the Engine reports its commit as N/A."""
        has_init = part(info, "InitCommit").get("ID") != "N/A"
        kernels_word = str(info.get("Architecture") or "")
        return cls(int(info["NCPU"]), int(info["MemTotal"]), has_init, ARCHITECTURES.get(kernels_word, kernels_word))


@dataclass(frozen=True)
class Image:
    """An image in the Engine."""

    reference: str  # what to create a container from: pinned, whatever becomes of the name
    digest: str = ""
    architecture: str = ""

    @classmethod
    def of(cls, name: str, seen: Mapping[str, Any], digest: str = "") -> Image:
        """Read an inspection. One that never was in a registry is known by its id alone."""
        repository = repository_of(name)
        listed: list[str] = seen.get("RepoDigests") or []
        digests = [each.partition("@") for each in listed]
        known = [each for where, _, each in digests if where == familiar(repository)]
        architecture = str(seen.get("Architecture") or "")
        if known:
            chosen = digest if digest in known else known[0]
            return cls(f"{repository}@{chosen}", chosen, architecture)
        return cls(str(seen["Id"]), str(seen["Id"]), architecture)


def repository_of(image: str) -> str:
    """`registry:5000/name` of `registry:5000/name:tag@digest`."""
    named = image.partition("@")[0]
    return named.rpartition(":")[0] if ":" in named.rpartition("/")[2] else named


def familiar(repository: str) -> str:
    """The Engine's short spelling of a repository of Docker Hub."""
    for beginning in ("docker.io/", "index.docker.io/", "library/"):
        repository = repository.removeprefix(beginning)
    return repository


def image_of(launch: Launch, platform: str = "docker") -> str:
    """The image, with the tag that no tag means.

    Raises:
        Rejected: There is none, or it cannot be one.
    """
    image = (launch.container.image or "").strip()
    if not image:
        raise Rejected(
            f"platform {platform} needs an image", "set image:, or platform: local to run on the host itself"
        )
    if not _REFERENCE.match(image):
        raise Rejected(f"{image!r} is no image", IMAGE_ADVICE)
    return tagged(image)


def tagged(image: str) -> str:
    """`python` as `python:latest`; what has a tag or a digest stays."""
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def namespace_of(launch: Launch) -> str:
    """What shares a network: `organization/namespace`."""
    return f"{launch.metadata.owner}/{launch.metadata.namespace}".lower()


def labels(launch: Launch, gpus: Sequence[int]) -> dict[str, str]:
    """Our tags."""
    held = {TAG_GPUS: ",".join(map(str, gpus))} if gpus else {}
    return {
        **held,
        TAG_INSTALL: launch.install,
        TAG_WORKFLOW: launch.workflow,
        TAG_ID: launch.metadata.id,
        TAG_KEY: launch.key,
        TAG_NAMESPACE: namespace_of(launch),
        TAG_IMAGE: image_of(launch),
    }


def foreign(image: Image, machine: Machine) -> dict[str, str]:
    """The mark of an image for another architecture: an emulator may run it, so that is no reason to refuse it."""
    return {} if image.architecture in ("", machine.architecture) else {TAG_FOREIGN: image.architecture}


def container(
    launch: Launch, command: Command, network: str, machine: Machine, gpus: Sequence[int], image: Image
) -> dict[str, Any]:
    """The body of `POST /containers/create`.

    Args:
        launch: What to run.
        command: Its environment, secrets resolved.
        network: Id of the namespace's network.
        machine: Where it will run.
        gpus: Which GPUs it gets.
        image: What the image's name means.
    """
    spec, alias = launch.container, dns_label(launch.metadata.name)
    return {
        "Image": image.reference,
        "Hostname": alias,
        "Env": [f"{key}={value}" for key, value in command.env.items()],
        "Labels": labels(launch, gpus) | foreign(image, machine),
        "StopTimeout": math.ceil(spec.stop_grace_span.total_seconds()),
        **_program(spec),
        **_exposed(spec),
        "HostConfig": {
            "NetworkMode": network,
            "Init": machine.has_init,  # else a shell as process 1 ignores SIGTERM and nobody reaps
            "RestartPolicy": {"Name": "no"},  # the workflow restarts
            **_bindings(spec),
            **_limits(spec, machine),
            **(_accelerated(spec, machine, gpus) if gpus else _shared_memory(spec)),
        },
        **({} if network == BRIDGE else {"NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [alias]}}}}),
    }


def check_size(spec: ContainerSpec, machine: Machine) -> None:
    """Let pass what fits.

    Raises:
        OutOfCapacity: The machine is smaller than `resources` asks for.
    """
    if short := lacking(spec, machine):
        raise OutOfCapacity(f"the Engine's machine has only {short}", "ask for less in resources:")


def lacking(spec: ContainerSpec, machine: Machine) -> str:
    """What the machine has too little of for the asked minimum, in words; "" when it suffices."""
    asked = spec.resources
    if asked and asked.min_cpu and asked.min_cpu > machine.processors:
        return f"{machine.processors} processors; min_cpu is {asked.min_cpu:g}"
    if asked and asked.min_memory and asked.min_memory * GIB > machine.memory:
        return f"{machine.memory / GIB:.1f} GiB of memory; min_memory is {asked.min_memory:g}"
    return ""


def _program(spec: ContainerSpec) -> dict[str, Any]:
    """A command replaces ENTRYPOINT and CMD, and with them the image's idea of a stop signal."""
    if spec.argv is not None:
        return {"Entrypoint": spec.argv[:1], "Cmd": spec.argv[1:], "StopSignal": "SIGTERM"}
    return {} if spec.args is None else {"Cmd": spec.args}


def _exposed(spec: ContainerSpec) -> dict[str, Any]:
    ports = {f"{port.port}/{port.transport}": dict[str, Any]() for port in spec.ports or [] if port.public}
    return {"ExposedPorts": ports} if ports else {}


def _bindings(spec: ContainerSpec) -> dict[str, Any]:
    """Public ports, under the same number on all addresses of the machine."""
    ports = {
        f"{port.port}/{port.transport}": [{"HostPort": str(port.port)}] for port in spec.ports or [] if port.public
    }
    return {"PortBindings": ports} if ports else {}


def _public_ports(seen: Mapping[str, Any], address: str) -> list[PublicPort]:
    """The ports that the Engine opens on its machine; once each, for IPv4 and IPv6 are told apart."""
    found: list[PublicPort] = []
    opened: dict[str, list[dict[str, str]] | None] = part(seen["NetworkSettings"], "Ports")
    for name, bindings in sorted(opened.items()):
        for binding in (bindings or [])[:1]:
            protocol = name.partition("/")[2]
            found.append(PublicPort(port=int(binding["HostPort"]), protocol=protocol, public_ip=address))
    return found


def _limits(spec: ContainerSpec, machine: Machine) -> dict[str, int]:
    """Limits and reservations. More processors than there are is no limit, though the Engine refuses it."""
    asked, limits = spec.resources, dict[str, int]()
    if asked is None:
        return limits
    if asked.max_cpu is not None:
        limits["NanoCpus"] = int(min(asked.max_cpu, machine.processors) * 1e9)
    if asked.max_memory is not None:
        limits["Memory"] = limits["MemorySwap"] = int(asked.max_memory * GIB)  # the same: no swap on top
    if asked.min_cpu is not None:
        limits["CpuShares"] = max(2, int(asked.min_cpu * CPU_SHARES))
    if asked.min_memory is not None:
        limits["MemoryReservation"] = int(asked.min_memory * GIB)
    return limits


def _shared_memory(spec: ContainerSpec) -> dict[str, int]:
    return {} if spec.shm_size is None else {"ShmSize": int(spec.shm_size * GIB)}


def _accelerated(spec: ContainerSpec, machine: Machine, gpus: Sequence[int]) -> dict[str, Any]:
    """GPUs by number: a count would give every container the first ones. Data loaders need much shared memory."""
    most = spec.resources.max_memory * GIB if spec.resources and spec.resources.max_memory else machine.memory
    unlimited = {"Name": "memlock", "Soft": -1, "Hard": -1}
    stack = {"Name": "stack", "Soft": STACK_BYTES, "Hard": STACK_BYTES}
    return {
        "DeviceRequests": [{"DeviceIDs": [str(gpu) for gpu in gpus], "Capabilities": [["gpu"]]}],
        "ShmSize": int(most / 2),
        **_shared_memory(spec),
        "Ulimits": [unlimited, stack],
    }


def instance(seen: Mapping[str, Any], account: str, identity: str, machine_address: str = "") -> Instance:
    """A container, from its inspection; `machine_address` is where its public ports are."""
    state = seen["State"]
    known = STATES.get(state["Status"], InstanceState.UNKNOWN)
    return _rented(seen["Id"], part(seen["Config"], "Labels"), account, identity).model_copy(
        update={
            "state": known,
            "run": run_of(seen),
            "exit": _exit(state) if known == InstanceState.EXITED else None,
            "ip": _ip(seen),
            "public_ports": _public_ports(seen, machine_address),
            "message": _words(state),
            "created_at": seen["Created"],
        }
    )


def vanished(container_id: str, tags: Mapping[str, str], account: str, identity: str) -> Instance:
    """A container that was just removed, from the last event about it; `find` proves it."""
    gone = {"state": InstanceState.DELETING, "message": "removed from the Engine"}
    return _rented(container_id, tags, account, identity).model_copy(update=gone)


def run_of(seen: Mapping[str, Any]) -> str | None:
    """When the command was last started, to the nanosecond: the token of a run. None before the first."""
    started = seen["State"]["StartedAt"]
    return None if started == NEVER else started


def killed_at_limit(seen: Mapping[str, Any]) -> bool:
    """True when the last run ended by SIGKILL, has a limit of memory, and the Engine does not call it out of memory.

    It misses what it should: containerd learns of it from a cgroup that is gone by then (21 of 60 kills on a busy
    machine with cgroup v1 and containerd 1.6).
    """
    state = seen["State"]
    ended = state["Status"] == "exited" and state["ExitCode"] == SIGKILLED
    return ended and not state["OOMKilled"] and bool(seen["HostConfig"].get("Memory"))


def failed_abroad(seen: Mapping[str, Any]) -> str:
    """The architecture of the image, if it is not the machine's and the last run failed; else ""."""
    state = seen["State"]
    failed = state["Status"] == "exited" and state["ExitCode"] != 0
    return part(seen["Config"], "Labels").get(TAG_FOREIGN, "") if failed else ""


def _rented(container_id: str, tags: Mapping[str, str], account: str, identity: str) -> Instance:
    return Instance(
        key=tags.get(TAG_KEY, ""),
        id=container_id,
        account=account,
        identity=identity,
        workflow=tags.get(TAG_WORKFLOW, ""),
        life=tags.get(TAG_ID, ""),
        install=tags.get(TAG_INSTALL, ""),
    )


def _exit(state: Mapping[str, Any]) -> Exit:
    """How it ended. An Engine reports OOMKilled too when only a child was killed and the command went on."""
    code = int(state["ExitCode"])
    why = str(state.get(WRONG_MACHINE) or "")
    return Exit(code=code, at=state["FinishedAt"], oom=bool(state["OOMKilled"]) and code != 0, wrong_machine=why)


def _ip(seen: Mapping[str, Any]) -> str | None:
    networks = part(seen["NetworkSettings"], "Networks").values()
    return next((network["IPAddress"] for network in networks if network.get("IPAddress")), None)


def _words(state: Mapping[str, Any]) -> str:
    if state["Error"] or state["Status"] in {"created", "running", "exited"}:
        return str(state["Error"])
    return f"the Engine says {state['Status']!r}"
