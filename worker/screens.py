"""What `nebu serve` tells the person who typed it: one screen at the start, one at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROWS_AT_MOST = 10
SERVER_VARIABLES = ("NEBU_SERVER", "NEBU_API_KEY")


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
    if running := _containers(known):
        rows.append(("From before", f"{_count(running)} going on{_price(running)}: nebu get containers -A"))
    rows += [("Note", note) for note in notes]
    named = "" if real else " --platform sim"
    return "\n".join(
        [
            "",
            *(f"  {label:<12} {text}" for label, text in rows),
            "",
            f"Next, in another terminal:  nebu create container --name hello --cmd 'echo hello'{named} --wait",
            "Ctrl-C stops Nebulous, never your containers.",
        ]
    )


def farewell(known: Mapping[str, Any] | None) -> str:
    """What goes on without us, where, and at what price.

    Args:
        known: What GET /v1/doctor said last; None when it did not answer any more.
    """
    if known is None:
        return (
            "Stopped. What still runs could not be asked: after the next `nebu serve`, nebu get containers -A shows it."
        )
    running = _containers(known)
    if not running:
        return "Stopped. Nothing of yours is running."
    go = "goes" if len(running) == 1 else "go"
    lines = [f"Stopped. {_count(running)} {go} on{_price(running)}; the next `nebu serve` picks them up again:"]
    lines += [f"  {name} on {_where(rentals)}" for name, rentals in list(running.items())[:ROWS_AT_MOST]]
    if len(running) > ROWS_AT_MOST:
        lines.append(f"  and {len(running) - ROWS_AT_MOST} more")
    return "\n".join(lines)


def _names(reports: Any) -> str:  # noqa: ANN401 - an iterable of JSON objects
    return ", ".join(dict.fromkeys(str(report["platform"]) for report in reports))


def _containers(known: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What is rented, by container: one that fails over may hold two machines for a while."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows: list[dict[str, Any]] = known.get("running") or []
    for row in rows:
        found.setdefault(f"{row['owner']}/{row['namespace']}/{row['name']}", []).append(row)
    return found


def _count(containers: Mapping[str, Any]) -> str:
    return "1 container" if len(containers) == 1 else f"{len(containers)} containers"


def _price(containers: Mapping[str, list[dict[str, Any]]]) -> str:
    """Real money only; a price that nobody knows is said, not counted as nothing."""
    rentals = [row for rows in containers.values() for row in rows if not row.get("simulated")]
    cost = sum(row.get("usd_per_hour") or 0.0 for row in rentals)
    unknown = sum(row.get("usd_per_hour") is None for row in rentals)
    words = [f"${cost:.2f}/h"] if cost else []
    words += [f"{unknown} at a price that is not known"] if unknown else []
    return f" ({', '.join(words)})" if words else ""


def _where(rentals: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(
        f"{row['platform']}"
        + (" (simulated)" if row.get("simulated") else "")
        + (f" at ${row['usd_per_hour']:.2f}/h" if row.get("usd_per_hour") else "")
        for row in rentals
    )
