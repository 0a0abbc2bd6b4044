"""What machines cost: bundled on-demand prices with their date and source. Unknown is None, never zero.

`prices.json` is made by `build_prices.py` and read on first use. What a cloud tells an account itself is newer: the
platforms ask for that first, where their credentials allow it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

SOURCE = Path(__file__).with_name("prices.json")
BUNDLED = "bundled"  # what people read as the source; where that is from, the file says


@dataclass(frozen=True)
class Price:
    """What a machine costs while it is rented, accelerators and all."""

    usd_per_hour: float
    source: str  # for people: `EC2 spot history`, `bundled`
    at: str  # when it held, RFC 3339


class Bundle(TypedDict):
    """The file."""

    sources: list[dict[str, str]]
    prices: dict[str, dict[str, dict[str, dict[str, float]]]]  # platform -> region -> source -> type -> USD an hour


@cache
def load() -> Bundle:
    """Read the file; a few milliseconds, once a process."""
    return json.loads(SOURCE.read_text())


def bundled(platform: str, instance_type: str, region: str, *, spot: bool = False) -> Price | None:
    """What it cost when the bundled prices were collected; None when they do not know it.

    Args:
        platform: ec2 or gce.
        instance_type: As the cloud calls it; what is attached to a machine of GCE is not in its price.
        region: Not a zone.
        spot: Spot prices are never bundled: they change by the day.
    """
    if spot:
        return None
    bundle = load()
    for number, prices in bundle["prices"].get(platform, {}).get(region, {}).items():
        if instance_type in prices:
            return Price(prices[instance_type], BUNDLED, bundle["sources"][int(number)]["at"])
    return None
