"""The contract of a cloud that rents bare machines: it only rents; `machines.py` makes a platform of it.

A machine is described by an `Instance` whose state says what the cloud says of the *machine*: BOOTING until it runs,
READY while it does, then PREEMPTED, DELETING, or UNKNOWN for a word that was never seen before. What runs in it is
nobody's business here. Raises only `NebulousError`, translated once, by the tables of the cloud's own errors file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from activities.platforms.base import Ask
from nebulous.models.container_fields import Port
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, Offer

SSH_PORT = 22


@dataclass(frozen=True)
class Order:
    """What to rent for a launch, the same to the byte whenever it is asked for again under the same key."""

    launch: Launch
    tags: dict[str, str]  # on everything that is rented; `nebulous.ids` has their names
    user_data: str  # a script that the machine runs as root at its first boot; holds nothing secret
    disk_gib: int  # for image, container and what it writes
    lifetime_s: int | None = None  # after which the cloud itself should end the machine, where it can
    ports: list[Port] = field(default_factory=list[Port])  # that the world may reach: those declared public


class MachineCloud(Protocol):
    """One account of a cloud that rents machines; stateless, USD per hour."""

    type: str
    account: str
    #: How long after an unanswered `rent` something may still appear, in seconds.
    settle_s: float
    #: True when it rents machines that it may take back.
    sells_spot: bool
    busy_interval: float
    idle_interval: float

    async def identity(self) -> str:
        """Name the account as the cloud does: STS account, project number.

        Raises:
            AuthFailed: The credential is refused or missing. Unavailable: no answer.
        """
        ...

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what can be rented for `ask`, best first, with zones; `features` are set by the caller.

        Raises:
            Rejected: This cloud can never satisfy it; the hint names the nearest that it has.
        """
        ...

    async def rent(self, order: Order, offer: Offer) -> Instance:
        """Rent one machine, tagged, under `order.launch.key`; return at once. Idempotent on the key.

        Its firewall lets in SSH from this worker's address, and everybody to `order.ports`.

        Raises:
            OutOfCapacity, QuotaExceeded, AuthFailed, Rejected: nothing was rented.
            Unavailable: it may have been rented; find out with `find`.
        """
        ...

    async def find(self, key: str) -> list[Instance]:
        """Look up what is rented under the key and not gone; the empty list proves absence in this account."""
        ...

    async def delete(self, key: str) -> None:
        """Ask for the end of everything rented under the key; the gone is success."""
        ...

    async def owned(self) -> list[Instance]:
        """List every machine that carries our tags, of any install; one paginated list for each place in use."""
        ...

    async def announced(self, machine: Instance) -> list[str]:
        """The SSH host keys (`ssh-ed25519 AAAA…`) that the machine wrote on its console as `nebulous-host-key: …`.

        Empty while it has said nothing yet, and where there is no such channel.
        """
        ...

    async def admit(self, machine: Instance) -> None:
        """Let this worker's present address reach the machine's SSH port; idempotent, for when a line cannot be had."""
        ...

    async def missing_permissions(self) -> list[str]:
        """The permissions that the credential lacks, as the cloud calls them; found out without renting.

        Raises:
            AuthFailed: The credential is refused. Unavailable: no answer.
        """
        ...

    async def quotas(self) -> dict[str, float]:
        """How much may be rented, by `PLACE QUOTA`; empty where the credential may not ask."""
        ...

    async def images(self) -> str:
        """Whether the images that machines boot from can be had: "" when they can, else why not."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
