"""Short words for the tests of the simulated cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from activities.platforms.base import Ask, Command, Platform
from activities.platforms.sim import SimPlatform
from nebulous import ids
from nebulous.models.containers import Launch
from nebulous.models.platforms import Offer
from nebulous.models.resources import Metadata
from nebulous.settings import SimOffer, SimSettings

NOTHING = Command(env={})


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def __iadd__(self, seconds: float) -> Clock:
        self.now += seconds
        return self


def launch(attempt: int = 1, life: str | None = None, **script: str) -> Launch:
    labels = {f"sim.nebulous/{name}": value for name, value in script.items()}
    life = life or ids.new_id()
    return Launch(
        metadata=Metadata(name="c", namespace="default", owner="local", id=life, labels=labels),
        spec={"image": "busybox", "command": "true"},
        key=f"nebu-{ids.new_id()}",
        install="testinstall2",
        workflow="container/local/default/c",
        attempt=attempt,
    )


def simulated(cloud: str, tmp_path: Path, offers: list[SimOffer] | None = None) -> SimPlatform:
    return SimPlatform(cloud, "host", tmp_path, SimSettings(offers=offers))


async def offer_of(cloud: Platform, *accelerators: str) -> Offer:
    return (await cloud.offers(Ask(accelerators=list(accelerators))))[0]


async def rent(cloud: Platform, what: Launch) -> Any:
    (instance,) = await cloud.create(what, await offer_of(cloud), NOTHING)
    return instance


async def run(cloud: Platform, clock: Clock, what: Launch) -> Any:
    instance = await rent(cloud, what)
    clock += 2
    return await cloud.start(instance, what, NOTHING)


async def seen(cloud: Platform, what: Launch) -> Any:
    (instance,) = await cloud.find(what.key)
    return instance
