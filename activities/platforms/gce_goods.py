"""What Google Compute Engine rents where: zones of machine types and accelerators, as it lists them itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from activities.platforms.gce_api import Clients, GceApi
from activities.platforms.gce_machine import region_of
from activities.platforms.gce_shapes import beside
from activities.platforms.shelf import Goods, Wanted
from nebulous.catalog import prices

if TYPE_CHECKING:
    from collections.abc import Iterator

FRESH_S = 24 * 3600.0
PAGE = 500


class GceGoods:
    """Zones of what was asked for, kept for a day."""

    def __init__(self, api: GceApi) -> None:
        """Nothing is asked yet."""
        self._api = api
        self._known: dict[str, tuple[float, frozenset[str]]] = {}  # type or accelerator -> when, zones
        self._asking = asyncio.Lock()

    async def of(self, wanted: list[Wanted], spot: bool) -> list[Goods]:
        """Everything wanted in every zone that has it, with its price.

        Args:
            wanted: Shapes, each with the regions where it may be.
            spot: At which price.
        """
        await self._learn(wanted)
        goods: list[Goods] = []
        for each in wanted:
            for zone in sorted(self._known[_name(each)][1]):
                region = region_of(zone)
                if region in each.shape.regions:
                    price = prices.bundled("gce", each.shape.type, region, spot=spot)
                    goods.append(Goods(each, region, zone, price))
        return goods

    async def _learn(self, wanted: list[Wanted]) -> None:
        async with self._asking:
            now = time.monotonic()
            stale = {
                _name(each): bool(beside(each.shape))
                for each in wanted
                if now - self._known.get(_name(each), (-FRESH_S, frozenset()))[0] >= FRESH_S
            }
            types = sorted(name for name, attached in stale.items() if not attached)
            attached = sorted(name for name, attached in stale.items() if attached)
            zones: dict[str, set[str]] = {name: set() for name in stale}
            for names, listed in ((types, _types), (attached, _accelerators)):
                for name, zone in await self._api.read(lambda clients: list(listed(clients, names))) if names else ():  # noqa: B023 - awaited in the same turn
                    zones.setdefault(name, set()).add(zone)
            self._known |= {name: (now, frozenset(found)) for name, found in zones.items()}


def _name(wanted: Wanted) -> str:
    return beside(wanted.shape) or wanted.shape.type


def _filter(names: list[str]) -> str:
    return " OR ".join(f'(name = "{name}")' for name in names)


def _types(clients: Clients, names: list[str]) -> Iterator[tuple[str, str]]:
    request = {"project": clients.project, "filter": _filter(names), "max_results": PAGE}
    for _, scope in clients.machine_types.aggregated_list(request=request, **clients.reads):
        yield from ((each.name, each.zone.rpartition("/")[2]) for each in scope.machine_types)


def _accelerators(clients: Clients, names: list[str]) -> Iterator[tuple[str, str]]:
    request = {"project": clients.project, "filter": _filter(names), "max_results": PAGE}
    for _, scope in clients.accelerator_types.aggregated_list(request=request, **clients.reads):
        yield from ((each.name, each.zone.rpartition("/")[2]) for each in scope.accelerator_types)
