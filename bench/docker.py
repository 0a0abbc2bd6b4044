"""What Nebulous adds to a container on Docker, against the same create and start made directly on the Engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench.installs import Install, install
from bench.report import Figure, median_ms
from tests.docker_engine import USERS_OWN, imported, small_system
from tests.docker_engine import client as engine_client
from tests.dockerd import answers, dockerd, why_not

ROUNDS, QUICK_ROUNDS = 21, 3
COMMAND = ["sleep", "0.3"]


def measure(quick: bool) -> list[Figure]:
    """Accepted to started, and exited to recorded."""
    if not answers(USERS_OWN) and (reason := why_not()):
        print(f"docker: no Engine answers at {USERS_OWN}, and {reason}")
        return [Figure("docker: not measured, see above", float("inf"), "ms", 250)]
    direct: list[float] = []
    started: list[float] = []
    recorded: list[float] = []
    with (
        engine() as host,
        engine_client(host) as client,
        imported(host, small_system(), "ENV PATH=/bin") as image,
        install(NEBU_DOCKER_ENABLED="true", NEBU_DOCKER_HOST=host) as here,
    ):
        _ours(here, client, image, "warm")
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            direct.append(_directly(client, image))
            begun, ended = _ours(here, client, image, f"bench-{number}")
            started.append(begun)
            recorded.append(ended)
    ours, theirs = median_ms(started), median_ms(direct)
    return [
        Figure(
            "docker: accepted to command started", ours, "ms", baseline=theirs, against="create+start on the Engine"
        ),
        Figure("docker: what that is more than direct", ours - theirs, "ms", 250),
        Figure("docker: command exited to recorded", median_ms(recorded), "ms", 150),
    ]


@contextmanager
def engine() -> Iterator[str]:
    """The user's own Engine, else one for the time of measuring."""
    if answers(USERS_OWN):
        yield USERS_OWN
        return
    with dockerd() as started:
        yield started.host


def _directly(engine: httpx.Client, image: str) -> float:
    """Seconds from asking the Engine for a container until its command has started."""
    asked = time.time()
    made = engine.post("/containers/create", json={"Image": image, "Cmd": COMMAND}).raise_for_status().json()
    path = f"/containers/{made['Id']}"
    engine.post(f"{path}/start").raise_for_status()
    engine.post(f"{path}/wait").raise_for_status()
    engine.delete(path, params={"force": 1})
    return moments(engine, asked, {"container": [made["Id"]]})["start"] - asked


def _ours(here: Install, engine: httpx.Client, image: str, name: str) -> tuple[float, float]:
    """Seconds from the API's answer to the command's start, and from its end to a final status that GET shows."""
    here.create(name, image=image, command=COMMAND, platform="docker")
    accepted = time.time()
    ours = {"label": [f"nebulous-workflow=container/local/default/{name}"]}
    _until_dead(engine, accepted - 1, ours)  # whoever asks for the status all the time slows the start down
    seen, _ = here.until(name, "completed", "failed")
    did = moments(engine, accepted - 1, ours)
    here.api.delete(f"/v1/containers/default/{name}", params={"wait": True})
    return did["start"] - accepted, seen - did["die"]


def _until_dead(engine: httpx.Client, since: float, filters: dict[str, list[str]]) -> None:
    """Wait for the Engine to say that the command has ended; costs nobody any processor."""
    wanted = {"since": f"{since:.9f}", "filters": json.dumps({**filters, "event": ["die"]})}
    with engine.stream("GET", "/events", params=wanted) as said:
        next(said.iter_lines())


def moments(engine: httpx.Client, since: float, filters: dict[str, list[str]]) -> dict[str, float]:
    """When the Engine did what with a container; its own words, which outlive the container."""
    wanted = {"since": f"{since:.9f}", "until": f"{time.time():.9f}", "filters": json.dumps(filters)}
    lines = engine.get("/events", params=wanted).raise_for_status().text.splitlines()
    return {event["Action"]: event["timeNano"] / 1e9 for event in map(json.loads, lines)}
