"""What people wait for, as ratios to a baseline of the same run: `make bench`.

Times on one machine say little about another; a ratio to what the same interpreter needs to import the libraries
says more. Whole processes, best of seven, both taken in turns.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 7
NEBU = [str(Path(sys.executable).with_name("nebu"))]
BASELINE = [sys.executable, "-c", "import typer, httpx"]
MEASURED = {
    "nebu --help": [*NEBU, "--help"],
    "nebu --version": [*NEBU, "--version"],
    "nebu create container --help": [*NEBU, "create", "container", "--help"],
}


def seconds(command: list[str]) -> float:
    """How long this process lives."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the table."""
    commands = {'python -c "import typer, httpx"': BASELINE, **MEASURED}
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(ROUNDS):
        for name, command in commands.items():
            best[name] = min(best[name], seconds(command))
    baseline = next(iter(best.values()))
    print(f"{'best of ' + str(ROUNDS):<34}{'ms':>6}{'ratio':>8}")
    for name, took in best.items():
        print(f"{name:<34}{took * 1000:>6.0f}{took / baseline:>8.2f}")


if __name__ == "__main__":
    main()
