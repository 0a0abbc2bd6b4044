"""What machines cost: bundled on-demand prices with their date and source. Unknown is None, never zero."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """What a machine costs while it is rented, accelerators and all."""

    usd_per_hour: float
    source: str  # for people: `EC2 spot history`, `bundled`
    at: str  # when it held, RFC 3339


def bundled(platform: str, instance_type: str, region: str, *, spot: bool = False) -> Price | None:
    """What it cost when the bundled prices were collected; None when they do not know it."""
    return None
