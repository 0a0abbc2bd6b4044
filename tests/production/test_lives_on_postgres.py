"""Containers in the shape of docker-compose.yml: Temporal on PostgreSQL, all encrypted, on the simulated cloud."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from nebulous import temporal
from nebulous.codec import ENCODING
from tests.nebula import sim_labels
from tests.packages import ROOT
from tests.production.topology import LIMIT_S, Topology, until

CANARY = "canary-4711"


@pytest.fixture(scope="session")
def token(production: Topology) -> str:
    """As an operator gets it."""
    made = production.nebu("token", "create", "--admin", "--days", "1")
    assert made.returncode == 0, made.stderr
    assert "only another signing key takes it back" in made.stderr
    return made.stdout.strip()


class Desk:
    """What somebody does through the API."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def create(self, name: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        metadata = {"name": name, "labels": {**sim_labels(boot="0s"), **(labels or {})}}
        body = {"image": "busybox", "command": "true", "platform": "sim", "metadata": metadata, **fields}
        reply = self.http.post("/v1/containers", json=body)
        assert reply.status_code in (200, 202), reply.text
        return reply.json()

    def row(self, name: str) -> dict[str, Any]:
        return self.http.get(f"/v1/containers/default/{name}").raise_for_status().json()

    def until(self, name: str, *wanted: str) -> dict[str, Any]:
        return until(lambda: (row := self.row(name))["status"]["status"] in wanted and row, f"{name} is {wanted}")

    def names(self, **query: Any) -> list[str]:
        rows = self.http.get("/v1/containers", params=query).raise_for_status().json()["containers"]
        return [row["metadata"]["name"] for row in rows]

    def listed(self, *names: str, **query: Any) -> None:
        until(lambda: sorted(self.names(**query)) == sorted(names), f"{query} lists {names}", 10)

    def do(self, name: str, verb: str) -> None:
        self.http.post(f"/v1/containers/default/{name}/{verb}").raise_for_status()

    def delete(self, *names: str) -> None:
        """And wait for the proof."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._delete, names))

    def _delete(self, name: str) -> None:
        self.http.delete(f"/v1/containers/default/{name}").raise_for_status()
        until(lambda: self.http.get(f"/v1/containers/default/{name}").status_code == 404, f"{name} is gone")


@pytest.fixture(scope="session")
def desk(production: Topology, token: str) -> Iterator[Desk]:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=production.url, headers=headers, timeout=LIMIT_S) as http:
        yield Desk(http)


def test_every_health_check_of_the_file_is_well(production: Topology) -> None:
    assert production.ready()
    for service in ("api",):
        asked = subprocess.run(production.check(service), env=production.environment(service), check=False)
        assert asked.returncode == 0, service
    health = httpx.get(f"{production.url}/health").json()
    assert (health["status"], health["temporal"], health["redis"]) == ("ok", "ok", "ok")


def test_a_container_runs_writes_stops_starts_and_is_gone(desk: Desk) -> None:
    desk.create("lived", sim_labels(log=CANARY), env=[{"key": "TOKEN", "value": CANARY}])
    assert desk.until("lived", "running")["env"][0]["value"] == CANARY
    until(lambda: CANARY in desk.http.get("/v1/containers/default/lived/logs").text, "its log is told")
    desk.do("lived", "stop")
    assert desk.until("lived", "stopped")["status"]["reason"] == "StoppedByUser"
    assert CANARY in desk.http.get("/v1/containers/default/lived/logs").text  # from the archive
    desk.do("lived", "start")
    desk.until("lived", "running")
    desk.delete("lived")
    desk.create("failing", sim_labels(run_for="0s", exit_code="3"))
    assert desk.until("failing", "failed")["status"]["exit_code"] == 3
    desk.delete("failing")


async def test_what_postgresql_holds_is_encrypted(production: Topology, desk: Desk) -> None:
    desk.create("sealed", sim_labels(run_for="0s"), command=f"echo {CANARY}")
    desk.until("sealed", "completed")
    outsider = await Client.connect(production.temporal)
    handle = outsider.get_workflow_handle("container/local/default/sealed")
    events = [event async for event in handle.fetch_history_events()]
    assert events[0].workflow_execution_started_event_attributes.input.payloads[0].metadata["encoding"] == ENCODING
    assert CANARY.encode() not in b"".join(event.SerializeToString() for event in events)
    desk.delete("sealed")


ODD = {
    "quote": "it's",
    "back": "a\\b",
    "per": "100%",
    "under": "a_b",
    "space": "a b",
    "uni": "größe",
    "clause": "x' OR '1'='1",
}


@pytest.fixture(scope="module")
def three(desk: Desk) -> Iterator[None]:
    """Two that run, and one that is over."""
    desk.create("one", {"team": "Research", **ODD})
    desk.create("two", {"team": "research", "under": "axb"})
    desk.create("over", {"team": "ops", **sim_labels(run_for="0s")})
    for name, status in (("one", "running"), ("two", "running"), ("over", "completed")):
        desk.until(name, status)
    yield
    desk.delete("one", "two", "over")


@pytest.mark.usefixtures("three")
def test_lists_find_exactly_what_was_asked_for(desk: Desk) -> None:
    desk.listed("one", "two", "over")
    desk.listed("one", "two", status="running")
    desk.listed("over", status="completed")
    desk.listed("one", label="team=Research")  # to the letter
    desk.listed("two", label="team=research")
    for key, value in ODD.items():
        desk.listed("one", label=f"{key}={value}")
    desk.listed("two", label="under=axb")
    desk.listed("one", label=["team=Research", "uni=größe"])
    desk.listed(label=["team=Research", "under=axb"])
    desk.listed("two", name="TWO")
    desk.listed(namespace="elsewhere")
    desk.listed(queue="nobodys")
    desk.listed(name="x' OR '1'='1")
    life = desk.row("two")["metadata"]["id"]
    assert desk.http.get(f"/v1/containers/{life}").json()["metadata"]["name"] == "two"


@pytest.mark.usefixtures("three")
def test_pages_follow_each_other_newest_first(desk: Desk) -> None:
    found: list[str] = []
    cursor: str | None = None
    while cursor or not found:
        query = {"limit": 1, **({"cursor": cursor} if cursor else {})}
        page = desk.http.get("/v1/containers", params=query).raise_for_status().json()
        found += [row["metadata"]["name"] for row in page["containers"]]
        cursor = page["cursor"]
    assert found == ["over", "two", "one"]


@pytest.mark.usefixtures("three")
def test_the_doctor_the_platforms_and_the_census_count_them(desk: Desk, production: Topology) -> None:
    seen = desk.http.get("/v1/doctor").raise_for_status().json()
    assert {row["name"] for row in seen["running"]} == {"one", "two"}
    assert seen["orphans"] == []
    until(lambda: 'nebulous_containers{status="running"} 2' in production.metrics("api:9464"), "the census", 40)
    assert "nebulous_sweeps_total{" in production.metrics("worker:9465")
    assert "temporal_workflow_task_schedule_to_start_latency_bucket" in production.metrics("worker:9465")
    assert "\nservice_requests{" in production.metrics("temporal:9466")


def test_a_watch_tells_each_change(desk: Desk) -> None:
    told: list[tuple[str, str]] = []
    synced = threading.Event()

    def read() -> None:
        with desk.http.stream("GET", "/v1/watch", params={"label": "watched=yes"}) as reply:
            word = ""
            for line in reply.iter_lines():
                name, _, value = line.partition(": ")
                word = value if name == "event" else word
                if name == "data" and word == "synced":
                    synced.set()
                elif name == "data" and (row := json.loads(value)):
                    told.append((word, row["status"]["status"]))
                    if word == "deleted":
                        return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert synced.wait(LIMIT_S)
    desk.create("seen", {"watched": "yes"})
    desk.until("seen", "running")
    until(lambda: ("added" in {word for word, _ in told}) and "running" in {status for _, status in told}, "it is told")
    desk.delete("seen")
    reader.join(LIMIT_S)
    assert told[-1][0] == "deleted"


@pytest.mark.usefixtures("three")
def test_changes_are_made_in_place_or_by_a_next_life(desk: Desk) -> None:
    before = desk.row("one")["metadata"]
    labels = {**before["labels"], "added": "later"}
    patched = desk.http.patch("/v1/containers/default/one", json={"metadata": {"labels": labels}})
    assert (patched.status_code, patched.json()["metadata"]["id"]) == (200, before["id"]), patched.text
    desk.listed("one", label="added=later")
    put = {"image": "other", "command": "true", "platform": "sim", "metadata": {"labels": labels}}
    refused = desk.http.put("/v1/containers/default/one", json=put)
    assert refused.status_code == 409, refused.text
    assert desk.http.put("/v1/containers/default/one", params={"replace": True}, json=put).status_code == 202
    until(lambda: desk.row("one")["metadata"]["id"] != before["id"], "the next life has begun")
    assert desk.until("one", "running")["image"] == "other"


async def test_a_long_life_continues_as_new(desk: Desk, production: Topology) -> None:
    desk.create("long", sim_labels(run_for="0s", exit_code="1,1,1,0"), restart="OnFailure")
    client = await temporal.connect(production.temporal)
    handle = client.get_workflow_handle("container/local/default/long")
    first = (await handle.describe()).run_id
    desk.until("long", "completed")
    assert (await handle.describe()).run_id != first
    desk.listed("long", name="long")  # the runs before are no rows
    desk.delete("long")


@pytest.mark.parametrize("victim", ["worker", "temporal", "api", "valkey"])
def test_kill_9_in_the_middle_loses_nothing(desk: Desk, production: Topology, victim: str) -> None:
    names = [f"k{number}-{victim}" for number in range(6)]
    for number, name in enumerate(names):
        desk.create(name, sim_labels(boot="1s", run_for=f"{number}s", exit_code=str(number % 2)))
    production.kill(victim)
    production.start(victim)
    until(lambda: httpx.get(f"{production.url}/health").json()["status"] == "ok", "all is well again")
    for number, name in enumerate(names):
        status = desk.until(name, "completed", "failed")["status"]
        assert (status["exit_code"], status["restarts"]) == (number % 2, 0), status
    desk.delete(*names)
    assert not {row["name"] for row in desk.http.get("/v1/doctor").json()["running"]} & set(names)


def test_a_second_worker_of_the_same_machine_takes_over(desk: Desk, production: Topology) -> None:
    accounts = {row["account"] for row in desk.http.get("/v1/doctor").json()["platforms"]}
    production.start("worker", "2", NEBU_WORKER_METRICS="127.0.0.1:0")
    desk.create("handed", sim_labels(run_for="3s"))
    desk.until("handed", "running")
    production.kill("worker")
    desk.until("handed", "completed")
    desk.delete("handed")
    assert {row["account"] for row in desk.http.get("/v1/doctor").json()["platforms"]} == accounts
    production.start("worker")
    production.kill("worker2")


def test_a_worker_that_cannot_work_is_unhealthy_until_it_can(production: Topology) -> None:
    ready = production.folder / "tmp" / "ready"
    until(production.ready, "the worker is healthy")

    def age() -> None:  # as if a minute had passed
        os.utime(ready, (time.time() - 90, time.time() - 90))

    age()
    assert not production.ready()
    until(production.ready, "it is written again")
    temporal_server, told = production.running["temporal"], production.log("worker").count("not able to work")
    temporal_server.send_signal(signal.SIGSTOP)
    try:
        until(lambda: production.log("worker").count("not able to work") > told, "it says why")
        age()
        assert not production.ready()
    finally:
        temporal_server.send_signal(signal.SIGCONT)
    until(production.ready, "it is healthy again")
    assert "able to work again" in production.log("worker")


def test_a_namespace_without_room_for_our_search_attributes_is_told_so(production: Topology) -> None:
    tool = [f"{production.folder}/bin/temporal", "operator", "--address", production.temporal, "--namespace", "crowded"]

    def made(*words: str) -> bool:
        return subprocess.run([*tool, *words], capture_output=True, timeout=LIMIT_S, check=True).returncode == 0

    made("namespace", "create")
    theirs = [f"--name=Theirs{number}" for number in range(2)]
    until(lambda: made("search-attribute", "create", *theirs, "--type=Keyword", "--type=Keyword"), "it has their own")
    worker = [sys.executable, "-m", "nebulous", "worker"]
    env = production.environment("worker") | {"NEBU_TEMPORAL_NAMESPACE": "crowded", "NEBU_WORKER_METRICS": ""}
    ended = subprocess.run(worker, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert ended.returncode == 2, ended.stderr
    assert "error: Temporal does not know our search attributes: " in ended.stderr
    assert "give Nebulous a namespace of its own (NEBU_TEMPORAL_NAMESPACE)" in ended.stderr
