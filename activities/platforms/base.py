"""The contract of a platform: something that rents instances, and on docker, local and sim runs them too.

A platform is stateless: no database, no user, no Temporal. It raises only `NebulousError`. What it can do
beyond this contract is data (`features`). One contract test, `tests/activities/platforms/contract.py`, runs
against every platform.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from nebulous.errors import Unavailable
from nebulous.lines import LastLines
from nebulous.models.container_fields import HealthCheck
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, Offer, PathStat, Usage

#: Called with the words that `describe` shows while something long goes on, for example `pulling 42 %`.
Progress = Callable[[str], None]


def unheard(words: str) -> None:
    """Progress that nobody follows."""


#: Unix time after which the create of this task may send nothing any more; set by the activity.
SEND_BY: ContextVar[float] = ContextVar("send_by", default=math.inf)
#: Room between the last check of the deadline and the moment the request leaves.
SEND_MARGIN_S = 1.0


def in_time() -> None:
    """Called directly before the request that rents: a worker that slept in between must not rent any more.

    Raises:
        Unavailable: It is too late; the workflow gave up on this create.
    """
    if time.time() + SEND_MARGIN_S > SEND_BY.get():
        raise Unavailable("too late to send: the answer would come after the workflow gave up on it")


@dataclass(frozen=True)
class Ask:
    """What an offer must satisfy."""

    accelerators: list[str] = field(default_factory=list[str])  # "COUNT:NAME" in order of preference
    spot: bool = False
    regions: list[str] = field(default_factory=list[str])
    max_usd_per_hour: float | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])  # sim reads its script here
    image: str = ""  # a platform that can tell says in the offer whether it is there already
    image_digest: str = ""  # what its name meant when this life began
    min_cpu: float | None = None  # processors
    min_memory: float | None = None  # GiB
    disk: float | None = None  # GiB


@dataclass(frozen=True)
class Command:
    """What to run in an instance, secrets resolved."""

    env: dict[str, str]
    registry_username: str | None = None
    registry_password: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What one health check came to."""

    ok: bool
    message: str = ""  # why not
    reached: bool = True  # False: nobody can ask from here, which says nothing about the command


@runtime_checkable
class Platform(Protocol):
    """Something that rents instances: stateless; USD per hour; raises only NebulousError."""

    #: The word users write: docker, local, sim, ec2, …
    type: str
    #: Which account or host of it, for example `docker:1a2b3c4d`; its queue is `platform-{account}`.
    account: str
    features: frozenset[Feature]
    simulated: bool
    #: Seconds between two listings while something changes, and while nothing does.
    busy_interval: float
    idle_interval: float

    async def identity(self) -> str:
        """Name the account as the cloud does (Engine id, STS account, machine and boot id).

        Raises:
            AuthFailed: The credential is refused. Unavailable: no answer (say what to start or set).
        """
        ...

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what can be rented for `ask`, best first: entries in the order written, cheapest first within one.

        Raises:
            Rejected: This platform can never satisfy it; the hint names the nearest that it has.
        """
        ...

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """Bring the image to the machine, where that must precede `create` (Feature.PULL_FIRST); idempotent.

        Returns its digest, "" where there is none. `launch.image_digest` is that of the life so far: the same image is
        brought again as long as anybody has it.

        Raises:
            ImageNotFound: No such image, or not ours to read. Unavailable: the registry does not answer.
        """
        ...

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Rent, tagged, under `launch.key`, and return at once, usually before it is ready; idempotent on the key.

        Raises:
            OutOfCapacity, QuotaExceeded, AuthFailed, Rejected: nothing was rented.
            Unavailable: it may have been rented; find out with `find`.
        """
        ...

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Start the command, unless it was started since `instance.run`; return the instance with its new `run`.

        It may wait for what is on its way, up to a minute and a half a try, as long as `progress` says for what.

        Compare and set: `instance.run` is the run the caller knows (None before the first). If the platform
        already has a later one, that one is returned and nothing is started twice.

        Raises:
            NotReady: still booting. NotFound: the instance is gone.
            Rejected: the command cannot be started (no such program); the hint says what to change.
        """
        ...

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """End the command: SIGTERM, up to `grace_s`, SIGKILL; return the instance, EXITED. Idempotent.

        Raises:
            NotFound: the instance is gone.
        """
        ...

    async def find(self, key: str) -> list[Instance]:
        """Look up what is rented under the key; the empty list proves absence in this account."""
        ...

    async def delete(self, key: str) -> None:
        """Ask for the end of everything rented under the key; the gone is success. Proof is `find` == []."""
        ...

    async def owned(self) -> list[Instance]:
        """List everything that carries our tags, of any install, in one call; feeds the sweep."""
        ...

    def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
        """Stream what the command wrote, stdout and stderr as they came; `follow` ends when the command does.

        Raises:
            NotFound: the instance is gone.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class HasAccelerators(Protocol):
    """A platform that is a machine, and can tell which accelerators are in it."""

    async def accelerators(self) -> list[str]:
        """List them as "COUNT:NAME", by the catalog's names; empty where the driver does not answer."""
        ...


