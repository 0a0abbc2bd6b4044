"""The contract of a platform: something that rents instances, and on docker, local and sim runs them too.

A platform is stateless: no database, no user, no Temporal. It raises only `NebulousError`. What it can do
beyond this contract is data (`features`). One contract test, `tests/activities/platforms/contract.py`, runs
against every platform.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, Offer, Usage

#: Called with the words that `describe` shows while something long goes on, for example `pulling 42 %`.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Ask:
    """What an offer must satisfy."""

    accelerators: list[str] = field(default_factory=list[str])  # "COUNT:NAME" in order of preference
    spot: bool = False
    regions: list[str] = field(default_factory=list[str])
    max_usd_per_hour: float | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])  # sim reads its script here


@dataclass(frozen=True)
class Command:
    """What to run in an instance, secrets resolved."""

    env: dict[str, str]
    registry_username: str | None = None
    registry_password: str | None = None


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

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> None:
        """Bring the image to the machine, where that must precede `create` (Feature.PULL_FIRST); idempotent.

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

    async def start(self, instance: Instance, launch: Launch, command: Command) -> Instance:
        """Start the command, unless it was started since `instance.run`; return the instance with its new `run`.

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
class Watches(Protocol):
    """A platform that pushes changes (Feature.WATCH)."""

    def watch(self) -> AsyncIterator[Instance]:
        """Yield each instance of ours as it changes, within milliseconds; ends or raises when the stream breaks."""
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
