"""What the shape of docker-compose.yml does beside `nebu serve`, in one run: `python -m tests.production.figures`.

The figures stand in docs/production.md; on two cores the programs compete with what measures them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.nebula import sim_labels
from tests.production.topology import Topology, topology, until
from tests.served import Server

ASKED, LIVES = 60, 60


def body(name: str, **script: str) -> dict[str, object]:
    metadata = {"name": name, "labels": sim_labels(boot="0s", **script)}
    return {"image": "busybox", "command": "true", "platform": "sim", "metadata": metadata}


def median_ms(ask: object, times: int) -> float:
    took: list[float] = []
    for number in range(times):
        begun = time.perf_counter()
        ask(number)  # type: ignore[operator]
        took.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(took), 1)


def measure(url: str, token: str) -> dict[str, float]:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120) as http:

        def create(name: str, **script: str) -> None:
            http.post("/v1/containers", json=body(name, **script)).raise_for_status()

        def over() -> bool:
            listed = http.get("/v1/containers", params={"status": "completed"}).json()["containers"]
            return sum(row["metadata"]["name"].startswith("life") for row in listed) == LIVES

        found = {"POST, median ms": median_ms(lambda number: create(f"stays{number}"), ASKED)}
        until(
            lambda: len(http.get("/v1/containers", params={"status": "running"}).json()["containers"]) == ASKED,
            "all run",
        )
        one = "/v1/containers/default/stays1"
        found["GET one, median ms"] = median_ms(lambda _: http.get(one).raise_for_status(), ASKED)

        def fresh(number: int) -> None:  # another page size each time, so that none comes from the cache
            http.get("/v1/containers", params={"limit": ASKED + number}).raise_for_status()

        def live(number: int) -> None:
            create(f"single{number}", run_for="0s")
            path = f"/v1/containers/default/single{number}"
            while http.get(path).json()["status"]["status"] != "completed":
                time.sleep(0.005)

        found[f"list of {ASKED}, median ms"] = median_ms(fresh, 30)
        found["one life, median ms"] = median_ms(live, 15)
        begun = time.perf_counter()
        for number in range(LIVES):
            create(f"life{number}", run_for="0s")
        until(over, "all lives are over", 180)
        found["lives a second"] = round(LIVES / (time.perf_counter() - begun), 1)
    return found


def embedded() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        server = Server(Path(name))
        try:
            ready = server.up()
            return measure(ready["api"], ready["token"])
        finally:
            server.close()


def on_postgres(made: Topology) -> dict[str, float]:
    return measure(made.url, made.nebu("token", "create", "--admin").stdout.strip())


if __name__ == "__main__":
    beside = embedded()
    with topology() as running:
        found = on_postgres(running)
        memory = {
            name: int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(each.pid)])) // 1024
            for name, each in running.running.items()
        }
    for what, value in found.items():
        print(f"{what:24} {value:8} on PostgreSQL {beside[what]:8} embedded")
    print("resident MB", memory, file=sys.stderr)
