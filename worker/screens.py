"""What `nebu serve` tells the person who typed it: one screen at the start, a few lines at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nebulous.ids import DEFAULT_NAMESPACE, LOCAL_ORGANIZATION

NAMED_AT_MOST = 5  # containers; `nebu get containers -A` has them all


def welcome(places: Mapping[str, str], known: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """Where everything is, what is usable, what goes on from before, and what to type next.

    Args:
        places: What to show first, by its label.
        known: What GET /v1/doctor says.
        notes: What else this person should know, a sentence each.
    """
    reports: list[dict[str, Any]] = known["platforms"]
    usable = [report for report in reports if not report["disabled"]]
    real = _names(report for report in usable if not report["simulated"])
    simulated = _names(report for report in usable if report["simulated"])
    rows = [*places.items(), ("Platforms", (real or "none") + (f"; simulated: {simulated}" if simulated else ""))]
    rows += [
        ("Not usable", f"{report['platform']}: {report['disabled']}")
        for report in reports
        if report["disabled"] and report["configured"]
    ]
    rows += [("Note", note) for note in notes]
    lines = [f"  {label:<12} {text}" for label, text in rows]
    if going := _going_on(known):
        lines += ["", f"  {going}, taken up again."]
    where = "" if real else " --platform sim"
    lines += [
        "",
        f"Next, in another terminal:  nebu create container --name hello --cmd 'echo hello'{where} --wait",
        "Ctrl-C stops Nebulous, never your containers.",
    ]
    return "\n".join(["", *lines])


def farewell(known: Mapping[str, Any] | None) -> str:
    """What goes on without us, where, and at what price.

    Args:
        known: What GET /v1/doctor said last; None when it did not answer any more.
    """
    if known is None:
        return (
            "Stopped. Whether anything of yours goes on could not be asked; `nebu serve`, then nebu get containers -A."
        )
    if going := _going_on(known):
        return f"Stopped. {going}; the next `nebu serve` picks that up again."
    return "Stopped. Nothing of yours is running."


def _names(reports: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(report["platform"]) for report in reports))


def _going_on(known: Mapping[str, Any]) -> str:
    """`2 containers go on: a on docker, b on ec2 ($1.20/h)`; "" when nothing is rented."""
    rows: list[dict[str, Any]] = known.get("running") or []
    places: dict[str, list[str]] = {}  # one that fails over may hold two machines for a while
    for row in rows:
        places.setdefault(_name(row), []).append(row["platform"] + (" (simulated)" if row.get("simulated") else ""))
    if not places:
        return ""
    words = [f"{name} on {' and '.join(where)}" for name, where in list(places.items())[:NAMED_AT_MOST]]
    more = f" and {len(places) - NAMED_AT_MOST} more" if len(places) > NAMED_AT_MOST else ""
    count = "1 container goes" if len(places) == 1 else f"{len(places)} containers go"
    return f"{count} on: {', '.join(words)}{more}{_price(rows)}"


def _name(row: Mapping[str, Any]) -> str:
    """The name as `nebu` takes it, with what is not the default."""
    space = "" if row["namespace"] == DEFAULT_NAMESPACE else f" -n {row['namespace']}"
    owner = "" if row["owner"] == LOCAL_ORGANIZATION else f"{row['owner']}/"
    return f"{owner}{row['name']}{space}"


def _price(rows: Sequence[Mapping[str, Any]]) -> str:
    """Real money only; a price that nobody knows is said, not counted as nothing."""
    prices = [row.get("usd_per_hour") for row in rows if not row.get("simulated")]
    cost, unknown = sum(price or 0.0 for price in prices), prices.count(None)
    words = [f"${cost:.2f}/h"] if cost else []
    words += [f"{unknown} at a price nobody knows"] if unknown else []
    return f" ({', '.join(words)})" if words else ""
