"""The catalog: what accelerators are called, in which shapes each cloud rents them, and machines without. No prices.

`names.py` understands what people write; this module answers what can be had where. The data is
`accelerators.yaml`, made by `build.py`, and `machines.yaml`, made by `build_machines.py`, read on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import yaml

from nebulous.catalog.names import Names
from nebulous.errors import Rejected
from nebulous.models.base import InvalidDocument, Problem
from nebulous.models.containers import parse_accelerator

SOURCE = Path(__file__).with_name("accelerators.yaml")
MACHINES = Path(__file__).with_name("machines.yaml")


class AcceleratorRow(TypedDict):
    """One accelerator as `nebu get accelerators` lists it."""

    name: str
    vendor: str
    memory_gib: float
    platforms: dict[str, list[int]]  # platform -> how many at once
    aliases: list[str]


@dataclass(frozen=True)
class Shape:
    """Something that a cloud rents: an instance type with `count` accelerators, or none."""

    platform: str
    type: str  # instance type; RunPod has none, and its accelerator id stands here
    accelerator: str  # "" of a machine without
    count: int
    vcpu: int | None
    memory_gib: float | None
    market: tuple[str, ...]
    regions: tuple[str, ...]
    cpu: str = "x86_64"
    fixed: bool = True  # False: processors and memory are only typical, the cloud is asked for as many as are wanted


@dataclass(frozen=True)
class Catalog:
    """The file, indexed."""

    names: Names
    accelerators: dict[str, dict[str, Any]]
    shapes: dict[str, dict[str, list[Shape]]]  # platform -> accelerator -> smallest count first


@cache
def load() -> Catalog:
    """Read the catalog; about 20 ms, once a process."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load(SOURCE.read_text(), Loader=loader)  # noqa: S506 - a safe loader, in C
    accelerators = {row["name"]: row for row in data["accelerators"]}
    shapes = {
        platform: _by_accelerator(platform, rows, accelerators, data["regions"].get(platform, []))
        for platform, rows in data["shapes"].items()
    }
    return Catalog(Names(accelerators, data["families"], data["family_preference"]), accelerators, shapes)


