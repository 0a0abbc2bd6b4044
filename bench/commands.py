"""How long a typed command takes, from its start to its end: whole processes, best of some, taken in turns."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.installs import Install, install
from bench.report import Figure, seconds

ROUNDS = 7
LISTED = 100
NEBU = str(Path(sys.executable).with_name("nebu"))
OFFERS = "nebu get offers (simulated ec2)"
BASELINE = "python -c 'import typer, httpx'"


def measure(_quick: bool) -> list[Figure]:
    """`nebu --help`, `--version`, `get` of nothing much, against the interpreter with what every command imports."""
    with install(NEBU_SIM__BOOT_S="0", NEBU_SIMULATE="ec2") as here:
        _fill(here)
        commands = {
            BASELINE: [sys.executable, "-c", "import typer, httpx"],
            "nebu --help": [NEBU, "--help"],
            "nebu create container --help": [NEBU, "create", "container", "--help"],
            f"nebu get containers ({LISTED})": [NEBU, "get", "containers"],
            OFFERS: [NEBU, "get", "offers", "--platform", "ec2", "--accelerators", "1:A10G"],
        }
        best = dict.fromkeys(commands, float("inf"))
        for _ in range(ROUNDS):
            for name, command in commands.items():
                best[name] = min(best[name], seconds(lambda words=command: _run(here, words)))
    targets = {"nebu --help": 150, f"nebu get containers ({LISTED})": 350, OFFERS: 500}
    baseline = best.pop(BASELINE) * 1000
    return [
        Figure(name, took * 1000, "ms", targets.get(name), baseline=baseline, against=BASELINE)
        for name, took in best.items()
    ]


def _fill(here: Install) -> None:
    """Containers that run, and whose start is over: a list reads them as they are."""
    for number in range(LISTED):
        here.create(f"run-{number}", image="busybox", platform="sim")
    end = time.monotonic() + 60
    while len(_running(here)) < LISTED and time.monotonic() < end:
        time.sleep(0.5)


def _running(here: Install) -> list[object]:
    return here.api.get("/v1/containers", params={"status": "running"}).json()["containers"]


def _run(here: Install, words: list[str]) -> None:
    subprocess.run(words, env=here.server.env, check=True, stdout=subprocess.DEVNULL)
