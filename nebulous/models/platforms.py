"""The words between workflows, sweeps and platforms: what can be rented, what was, and what was seen of it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from nebulous.models.base import Record
from nebulous.models.container_fields import PublicPort


class Feature(StrEnum):
    """What a platform can do beyond the contract; data, not classes."""

    PULL_FIRST = "pull_first"  # the image must be on the machine before `create`
    NO_IMAGE = "no_image"  # commands run on the host; `image` is ignored
    LOGS = "logs"
    WATCH = "watch"  # exits are pushed; `owned()` is the safety net
    SPOT = "spot"
    EXEC = "exec"  # runs further commands beside the container's own
    FILES = "files"  # copies files in and out
    STATS = "stats"  # tells what a running command uses


class Offer(Record):
    """Something rentable now, with its price."""

    platform: str  # the word users write: docker, ec2, …
    account: str  # which account or host of it, for example `docker:1a2b3c4d`
    identity: str = ""  # the account as the cloud named it when it offered
    region: str = ""
    zone: str = ""
    instance_type: str = ""
    accelerator: str | None = None  # canonical catalog name
    accelerator_count: int = 0
    rank: int = 0  # which entry of the asked accelerators it satisfies, 0 the most wanted
    usd_per_hour: float | None = None  # None: unknown, never zero
    price_source: str = ""
    price_at: str = ""  # RFC 3339
    spot: bool = False
    simulated: bool = False
    features: frozenset[Feature] = frozenset()
    settle_s: float = 0.0  # how long an unanswered create may still take effect
    image_digest: str = ""  # of the image that was asked for, where it is on the machine already: no PULL_FIRST then
    blocked: str = ""  # why it is not to be tried now: what the cloud refused lately
    blocked_until: str = ""  # RFC 3339

    @property
    def place(self) -> str:
        """For people: `ec2 us-east-1 g5.xlarge`."""
        return " ".join(part for part in (self.platform, self.zone or self.region, self.instance_type) if part)

    @property
    def market(self) -> str:
        """`spot` or `on-demand`."""
        return "spot" if self.spot else "on-demand"

    @property
    def family(self) -> str:
        """`g5` of g5.xlarge, `a2` of a2-highgpu-1g."""
        return re.split(r"[.+-]", self.instance_type)[0]

    @property
    def pool(self) -> str:
        """What is sold out when this is: market, instance type and place."""
        parts = (self.market, self.instance_type, self._size, _plain(self.zone or self.region))
        return "/".join(part for part in parts if part)

    @property
    def _size(self) -> str:
        """`x8`: some clouds have one type for any number of accelerators."""
        return f"x{self.accelerator_count}"

    def within(self, scope: str) -> bool:
        """True when a scope is about this offer: parts of what it is, separated by `/`, in any order.

        Such parts are the account, the region, the zone, the instance type, its family (`p5en`) and the letters that
        this begins with (`p`), the accelerator, and `spot` or `on-demand`: `us-east-1/p/spot`.
        """
        letters = re.match(r"[a-z]*", self.family)
        known = {self.account, self.region, self.zone, self.instance_type, self.family, self.accelerator, self.market}
        known |= {letters[0] if letters else None, self._size, _plain(self.zone), _plain(self.region)}
        return bool(scope) and all(part and part in known for part in scope.split("/"))


def _plain(place: str) -> str:
    """A place as part of a scope, whose parts `/` separates: RunPod's have one."""
    return place.replace("/", ":")


class Exit(Record):
    """How a command ended."""

    code: int
    at: str  # RFC 3339, by the machine's clock
    oom: bool = False
    wrong_machine: str = ""  # why its program cannot run on such a machine at all


class InstanceState(StrEnum):
    """What a platform says of an instance. Total: a word that a cloud never sent before is UNKNOWN."""

    BOOTING = "booting"
    READY = "ready"  # `start` may be called
    RUNNING = "running"  # the command runs
    EXITED = "exited"  # the command ended; the instance is still there
    PREEMPTED = "preempted"  # the cloud took it back
    DELETING = "deleting"
    UNKNOWN = "unknown"


class Instance(Record):
    """What was rented."""

    key: str  # the idempotency key under which it was rented
    id: str  # the platform's own id
    account: str  # the handle is meaningless in any other account
    identity: str = ""  # the account as the cloud names it: Engine id, STS account, machine and boot
    region: str = ""
    zone: str = ""
    state: InstanceState = InstanceState.BOOTING
    run: str | None = None  # token of the latest start of the command; None before the first
    exit: Exit | None = None  # of that run
    workflow: str = ""  # tag nebulous-workflow
    life: str = ""  # tag nebulous-id
    install: str = ""  # tag nebulous-install
    ip: str | None = None
    public_ports: list[PublicPort] = Field(default_factory=list[PublicPort])
    image_digest: str = ""  # of the image that its command was started from, where no offer told it before
    message: str = ""  # the platform's last words
    created_at: str = ""


class PathStat(Record):
    """What is at a path in an instance. Links are followed, except that `link` says whether the path itself is one."""

    kind: Literal["file", "folder", "other", "dangling"]  # dangling: a link to nothing
    link: bool = False
    size: int = 0
    mode: int = 0  # permission bits
    modified_at: int = 0  # unix seconds


class AcceleratorUsage(Record):
    """How busy one accelerator is; None is what nobody tells."""

    index: int
    name: str
    percent: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None


class Usage(Record):
    """What a running command uses at a moment."""

    at: str  # RFC 3339
    cpu_percent: float | None = None  # of one processor: two busy ones are 200
    memory_bytes: int
    memory_limit_bytes: int | None = None
    accelerators: list[AcceleratorUsage] = []
    simulated: bool = False


class Rental(Record):
    """The recorded intent to rent, and what came of it. Leaves the state only on proof of absence."""

    key: str
    offer: Offer
    attempt: int
    since: str  # when the intent was recorded, RFC 3339
    instance_id: str | None = None  # None until `create` answered
    identity: str = ""
    answered: bool = False
    failures: int = 0  # fruitless rounds of giving it back
    sent_at: float | None = None  # unix time of the last possible send of an unanswered create


class Observation(Record):
    """What a sweep saw. Dropped unless `key` is a current rental and `run`, if given, the current one."""

    key: str
    instance_id: str
    state: Literal[
        "booting",
        "ready",
        "running",
        "exited",
        "preempted",
        "lost",
        "unknown",
        "deleting",
        "healthy",
        "unhealthy",
        "idle",
    ]
    run: str | None = None
    exit: Exit | None = None
    message: str = ""
    ip: str | None = None


class PlatformReport(Record):
    """What a worker knows of one platform account; memo of the entity `platform/{account}`."""

    platform: str
    account: str
    queue: str
    features: frozenset[Feature] = frozenset()
    simulated: bool = False
    configured: bool = True  # False: it once was; its worker stays until everything rented is given back
    disabled: str | None = None  # why it cannot be used now, and what to do
    hint: str | None = None  # what of `disabled` says what to do
    accelerators: list[str] = Field(default_factory=list[str])  # "count:NAME", what it may offer
    regions: list[str] = Field(default_factory=list[str])
    detail: str = ""  # version, host
    swept_at: str | None = None
    alarm: str | None = None  # why the sweep destroys nothing just now
    orphans: list[str] = Field(default_factory=list[str])  # ours, without a live owner; destroyed after a grace
    foreign: list[str] = Field(default_factory=list[str])  # of other installs; never touched

    @property
    def reason(self) -> str | None:
        """Why it cannot be used now, without what to do."""
        return self.disabled and self.disabled.removesuffix(f" ({self.hint})")
