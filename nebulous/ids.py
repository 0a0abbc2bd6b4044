"""Every identifier, tag and idempotency key of Nebulous is made here, and nowhere else.

A resource is `organization / namespace / name`; `metadata.id` names one life of it. Names keep their spelling
and compare without case, so every id below is lower case.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from platform import node

#: On everything rented, at creation: the sweep finds, adopts and destroys by these.
TAG_INSTALL = "nebulous-install"
TAG_WORKFLOW = "nebulous-workflow"
TAG_ID = "nebulous-id"
TAG_KEY = "nebulous-key"
#: docker only: what shares a network (`organization/namespace`), and which GPUs a container holds (`0,1`).
TAG_NAMESPACE = "nebulous-namespace"
TAG_GPUS = "nebulous-gpus"
TAG_FOREIGN = "nebulous-foreign"  # the image's architecture, where it is not the machine's
TAG_IMAGE = "nebulous-image"  # as the spec has it, where the container is made of a pinned one

DEFAULT_NAMESPACE = "default"
LOCAL_ORGANIZATION = "local"

NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z", re.IGNORECASE | re.ASCII)
RESERVED_NAMES = frozenset(
    ("logs", "exec", "files", "events", "stats", "stop", "start", "restart", "messages", "scale", "search")
)

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no 0/o, 1/l/i: ids are read aloud and typed
_ID_LENGTH = 12

PLATFORMS = ("runpod", "ec2", "gce", "docker", "local", "sim")
OWN_MACHINES = ("docker", "local")  # nobody is paid for them, and they tell themselves what is free

TASK_QUEUE = "nebulous"
INSTALL_WORKFLOW = "install/nebulous"


@dataclass(frozen=True)
class Address:
    """Where a resource lives; `str()` is its workflow id."""

    kind: str
    organization: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.organization}/{self.namespace}/{self.name}".lower()

    @classmethod
    def parse(cls, workflow_id: str) -> Address:
        """Read an address back from a workflow id.

        Raises:
            ValueError: The id is not `kind/organization/namespace/name`.
        """
        parts = workflow_id.split("/")
        if len(parts) != 4 or not all(parts):
            raise ValueError(f"workflow id {workflow_id!r} is not kind/organization/namespace/name")
        return cls(*parts)


def check_name(name: str, what: str = "name") -> str:
    """Return the name if it may be one.

    Raises:
        ValueError: With what is wrong and what a name looks like.
    """
    if len(name) > 63:
        raise ValueError(f"{what} {name[:20] + '…'!r} has {len(name)} characters; at most 63 are allowed")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r} is not allowed: use letters, digits, '-', '_' and '.', "
            "beginning and ending with a letter or digit"
        )
    if what == "name" and name.lower() in RESERVED_NAMES:
        raise ValueError(f"name {name!r} is reserved; reserved are {', '.join(sorted(RESERVED_NAMES))}")
    return name


def split_owner(name: str) -> tuple[str | None, str]:
    """Split `Agentsea/foo` into organization and name; without a slash the organization is None.

    Raises:
        ValueError: Two slashes, or an empty half.
    """
    if "/" not in name:
        return None, name
    owner, _, rest = name.partition("/")
    if not owner or not rest or "/" in rest:
        raise ValueError(f"name {name!r} must be NAME or ORGANIZATION/NAME, with one slash at most")
    return owner, rest


def new_id() -> str:
    """A fresh random id for one life of a resource."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def id_from_idempotency_key(install: str, caller: str, key: str, address: str = "") -> str:
    """The life's id that this caller's `Idempotency-Key` maps to at this address: no two resources share a life."""
    return _digest(install, "idempotency", caller, key, address)


def rental_key(install: str, life: str, attempt: int, account: str, region: str, zone: str) -> str:
    """The idempotency key of one rental: the same intent gives the same key, in any run of the workflow."""
    return "nebu-" + _digest(install, life, str(attempt), account, region, zone)


def dns_label(name: str) -> str:
    """The name as DNS and clouds take it: lower case, `.` and `_` become `-`."""
    return re.sub(r"[._]+", "-", name.lower()).strip("-")


def host_id(root: Path = Path("/")) -> str:
    """A short id of this machine, the same after a reboot; names the queues of `docker` and `local`."""
    try:
        machine = (root / "etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return _digest("host", machine, node())[:8]


def boot_id(root: Path = Path("/")) -> str:
    """An id of this boot of the machine, or "" where the system has none."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def platform_queue(account: str) -> str:
    """The task queue of one platform account, for example `platform-docker:1a2b3c4d`."""
    return f"platform-{account}"


def platform_workflow(account: str) -> str:
    """The workflow id of the entity that describes one platform account."""
    return f"platform/{account}"


def sweep_workflow(account: str) -> str:
    """The workflow id of the sweep of one platform account."""
    return f"sweep/{account}"


def platform_type(account: str) -> str:
    """`docker` of `docker:1a2b3c4d`."""
    return account.partition(":")[0]


_ADJECTIVES = (
    "amber brave bright calm clever cosmic crisp dapper eager fabled gentle golden happy hidden humble jolly keen "
    "lively lucky lunar merry mighty misty modest noble nimble patient polar proud quick quiet rapid silent silver "
    "solar steady stellar sunny swift tidy vivid warm wise witty"
)
_NOUNS = (
    "aurora badger beacon cedar comet condor coral crane delta dune ember falcon fjord galaxy glacier harbor heron "
    "island juniper lagoon lantern lynx maple meadow meteor nebula nova ocean orbit otter owl pebble pine planet "
    "pulsar quasar raven reef river saturn sparrow summit tiger tundra willow zephyr"
)


def two_words(seed: str | None = None) -> str:
    """A generated name, for whoever gave none: `calm-otter-7f3`; the same seed gives the same name."""
    choice = random.Random(seed or secrets.token_hex()).choice  # noqa: S311 - a name, not a secret
    tail = "".join(choice(_ALPHABET) for _ in range(3))
    return f"{choice(_ADJECTIVES.split())}-{choice(_NOUNS.split())}-{tail}"


def _digest(*parts: str) -> str:
    raw = hashlib.sha256("\x1f".join(parts).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in raw[:_ID_LENGTH])
