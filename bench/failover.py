"""Twenty sold-out offers, one after the other, until a machine is rented; and who comes after, and knows it already."""

from __future__ import annotations

import json
import statistics
import time

from bench.installs import Install, install
from bench.report import Figure

SOLD_OUT = 20
#: One kind for each round: what is remembered of one says nothing of the next.
KINDS, QUICK_KINDS = ("T4", "L4", "A10G", "L40S", "A40"), ("T4",)


def measure(quick: bool) -> list[Figure]:
    """Seconds from asking to the machine, medians of some rounds; the simulated cloud answers at once."""
    kinds = QUICK_KINDS if quick else KINDS
    with install(NEBU_SIM__OFFERS=json.dumps([row for kind in kinds for row in _shelf(kind)])) as here:
        _until_rented(here, "warm", "H100")
        first = [_until_rented(here, f"first-{kind.lower()}", kind) for kind in kinds]
        second = [_until_rented(here, f"second-{kind.lower()}", kind) for kind in kinds]
    return [
        Figure(f"fail-over over {SOLD_OUT} sold-out offers, to the machine", statistics.median(first), "s", 3),
        Figure("the next container, which knows that they are sold out", statistics.median(second), "s"),
    ]


def _shelf(kind: str) -> list[dict[str, object]]:
    """So many places that are sold out, then a dearer one that is not."""
    offer = {"accelerator": kind, "count": 1, "instance_type": f"sim.{kind.lower()}"}
    gone = [{**offer, "region": f"r{n:02}", "usd_per_hour": 1 + n / 100, "capacity": 0} for n in range(SOLD_OUT)]
    other = {"accelerator": "H100", "count": 1, "instance_type": "sim.h100", "region": "r", "usd_per_hour": 9}
    return [*gone, {**offer, "region": "there", "usd_per_hour": 5}, other]


def _until_rented(here: Install, name: str, kind: str) -> float:
    began = time.time()
    here.create(name, image="busybox", platform="sim", accelerators=[f"1:{kind}"])
    at, _ = here.until(name, "created", "running")
    return at - began
