"""What RunPod rents now: its catalog has prices and how much is there, by data centre; asked for at most once a minute.

REST v2 has no spot pods. A GPU's price is for one; CPU pods are sold by flavor and number of processors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from activities.platforms import shelf
from activities.platforms.base import Ask
from activities.platforms.runpod_api import RunpodApi, Shared
from activities.platforms.runpod_pod import COMMUNITY
from activities.platforms.shelf import Goods, Wanted
from nebulous.accounts import RunpodAccount
from nebulous.catalog import Shape
from nebulous.catalog.prices import Price
from nebulous.errors import Rejected
from nebulous.models.platforms import Offer

FRESH_S = 60.0
SOURCE = "RunPod catalog"
STOCK = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}  # anything else is none
LEAST_VCPUS = 2


@dataclass(frozen=True)
class _Page:
    rows: list[dict[str, Any]]
    at: float  # monotonic
    stamp: str


@dataclass(frozen=True)
class _Stocked:
    stock: int
    goods: Goods


class RunpodOffers:
    """The catalog of one account."""

    def __init__(self, api: RunpodApi, account: RunpodAccount, name: str, settle_s: float) -> None:
        self._api = api
        self._account = account
        self._name = name
        self._settle_s = settle_s
        self._pages: dict[tuple[str, str, int], _Page] = {}
        self._asking: dict[tuple[str, str, int], Shared[_Page]] = {}

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what can be rented for the ask, best first; what is in short supply after what is not, at one price.

        Raises:
            Rejected: RunPod never has it.
        """
        if ask.spot:
            raise Rejected("RunPod's API rents no spot pods any more", "leave out spot, or name another platform")
        found = await (self._gpus(ask) if ask.accelerators else self._cpus(ask))
        goods = [each.goods for each in sorted(found, key=lambda each: each.stock)]
        return shelf.offers("runpod", self._name, ask, goods, self._settle_s)

    async def _gpus(self, ask: Ask) -> list[_Stocked]:
        regions = self._regions(ask)
        found: list[_Stocked] = []
        for wanted in shelf.wanted("runpod", ask, self._account.regions):
            for cloud in self._clouds:
                page = await self._page("gpus", cloud, wanted.shape.count)
                row = next((row for row in page.rows if row.get("id") == wanted.shape.type), None)
                if row and int(_part(row, "maxCount").get(cloud.lower()) or 0) >= wanted.shape.count:
                    each = _part(row, "price").get(cloud.lower())
                    price = Price(each * wanted.shape.count, SOURCE, page.stamp) if each else None
                    found += _stocked(row, wanted, price, regions, cloud)
        return found

    async def _cpus(self, ask: Ask) -> list[_Stocked]:
        if self._account.cloud == COMMUNITY:
            raise Rejected("RunPod's community cloud has no pods without a GPU", "use an account with cloud: SECURE")
        regions, found = self._regions(ask), list[_Stocked]()
        page = await self._page("cpus", "", 0)
        fitting = [(row, count) for row in page.rows if (count := _processors(row, ask))]
        if page.rows and not fitting:
            raise Rejected("RunPod has no pod without a GPU of this size", "ask for less cpu or memory")
        for row, count in fitting:
            each = _part(row, "price").get("securePerVcpu")
            price = Price(each * count, SOURCE, page.stamp) if each else None
            memory = float(row.get("ramGbPerVcpu") or 0) * count
            shape = Shape("runpod", f"{row['id']}:{count}", "", 0, count, memory, ("od",), ())
            found += _stocked(row, Wanted(0, shape), price, regions, "SECURE")
        return found

    @property
    def _clouds(self) -> list[str]:
        return ["SECURE", COMMUNITY] if self._account.cloud == "ANY" else [self._account.cloud]

    def _regions(self, ask: Ask) -> set[str] | None:
        """Where it may be, in small letters; None is anywhere.

        Raises:
            Rejected: Nowhere.
        """
        asked = {region.casefold() for region in ask.regions}
        ours = {region.casefold(): region for region in self._account.regions}
        if asked and ours and not asked & ours.keys():
            raise Rejected(
                f"the account uses {', '.join(sorted(ours.values()))} only",
                "ask for one of these, or leave regions: out",
            )
        return (asked & ours.keys() if asked and ours else asked or set(ours)) or None

    async def _page(self, kind: str, cloud: str, count: int) -> _Page:
        name = (kind, cloud, count)
        page = self._pages.get(name)
        if page and time.monotonic() - page.at < FRESH_S:
            return page
        shared = self._asking.setdefault(name, Shared(lambda: self._read(*name), 0.0))
        page = self._pages[name] = await shared.get()
        return page

    async def _read(self, kind: str, cloud: str, count: int) -> _Page:
        params = {"include": "AVAILABILITY", "product": "POD"}
        params |= {"cloud": cloud} if cloud else {}
        params |= {"count": str(count)} if count else {}
        found = await self._api.call("GET", f"/v2/catalog/{kind}", "reading the catalog", params=params)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        return _Page(cast("list[dict[str, Any]]", found.get(kind) or []), time.monotonic(), stamp)

    async def close(self) -> None:
        """Ask no more."""
        for shared in self._asking.values():
            await shared.close()


def _stocked(
    row: dict[str, Any], wanted: Wanted, price: Price | None, regions: set[str] | None, cloud: str
) -> Iterable[_Stocked]:
    """One for each data centre that has it; the community's machines are in none that can be named."""
    places = cast("list[dict[str, Any]]", row.get("dataCenters") or [])
    if not places and regions is None:
        places = [{"id": "", "availability": row.get("availability")}]
    for place in places:
        where, stock = str(place.get("id") or ""), STOCK.get(str(place.get("availability")))
        if stock is not None and (regions is None or where.casefold() in regions):
            zone = f"{where}/{COMMUNITY}".lstrip("/") if cloud == COMMUNITY else ""
            yield _Stocked(stock, Goods(wanted, where, zone, price))


def _processors(row: dict[str, Any], ask: Ask) -> int | None:
    """The fewest of this flavor that suffice: RunPod sells powers of two."""
    range_, memory = _part(row, "vcpu"), float(row.get("ramGbPerVcpu") or 0)
    least = max(LEAST_VCPUS, math.ceil(ask.min_cpu or 0), int(range_.get("min") or 0))
    if ask.min_memory:
        least = max(least, math.ceil(ask.min_memory / memory)) if memory else least
    count = 1 << (least - 1).bit_length()
    return count if count <= int(range_.get("max") or 0) else None


def _part(row: dict[str, Any], name: str) -> dict[str, Any]:
    found = row.get(name)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
