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
#: Their images write configuration into themselves at their start.
WRITING = {"temporal", "temporal-ui", "temporal-schema", "temporal-namespace"}


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
    assert ("healthcheck" in service) == (name not in ONCE | {"temporal-ui"})  # its image has no program to ask with
    if name not in OURS:
        assert re.fullmatch(r"[\w/-]+:\d+\.\d+(\.\d+)?", service["image"]), (
            "a tag with a version, and no registry's host"
        )
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_what_waits_for_health_waits_for_something_that_has_one() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            wanted = how["condition"]
            assert wanted == ("service_completed_successfully" if other in ONCE else "service_healthy")
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])


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
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"nebulous", "activities", "api", "worker", "workflows"} <= copied <= allowed
