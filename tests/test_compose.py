"""docker-compose.yml and Dockerfile against settings and commands, and what is promised of every service."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from nebulous.settings import BY_FILE, Settings
from tests.packages import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("api", "worker")
ONCE = {name for name, service in SERVICES.items() if service["restart"].startswith("on-failure")}
#: Its image writes configuration into itself at its start.
WRITING = {"temporal-ui"}
#: Not asked: nothing waits for it, and its image has no program to ask with.
UNASKED = {"temporal-ui"}


def test_every_setting_is_one_of_ours() -> None:
    known = {f"NEBU_{name.upper()}" for name in Settings.model_fields} | {
        f"NEBU_{name.upper()}_FILE" for name in BY_FILE
    }
    for name in OURS:
        given = SERVICES[name]["environment"]
        assert set(given) <= known, name
        Settings.model_validate(
            {key[5:].lower(): value for key, value in given.items() if not key.endswith("_FILE")}
        )  # and has a value of the right type


def test_every_secret_is_a_file_and_none_is_in_the_environment() -> None:
    declared = COMPOSE["secrets"]
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(declared)
    assert all(secret == {"file": f"./secrets/{name}"} for name, secret in declared.items())
    for name, service in SERVICES.items():
        text = yaml.safe_dump(service)
        assert set(re.findall(r"/run/secrets/(\w+)", text)) == set(service.get("secrets", [])), name
        hidden = {key for key in service.get("environment", {}) if re.search("(PASSWORD|PWD|_KEY|_URL)$", key)}
        assert not hidden, name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_limited_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert service.get("read_only", False) == (name not in WRITING)
    assert ("healthcheck" in service) == (name not in ONCE | UNASKED)
    if name not in OURS:
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+(\.\d+)?", service["image"]), (
            "a tag with a version, and no registry's host"
        )
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_what_waits_for_health_waits_for_something_that_has_one() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            wanted = how["condition"]
            assert wanted == ("service_completed_successfully" if other in ONCE else "service_healthy")
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount for mount in mounted if mount[0].startswith("./")]
    assert {source for source, *_ in mounted} - {mount[0] for mount in files} == set(COMPOSE["volumes"])
    assert files
    assert all((ROOT / source).is_file() and mode == ["ro"] for source, _, *mode in files)


def test_temporal_has_the_file_without_which_it_does_not_start() -> None:
    temporal = SERVICES["temporal"]
    (mount,) = temporal["volumes"]
    assert temporal["environment"]["DYNAMIC_CONFIG_FILE_PATH"] == mount.split(":")[1]


def test_prometheus_scrapes_what_is_opened_for_it_and_has_the_alerts() -> None:
    config = yaml.safe_load((ROOT / "compose" / "prometheus.yaml").read_text())
    scraped = {}
    for job in config["scrape_configs"]:
        for source in job.get("dns_sd_configs", []):
            scraped |= dict.fromkeys(source["names"], source["port"])
        for source in job.get("static_configs", []):
            scraped |= {name: int(port) for name, _, port in (each.partition(":") for each in source["targets"])}
    wanted = {"api": "NEBU_API_METRICS", "worker": "NEBU_WORKER_METRICS", "temporal": "PROMETHEUS_ENDPOINT"}
    opened = {name: SERVICES[name]["environment"][setting] for name, setting in wanted.items()}
    assert opened == {name: f"0.0.0.0:{port}" for name, port in scraped.items()}
    places = [volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]]
    assert {f"/etc/prometheus/{file}" for file in config["rule_files"]} <= set(places)


def test_the_ui_asks_the_codec_as_a_browser_reaches_it() -> None:
    ui, api = SERVICES["temporal-ui"], SERVICES["api"]
    assert ui["environment"]["TEMPORAL_CODEC_ENDPOINT"] == f"http://localhost:{api['ports'][0].split(':')[1]}/codec"
    assert api["environment"]["NEBU_UI_ORIGIN"] == f"http://localhost:{ui['ports'][0].split(':')[1]}"


def test_what_a_worker_runs_survives_another_container_of_it() -> None:
    assert SERVICES["worker"]["hostname"]  # ids.host_id() is made of it: platform accounts keep their name


@pytest.mark.parametrize("name", OURS)
def test_our_commands_take_what_they_are_given(name: str) -> None:
    words = [*SERVICES[name]["command"], "--help"]
    asked = subprocess.run([sys.executable, "-m", "nebulous", *words], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option == "--help" or option in asked.stdout


def test_the_image_runs_as_nobody_in_particular_and_holds_the_whole_server() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert {service["user"] for name, service in SERVICES.items() if name in OURS} == {"10001:10001"}
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"nebulous", "activities", "api", "worker", "workflows"} <= copied
    assert {name.replace("[s]", "s") for name in copied} <= allowed
