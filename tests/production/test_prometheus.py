"""Prometheus of docker-compose.yml on the real topology: what it scrapes is up, and every alert can be evaluated."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.packages import ROOT
from tests.production.conftest import without
from tests.production.topology import LIMIT_S, SERVICES, Topology, free_ports, until

CONFIG, ALERTS = ROOT / "compose" / "prometheus.yaml", ROOT / "docs" / "alerts.yaml"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        without("promtool is not installed (Debian: prometheus)")
    return found


def laid(folder: Path) -> Path:
    """The two files as the compose file lays them into its container."""
    shutil.copy(ALERTS, folder / "alerts.yaml")
    return Path(shutil.copy(CONFIG, folder / "prometheus.yml"))


def test_its_own_tool_finds_nothing_wrong(promtool: str, tmp_path: Path) -> None:
    mounts = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert {"/etc/prometheus/prometheus.yml", "/etc/prometheus/alerts.yaml"} <= mounts
    asked = subprocess.run(
        [promtool, "check", "config", str(laid(tmp_path))], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert asked.returncode == 0, asked.stderr
    assert "alerts.yaml" in asked.stdout + asked.stderr


@pytest.fixture(scope="module")
def prometheus(production: Topology, promtool: str) -> Iterator[str]:
    """One that scrapes the topology; names become addresses, and it looks every second."""
    assert promtool
    folder = production.folder / "prometheus"
    folder.mkdir()
    file = laid(folder)
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    listeners = {"api": "api:9464", "worker": "worker:9465", "temporal": "temporal:9466"}
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{production.ports[listeners[job['job_name']]]}"]}]
    file.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    options = [f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (production.folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def test_every_target_is_up_and_every_alert_is_evaluated(prometheus: str) -> None:
    def up() -> bool:
        targets = httpx.get(f"{prometheus}/targets").json()["data"]["activeTargets"]
        return {each["labels"]["job"]: each["health"] for each in targets} == dict.fromkeys(
            ("api", "worker", "temporal"), "up"
        )

    until(up, "all targets are up")

    def evaluated() -> list[dict[str, Any]] | None:
        [group] = httpx.get(f"{prometheus}/rules").json()["data"]["groups"]
        rules: list[dict[str, Any]] = group["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    rules = until(evaluated, "all rules are evaluated")
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert len(rules) == len(yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"])


def test_a_worker_that_is_gone_is_told(prometheus: str, production: Topology) -> None:
    def firing() -> set[str]:
        asked = httpx.get(f"{prometheus}/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in asked}  # pending, too: it waits some minutes

    until(lambda: "NebulousNoWorker" not in firing(), "the worker is seen")
    production.kill("worker")
    begun = time.monotonic()
    try:
        until(lambda: "NebulousNoWorker" in firing(), "its absence is seen")
        assert time.monotonic() - begun < LIMIT_S
    finally:
        production.start("worker")
    until(lambda: "NebulousNoWorker" not in firing(), "and its return")
