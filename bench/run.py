"""What people wait and pay for, measured beside what they would run instead: `make bench`.

Times on one machine say little about another, so wherever there is something to compare with, both are taken in
turns in the same run and the ratio is printed. Give names to measure only some; `--quick` takes few rounds, to see
that measuring works.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import commands, crowd, docker, failover, idle, lives, recovery
from bench.report import Figure, table

MEASURES: dict[str, Callable[[bool], list[Figure]]] = {
    "commands": commands.measure,
    "docker": docker.measure,
    "lives": lives.measure,
    "failover": failover.measure,
    "recovery": recovery.measure,
    "idle": idle.measure,
    "crowd": crowd.measure,
}


def main() -> int:
    """Measure and print the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench/run.py")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {', '.join(MEASURES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it works, measures nothing")
    asked = parser.parse_args()
    if unknown := set(asked.measures) - MEASURES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose of {', '.join(MEASURES)}")
    figures: list[Figure] = []
    for name in asked.measures or MEASURES:
        began = time.monotonic()
        figures += MEASURES[name](asked.quick)
        print(f"{name}: measured in {time.monotonic() - began:.0f} s", flush=True)
    print()
    print(table(figures))
    return 0 if asked.quick or all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
