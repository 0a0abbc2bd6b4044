"""What machines of Amazon cost: spot as the market has it now, on demand as Amazon lists it, else as bundled."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from activities.platforms.ec2_api import Api, Fields
from nebulous.catalog import prices
from nebulous.catalog.prices import Price
from nebulous.errors import AuthFailed, NebulousError

log = logging.getLogger(__name__)

SPOT_FRESH_S = 180.0
LISTED_FRESH_S = 86_400.0
NOT_AGAIN_S = 600.0  # after Amazon's list of prices did not answer
FORBIDDEN_S = 3_600.0  # after it was not allowed to be read
LONGEST_WAIT_S = 3.0  # offers are not held up by it: what comes later is there for the next ask
PRICING_REGION = "us-east-1"
LINUX = "Linux/UNIX"


class Prices:
    """Prices of one account, kept as long as they are likely to hold."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._spot: dict[tuple[str, str], tuple[float, dict[str, Price]]] = {}
        self._listed: dict[str, tuple[float, dict[str, Price]]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._quiet_until = 0.0

    async def spot(self, region: str, types: Iterable[str]) -> dict[tuple[str, str], Price]:
        """The latest price of each type in each zone of the region, by (type, zone)."""
        wanted = sorted(set(types))
        stale = [each for each in wanted if not self._fresh(self._spot.get((region, each)), SPOT_FRESH_S)]
        if stale:
            rows = await self._api.pages(
                "DescribeSpotPriceHistory",
                region,
                "SpotPriceHistory",
                {
                    "InstanceTypes": stale,
                    "ProductDescriptions": [LINUX],
                    "StartTime": datetime.now(UTC),  # from now on: what holds now
                },
            )
            for each in stale:
                self._spot[region, each] = (self._clock(), _latest(rows, each))
        return {(each, zone): price for each in wanted for zone, price in self._spot[region, each][1].items()}

    async def listed(self, types: Iterable[str]) -> None:
        """Ask Amazon's price list, where the credential may, for what is not known yet; not for long."""
        for each in set(types):
            stale = not self._fresh(self._listed.get(each), LISTED_FRESH_S)
            if stale and each not in self._asking and self._clock() >= self._quiet_until:
                self._asking[each] = asyncio.create_task(self._ask(each))
        under_way = list(self._asking.values())
        if under_way:
            await asyncio.wait(under_way, timeout=LONGEST_WAIT_S)

    def on_demand(self, instance_type: str, region: str) -> Price | None:
        """As listed, else as bundled; None: nobody knows."""
        kept = self._listed.get(instance_type)
        live = kept[1].get(region) if kept else None
        return live or prices.bundled("ec2", instance_type, region)

    async def close(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _fresh(self, kept: tuple[float, Any] | None, for_s: float) -> bool:
        return kept is not None and self._clock() - kept[0] < for_s

    async def _ask(self, instance_type: str) -> None:
        """Keep a type's price in every region."""
        exactly = {
            "instanceType": instance_type,
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
        }
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in exactly.items()]
        try:
            wanted = {"ServiceCode": "AmazonEC2", "Filters": filters}
            rows = await self._api.pages("GetProducts", PRICING_REGION, "PriceList", wanted, service="pricing")
            self._listed[instance_type] = (self._clock(), _regional(rows))
        except NebulousError as error:
            pause = FORBIDDEN_S if isinstance(error, AuthFailed) else NOT_AGAIN_S
            self._quiet_until = self._clock() + pause
            log.info("Amazon's price list is not to be had, so bundled prices stand: %s", error)
        finally:
            self._asking.pop(instance_type, None)


def _latest(rows: list[Fields], instance_type: str) -> dict[str, Price]:
    """By zone: history comes newest first, but nobody promises so."""
    newest: dict[str, tuple[datetime, Price]] = {}
    for row in rows:
        zone, at, usd = str(row["AvailabilityZone"]), row["Timestamp"], _positive(row.get("SpotPrice"))
        if row["InstanceType"] != instance_type or usd is None or (zone in newest and newest[zone][0] >= at):
            continue
        newest[zone] = (at, Price(usd, "EC2 spot history", _stamp(at)))
    return {zone: price for zone, (_, price) in newest.items()}


def _regional(rows: list[Any]) -> dict[str, Price]:
    """By region: each row is a document in a string, with one rate per hour; others are reserved or unused."""
    found: dict[str, Price] = {}
    now = _stamp(datetime.now(UTC))
    for row in rows:
        document = json.loads(row) if isinstance(row, str) else row
        region = document.get("product", {}).get("attributes", {}).get("regionCode")
        for term in document.get("terms", {}).get("OnDemand", {}).values():
            for rate in term.get("priceDimensions", {}).values():
                usd = _positive(rate.get("pricePerUnit", {}).get("USD"))
                if region and usd is not None and rate.get("unit") == "Hrs":
                    found[region] = Price(usd, "EC2 price list", now)
    return found


def _positive(text: object) -> float | None:
    """A price; zero is how Amazon writes that there is none."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if value > 0 else None


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