@dataclass(frozen=True)
class Load:
    """How busy a machine is."""

    processors: int
    average: float | None  # of processes that want one, over the last minute; None where it cannot be read
    containers: int  # that run, whoever's they are
    accelerators: int
    accelerators_held: int  # by containers of ours


@runtime_checkable
class HasLoad(Protocol):
    """A platform that is a machine, and can tell how busy it is."""

    async def load(self) -> Load:
        """Look now.

        Raises:
            Unavailable: The machine does not answer.
        """
        ...


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in an account, for `nebu doctor`."""

    subject: str  # permissions, quota, images …
    ok: bool
    text: str
    advice: str = ""


@runtime_checkable
class Diagnoses(Protocol):
    """A platform that can tell whether its account would be allowed to rent, without renting."""

    async def diagnose(self) -> list[Check]:
        """Try what can be tried for nothing: permissions by dry runs, quotas, images.

        Raises:
            AuthFailed: The credential is refused. Unavailable: no answer.
        """
        ...


@runtime_checkable
class KeepsLogs(Protocol):
    """A platform whose logs can be read from any byte on, without reading what is before."""

    def logs_from(self, instance: Instance, offset: int, follow: bool = False) -> AsyncIterator[bytes]:
        """Stream what the command wrote from this byte on, as `logs` does.

        Raises:
            NotFound: the instance is gone.
        """
        ...

    async def last_lines(self, instance: Instance, count: int) -> LastLines:
        """Find where the last lines begin of what is written so far.

        Raises:
            NotFound: the instance is gone.
        """
        ...


@runtime_checkable
class Watches(Protocol):
    """A platform that pushes changes (Feature.WATCH)."""

    def watch(self) -> AsyncIterator[Instance]:
        """Yield each instance of ours as it changes, within milliseconds; ends or raises when the stream breaks."""
        ...


@dataclass(frozen=True)
class Size:
    """Of a terminal, in characters."""

    rows: int = 24
    cols: int = 80


STDOUT, STDERR = 1, 2  # channels of a command's output; with a terminal all of it is STDOUT

#: As shells have it: there is no such program; there is, and it cannot be executed.
NO_PROGRAM, NOT_EXECUTABLE = 127, 126


class Execution(Protocol):
    """A further command in an instance."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (channel, data) as it is written, at the reader's pace, until the command has ended.

        Raises:
            Unavailable: The connection broke, so that there may be more.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Give it input, at its pace; what it does not want any more is dropped."""
        ...

    async def end_input(self) -> None:
        """Let it read the end of its input."""
        ...

    async def resize(self, size: Size) -> None:
        """Tell it that its terminal has another size; without a terminal nothing happens."""
        ...

    async def exit_code(self) -> int:
        """How it ended, once `output` is exhausted; NO_PROGRAM and NOT_EXECUTABLE when it never began."""
        ...


@runtime_checkable
class Executes(Protocol):
    """A platform that runs further commands in an instance (Feature.EXEC)."""

    def execute(
        self, instance: Instance, argv: list[str], size: Size | None = None
    ) -> AbstractAsyncContextManager[Execution]:
        """Run a command beside the container's own, with its environment and folder, as long as the block lasts.

        Leaving the block earlier ends the command. A program that is not there is no error here: it says so on
        STDERR and has the exit code NO_PROGRAM.

        Args:
            instance: Where.
            argv: Program and arguments.
            size: Of the terminal that it gets; None gives it none, and stderr apart.

        Raises:
            Conflict: The container's own command does not run. NotFound: the instance is gone.
        """
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """A platform that copies files (Feature.FILES); paths that are not absolute begin where the command starts."""

    async def stat(self, instance: Instance, path: str) -> PathStat:
        """Tell what is at a path.

        Raises:
            NotFound: Nothing, or the instance is gone.
        """
        ...

    def read_files(self, instance: Instance, path: str) -> AsyncIterator[bytes]:
        """Stream a tar archive of what is at the path; its first entry has the path's last name.

        Raises:
            NotFound: Nothing is there. Unavailable: it broke off.
        """
        ...

    async def write_files(self, instance: Instance, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack a tar archive in the folder at the path, over what is there.

        Raises:
            NotFound: There is no such folder. Rejected: it is none, a folder would replace a file or the other way
            round, an entry leads out of it, or no space is left.
        """
        ...


@runtime_checkable
class Probes(Protocol):
    """A platform that can ask a running command whether it is ready."""

    async def probe(self, instance: Instance, check: HealthCheck, command: Command) -> Verdict:
        """Check once, within the check's time-out; `command` has the environment that the command itself got.

        Raises:
            NotFound: The instance is gone. Unavailable: the platform, not the command, does not answer.
        """
        ...


@runtime_checkable
class Measures(Protocol):
    """A platform that tells what a running command uses (Feature.STATS)."""

    async def usage(self, instance: Instance) -> Usage:
        """Measure now; may take a second or two.

        Raises:
            NotFound: The instance is gone. Conflict: no command runs in it.
        """
        ...
