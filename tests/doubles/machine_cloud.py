"""A cloud in memory that rents guests: what `MachinePlatform` needs of one, and nothing of any real cloud's API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from activities.platforms.base import Ask
from activities.platforms.machine_cloud import Order
from nebulous.errors import Rejected
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.models.platforms import Instance, InstanceState, Offer
from tests.doubles.guests import Guest, Guests

PRICES = {"big": 0.4, "small": 0.04}
IDENTITY = "project-1"


@dataclass
class Rented:
    """A machine, or what only looks like one where there are no guests."""

    id: str
    order: Order
    offer: Offer
    guest: Guest | None = None
    address: str | None = None
    state: InstanceState = InstanceState.READY


@dataclass
class World:
    """What all clients of the account see."""

    guests: Guests | None = None
    rented: list[Rented] = field(default_factory=list[Rented])
    announces: bool = True  # host keys, on a console that the cloud shows
    sent: list[Order] = field(default_factory=list[Order])
    admitted: list[str] = field(default_factory=list[str])
    denied: list[str] = field(default_factory=list[str])  # permissions
    quotas: dict[str, float] = field(default_factory=dict[str, float])
    imageless: str = ""  # why there is no image
    next_address: str | None = None
    born: InstanceState = InstanceState.READY  # what it says of a new machine

    def of(self, key: str) -> Rented:
        (found,) = [each for each in self.rented if each.order.launch.key == key]
        return found

    def guest(self, key: str) -> Guest:
        found = self.of(key).guest
        assert found
        return found

    def there(self) -> list[Rented]:
        """A machine that was killed or has switched itself off is gone."""
        self.rented = [each for each in self.rented if each.guest is None or each.guest.alive]
        return self.rented


class MemoryCloud:
    """One client of it; implements `MachineCloud`."""

    type = "ec2"  # whose metadata the guests have
    account = "ec2:memory"
    settle_s = 0.0
    sells_spot = True
    busy_interval = 0.5
    idle_interval = 2.0

    def __init__(self, world: World) -> None:
        self.world = world
        self._renting = asyncio.Lock()

    async def identity(self) -> str:
        return IDENTITY

    async def offers(self, ask: Ask) -> list[Offer]:
        if ask.accelerators:
            raise Rejected(f"this cloud has no {' or '.join(ask.accelerators)}", "leave accelerators: out")
        limit = ask.max_usd_per_hour
        return [
            Offer(platform=self.type, account=self.account, region="here", instance_type=name, usd_per_hour=price)
            for name, price in sorted(PRICES.items(), key=lambda each: each[1])
            if limit is None or price <= limit
        ]

    async def rent(self, order: Order, offer: Offer) -> Instance:
        async with self._renting:
            self.world.sent.append(order)
            known = [each for each in self.world.there() if each.order.launch.key == order.launch.key]
            if not known:
                known = [Rented(f"m-{len(self.world.sent):04}", order, offer, state=self.world.born)]
                if self.world.guests:
                    address, self.world.next_address = self.world.next_address, None
                    boot = self.world.guests.boot
                    known[0].guest = await asyncio.to_thread(boot, known[0].id, order.user_data, address)
                    known[0].address = known[0].guest.address
                self.world.rented.append(known[0])
            return self._seen(known[0])

    async def find(self, key: str) -> list[Instance]:
        return [self._seen(each) for each in self.world.there() if each.order.launch.key == key]

    async def delete(self, key: str) -> None:
        for each in [each for each in self.world.there() if each.order.launch.key == key]:
            if each.guest:
                await asyncio.to_thread(each.guest.kill)
            self.world.rented.remove(each)

    async def owned(self) -> list[Instance]:
        return [self._seen(each) for each in self.world.there()]

    async def announced(self, machine: Instance) -> list[str]:
        guest = self.world.of(machine.key).guest if self.world.announces else None
        lines = guest.console().splitlines() if guest else []
        sign = "nebulous-host-key: "
        return [line.removeprefix(sign) for line in lines if line.startswith(sign)]

    async def admit(self, machine: Instance) -> None:
        self.world.admitted.append(machine.id)

    async def missing_permissions(self) -> list[str]:
        return list(self.world.denied)

    async def quotas(self) -> dict[str, float]:
        return self.world.quotas

    async def images(self) -> str:
        return self.world.imageless

    async def close(self) -> None:
        pass

    def _seen(self, rented: Rented) -> Instance:
        tags = rented.order.tags
        return Instance(
            key=tags[TAG_KEY],
            id=rented.id,
            account=self.account,
            identity=IDENTITY,
            region="here",
            state=rented.state,
            workflow=tags[TAG_WORKFLOW],
            life=tags[TAG_ID],
            install=tags[TAG_INSTALL],
            ip=rented.address,
        )
