"""`nebu top`: what running containers use, now or again and again."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import typer

from nebulous.cli import failures, options
from nebulous.cli.actions import labelled
from nebulous.cli.containers import status_text
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import select
from nebulous.cli.screen import emit, note, structured
from nebulous.cli.tables import NOTHING, table
from nebulous.client import Json, Unreachable
from nebulous.errors import NebulousError, Unauthenticated
from nebulous.models import kinds

COLUMNS = ("NAME", "STATUS", "CPU", "MEMORY", "ACCELERATORS")
ASKED_AT_ONCE = 8  # a platform may take two seconds to measure
EVERY_S = 2.0
_GIB, _MIB = 1 << 30, 1 << 20
_CLEAR = "\x1b[H\x1b[2J"

Measured = tuple[Json, Json | NebulousError]


def command(
    names: options.Names = None,
    namespace: options.Namespace = None,
    labels: options.Labels = None,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Measure again and again; Ctrl-C ends it.")] = False,
    output: Annotated[
        Literal["table", "json", "yaml"], typer.Option("-o", "--output", help="How to print it.")
    ] = "table",
    owner: options.Owner = None,
) -> int:
    """Show processor, memory and accelerator use of what runs; CPU in percent of one processor."""
    lookup = connect().within(namespace, owner)
    if not watch:
        return _show(lookup, names or [], labels, output)
    try:
        while True:
            if sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            _show(lookup, names or [], labels, output)
            sys.stdout.flush()
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return 0


def _show(lookup: Lookup, names: list[str], labels: list[str] | None, output: str) -> int:
    """One round; the exit code of the first that was named and could not be measured."""
    rows = _rows(lookup, names, labels)
    measured = _measure(lookup, rows)
    shown = [(row, usage) for row, usage in measured if not isinstance(usage, NebulousError)]
    if output != "table":
        usages = [{"metadata": row["metadata"], "stats": usage} for row, usage in shown]
        emit(structured({"containers": usages}, output))
    elif shown:
        emit(_table(shown))
    elif not rows:
        note(f"no container runs{labelled(labels)}")
    codes = [failures.report(usage) for _, usage in measured if isinstance(usage, NebulousError)]
    return codes[0] if codes and names else 0


def _rows(lookup: Lookup, names: list[str], labels: list[str] | None) -> list[Json]:
    selection = select(names)
    if "logs" not in selection.kind.verbs:
        raise failures.UsageError(f"{selection.kind.plural} use nothing that could be measured")
    if not selection.targets:
        return lookup.rows(kinds.find("container"), labels, status="running")
    if labels:
        raise failures.UsageError("give names, or -l: not both")
    return [lookup.find(target) for target in selection.targets]


def _measure(lookup: Lookup, rows: list[Json]) -> list[Measured]:
    """Ask for all, some at once.

    Raises:
        Unreachable, Unauthenticated: The rest would fare no better.
    """

    def one(row: Json) -> Measured:
        try:
            return row, lookup.api.stats(lookup.place_of(kinds.find("container"), row))
        except (Unreachable, Unauthenticated):
            raise
        except NebulousError as error:
            return row, error

    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return list(pool.map(one, rows))


def _table(shown: list[tuple[Json, Json]]) -> str:
    """With the namespace where there are several, as `get` has it."""
    spread = len({row["metadata"]["namespace"] for row, _ in shown}) > 1
    headers = ("NAMESPACE", *COLUMNS) if spread else COLUMNS
    return table(headers, [_cells(row, usage, spread) for row, usage in shown])


def _cells(row: Json, usage: Json, spread: bool) -> list[str]:
    metadata = row["metadata"]
    status = status_text(row) + (" (simulated)" if usage.get("simulated") else "")
    return [
        *([metadata["namespace"]] if spread else []),
        metadata["name"],
        status,
        _percent(usage.get("cpu_percent")),
        _memory(usage["memory_bytes"], usage.get("memory_limit_bytes")),
        "; ".join(map(_accelerator, usage.get("accelerators") or [])) or NOTHING,
    ]


def _accelerator(each: Json) -> str:
    """`0 A100-80GB-SXM 87%, 41.0/80.0 GiB`."""
    used, limit = each.get("memory_bytes"), each.get("memory_limit_bytes")
    memory = f", {_memory(used, limit)}" if used is not None and limit else ""
    return f"{each['index']} {each['name']} {_percent(each.get('percent'))}{memory}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}%"


def _memory(used: int, limit: int | None) -> str:
    """`3.0/16.0 GiB`, `5 MiB/16.0 GiB`, or what is used alone where nothing limits it."""
    if not limit:
        return _size(used)
    unit = f" {_size(limit).split()[1]}"
    return f"{_size(used).removesuffix(unit)}/{_size(limit)}"


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / _MIB:.0f} MiB"
