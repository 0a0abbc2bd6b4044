"""`nebu get accelerators` and `nebu get platforms`: what could be rented, and where."""

from __future__ import annotations

from collections.abc import Callable

from nebulous.cli.screen import emit, note, structured
from nebulous.cli.tables import NOTHING, table
from nebulous.client import Api, Json

#: every word that people may write -> the route
TABLES = {
    **dict.fromkeys(("accelerators", "accelerator", "acc"), "accelerators"),
    **dict.fromkeys(("platforms", "platform", "plat"), "platforms"),
}


def show(what: str, api: Api, platform: str | None, output: str) -> None:
    """Print one of the two tables, or the API's reply."""
    rows: list[Json] = api.read(f"/v1/{what}", platform=platform)[what]
    if output in {"json", "yaml"}:
        emit(structured({what: rows}, output))
    elif output == "name":
        for row in rows:
            emit(str(row.get("name") or row.get("account")))
    elif not rows:
        note(f"no {what}" + (f" on {platform}" if platform else ""))
    else:
        emit(_RENDERERS[what](rows))


def platforms_table(rows: list[Json]) -> str:
    """Which platforms there are, and why one is not usable."""
    spread = any(row.get("regions") for row in rows)
    armed = any(row.get("accelerators") for row in rows)
    busy = any(row.get("load") for row in rows)
    headers = (
        "PLATFORM",
        "USABLE",
        "ACCOUNT",
        *(("REGIONS",) if spread else ()),
        *(("HAS",) if armed else ()),
        *(("LOAD",) if busy else ()),
        "DETAIL",
    )
    return table(headers, [_platform(row, spread, armed, busy) for row in rows])


def _platform(row: Json, spread: bool, armed: bool, busy: bool) -> list[str]:
    name = str(row["platform"])
    why = row.get("alarm") or row.get("detail") or ""
    if not row["usable"]:
        why = "; ".join(word for word in (row.get("reason"), row.get("hint")) if word)
    return [
        f"{name} (simulated)" if row.get("simulated") and name != "sim" else name,
        "yes" if row["usable"] else "no",
        str(row.get("account") or NOTHING),
        *([_some(row.get("regions") or [], 3)] if spread else []),
        *([", ".join(row.get("accelerators") or []) or NOTHING] if armed else []),
        *([_load(row.get("load"))] if busy else []),
        str(why or NOTHING),
    ]


def _load(load: Json | None) -> str:
    """`0.5 of 8 CPUs, 3 containers, 1 of 4 GPUs held`."""
    if load is None:
        return NOTHING
    average = NOTHING if load["average"] is None else f"{load['average']:.1f}"
    parts = [f"{average} of {load['processors']} CPUs", f"{load['containers']} running"]
    if load["accelerators"]:
        parts.append(f"{load['accelerators_held']} of {load['accelerators']} GPUs held")
    return ", ".join(parts)


def accelerators_table(rows: list[Json]) -> str:
    """What there is, and how many of it each platform rents at once."""
    return table(("NAME", "MEMORY", "VENDOR", "PLATFORMS", "ALSO CALLED"), [_accelerator(row) for row in rows])


def _accelerator(row: Json) -> list[str]:
    where: dict[str, list[int]] = row.get("platforms") or {}
    return [
        str(row["name"]),
        f"{row['memory_gib']:g} GiB" if row.get("memory_gib") else NOTHING,
        str(row.get("vendor") or NOTHING),
        "; ".join(_counts(name, counts) for name, counts in where.items()) or NOTHING,
        _some(row.get("aliases") or [], 3),
    ]


def _counts(platform: str, counts: list[int]) -> str:
    """`ec2 1,4,8`; an unbroken row as `runpod 1-10`."""
    if len(counts) > 2 and counts == list(range(counts[0], counts[-1] + 1)):
        return f"{platform} {counts[0]}-{counts[-1]}"
    return f"{platform} {','.join(map(str, counts))}".rstrip()


def _some(words: list[str], count: int) -> str:
    more = f" +{len(words) - count}" if len(words) > count else ""
    return (", ".join(words[:count]) + more) or NOTHING


_RENDERERS: dict[str, Callable[[list[Json]], str]] = {
    "platforms": platforms_table,
    "accelerators": accelerators_table,
}