@cache
def machines(platform: str) -> tuple[Shape, ...]:
    """List the machines without accelerators of a cloud, smallest first; none where the catalog cannot tell."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load(MACHINES.read_text(), Loader=loader)  # noqa: S506 - a safe loader, in C
    return tuple(
        Shape(
            platform=platform,
            type=row["type"],
            accelerator="",
            count=0,
            vcpu=row["vcpu"],
            memory_gib=row["memory_gib"],
            market=("od", "spot"),
            regions=tuple(data["regions"][row["regions"]]),
            cpu=row.get("cpu", "x86_64"),
        )
        for row in data["machines"].get(platform, [])
    )


def regions(platform: str) -> list[str]:
    """List the regions of a cloud in which the catalog knows anything."""
    known = [shape for shapes in load().shapes.get(platform, {}).values() for shape in shapes]
    return sorted({region for shape in (*known, *machines(platform)) for region in shape.regions})


def _by_accelerator(
    platform: str, rows: list[dict[str, Any]], accelerators: dict[str, dict[str, Any]], regions: list[str]
) -> dict[str, list[Shape]]:
    found: dict[str, list[Shape]] = {}
    for row in rows:
        if not row["count"]:
            continue  # a slice of an accelerator cannot be asked for
        for count in range(row["count"], row.get("max_count", row["count"]) + 1):
            found.setdefault(row["accelerator"], []).append(_shape(platform, row, count, accelerators, regions))
    return {name: sorted(shapes, key=lambda shape: shape.count) for name, shapes in found.items()}


def _shape(
    platform: str, row: dict[str, Any], count: int, accelerators: dict[str, dict[str, Any]], regions: list[str]
) -> Shape:
    times = count if "type" not in row else 1  # without instance types, sizes are for one accelerator
    return Shape(
        platform=platform,
        type=row.get("type") or accelerators[row["accelerator"]]["ids"][platform][0],
        accelerator=row["accelerator"],
        count=count,
        vcpu=row["vcpu"] * times if "vcpu" in row else None,
        memory_gib=row["memory_gib"] * times if "memory_gib" in row else None,
        market=tuple(row["market"]),
        regions=tuple(row.get("regions", regions)),
        cpu=row.get("cpu", "x86_64"),
        fixed="type" in row,
    )


def lookup(name: str, platform: str | None = None) -> list[str]:
    """List the accelerators that a name means, most wanted first: `A100` gives its four members.

    Args:
        name: A name, alias, family or cloud's id, in any case, with or without vendor words and a memory suffix.
        platform: Where it is wanted: the family members usual there come first.

    Raises:
        Rejected: No such accelerator; the hint names the nearest.
    """
    return load().names.lookup(name, platform)


def resolve(entry: str, platform: str | None = None) -> tuple[int, list[str]]:
    """Read `4:A100` as a count and the accelerators that the name means.

    Raises:
        Rejected: Not COUNT:NAME, or no such accelerator.
    """
    try:
        count, name = parse_accelerator(entry)
    except ValueError as error:
        raise Rejected(str(error)) from error
    return count, lookup(name, platform)


def shapes(platform: str, member: str, count: int | None = None) -> list[Shape]:
    """List the instance types of a cloud with exactly `count` of an accelerator, or with any number of it."""
    known = load().shapes.get(platform, {}).get(member, [])
    return [shape for shape in known if count in (None, shape.count)]


def platforms_with(member: str) -> dict[str, list[int]]:
    """Say which clouds rent an accelerator, and how many at once."""
    counts = {platform: _counts(platform, member) for platform in load().shapes}
    return {platform: found for platform, found in counts.items() if found}


def accelerators(platform: str | None = None) -> list[AcceleratorRow]:
    """List what the known clouds, or one of them, rent out."""
    rows: list[AcceleratorRow] = []
    for name, row in load().accelerators.items():
        where = platforms_with(name)
        if where if platform is None else platform in where:
            rows.append(
                AcceleratorRow(
                    name=name,
                    vendor=row["vendor"],
                    memory_gib=row["memory_gib"],
                    platforms=where,
                    aliases=load().names.also(name),
                )
            )
    return rows


def check_on(platform: str | None, entries: Sequence[str]) -> None:
    """Refuse what the catalog knows to be impossible; platforms it does not know (docker, sim) may have anything.

    Raises:
        Rejected: An entry names no accelerator, or the platform has none of the entries in that number.
    """
    problems: list[Problem] = []
    hints: list[str] = []
    asked: list[tuple[int, str, list[str]]] = []
    for position, entry in enumerate(entries):
        try:
            count, members = resolve(entry, platform)
        except Rejected as error:
            problems.append(Problem(("accelerators", position), error.message))
            hints.append(error.hint or "")
        else:
            asked.append((count, entry.partition(":")[2], members))
    if not problems and platform in load().shapes and asked:
        problems, hints = _nowhere_on(platform, asked)
    if problems:
        raise InvalidDocument(problems, hint="; ".join(dict.fromkeys(filter(None, hints))) or None)


def _nowhere_on(platform: str, asked: list[tuple[int, str, list[str]]]) -> tuple[list[Problem], list[str]]:
    """Why none of the entries can be had there; nothing when one can."""
    if any(shapes(platform, member, count) for count, _, members in asked for member in members):
        return [], []
    problems: list[Problem] = []
    hints: list[str] = []
    for position, (count, name, members) in enumerate(asked):
        here = sorted({had for member in members for had in _counts(platform, member)})
        message = f"{platform} has no {count}:{name}" if here else f"{platform} has no {name}"
        problems.append(Problem(("accelerators", position), message))
        hints.append(_advice(platform, count, name, members, here))
    return problems, hints


def _advice(platform: str, count: int, name: str, members: list[str], here: list[int]) -> str:
    elsewhere = sorted({other for member in members for other in _platforms_with_count(member, count)})
    parts: list[str] = []
    if here:
        parts.append(f"nearest on {platform}: {', '.join(f'{had}:{name}' for had in _nearest_counts(here, count))}")
    parts.append(f"{count}:{name} is on {', '.join(elsewhere)}" if elsewhere else f"no known cloud has {count}:{name}")
    return "; ".join(parts)


def _nearest_counts(counts: list[int], wanted: int) -> list[int]:
    """The next smaller and the next larger count."""
    smaller = [count for count in counts if count < wanted][-1:]
    return smaller + [count for count in counts if count > wanted][:1]


def _platforms_with_count(member: str, count: int) -> list[str]:
    return [platform for platform, counts in platforms_with(member).items() if count in counts]


def _counts(platform: str, member: str) -> list[int]:
    return sorted({shape.count for shape in shapes(platform, member)})
