"""What `nebu doctor` says of an account: which permissions are missing, and which quotas leave nothing to rent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from activities.platforms.base import Check

PLACES_NAMED = 3


def permissions(missing: Iterable[str]) -> Check:
    """Whether the credential may do all that renting takes."""
    named = ", ".join(missing)
    if not named:
        return Check("permissions", ok=True, text="all that renting takes")
    return Check("permissions", ok=False, text=f"missing: {named}", advice="docs/clouds.md has what to grant")


def quotas(found: Mapping[str, float]) -> Check | None:
    """Which quotas are zero, each with the places where; None where nobody may know.

    Args:
        found: How much may be rented, by `PLACE QUOTA`.
    """
    if not found:
        return None
    empty: dict[str, list[str]] = {}
    for name, amount in found.items():
        place, _, quota = name.partition(" ")
        if amount <= 0:
            empty.setdefault(quota, []).append(place)
    if not empty:
        return Check("quotas", ok=True, text="none is zero")
    words = "; ".join(f"{quota} in {_some(sorted(places))}" for quota, places in sorted(empty.items()))
    # Every account has some: what nobody asked for is no fault.
    return Check("quotas", ok=True, text=f"nothing may be rented of {words}")


def _some(places: list[str]) -> str:
    more = f" and {len(places) - PLACES_NAMED} more" if len(places) > PLACES_NAMED else ""
    return ", ".join(places[:PLACES_NAMED]) + more
