"""A whole install that rents: `nebu serve`, Amazon's SDK against its double, real machines behind that, SSH, Docker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docker_engine import without
from tests.doubles.ec2 import Ec2Double
from tests.doubles.guests import Guests, why_not
from tests.served import Server, until

pytestmark = pytest.mark.docker

REGION = "us-east-1"


@pytest.fixture(scope="module")
def amazon(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2Double]:
    if reason := why_not():
        without(reason)
    double = Ec2Double()
    with double.served(), Guests(docker_host, tmp_path_factory.mktemp("guests")) as double.guests:
        yield double


@pytest.fixture(scope="module")
def server(amazon: Ec2Double, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("amazon")
    account = {"regions": [REGION], "ssh_from": "198.51.100.7"}
    env = {
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": amazon.url,
        "NEBU_LOCAL_ENABLED": "false",
        "NEBU_PLATFORMS": json.dumps({"ec2:prod": account}),
    }
    running = Server(folder, env)
    try:
        running.up()
        until(lambda: row(running)["usable"], "the account is usable")
        yield running
        gone = running.nebu("delete", "containers", "--all", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert amazon.living() == []
        assert amazon.volumes() == []
    finally:
        running.close()


def row(server: Server) -> dict[str, Any]:
    """What `nebu get platforms` says of the account."""
    listed = json.loads(server.nebu("get", "platforms", "-o", "json").stdout)["platforms"]
    return next((each for each in listed if each["account"] == "ec2:prod"), {"usable": False})


def create(server: Server, image: str, name: str, *words: str) -> dict[str, Any]:
    made = server.nebu(
        *("create", "container", "--name", name, "--platform", "ec2", "--image", image, "--cmd", "sleep 600"), *words
    )
    assert made.returncode == 0, made.stderr
    return server.until_status(name, "running", "failed", "invalid")


def test_a_command_runs_on_a_rented_machine_and_nothing_is_left(server: Server, amazon: Ec2Double, image: str):
    words = ("--image", image, "--", "sh", "-c", "echo from $NEBU_PLATFORM; exit 3")
    ran = server.nebu("run", "--name", "once", "--platform", "ec2", *words)
    assert (ran.returncode, ran.stdout) == (3, "from ec2\n"), ran.stderr
    shown = server.status("once")
    assert (shown["status"], shown["exit_code"], shown["region"]) == ("failed", 3, f"{REGION}a")
    assert server.nebu("delete", "container", "once", "--wait").returncode == 0
    assert amazon.living() == []
    assert amazon.volumes() == []


def test_it_is_spoken_to_and_survives_its_worker(server: Server, amazon: Ec2Double, image: str):
    shown = create(server, image, "stays")
    assert shown["status"] == "running", shown
    assert server.nebu("exec", "stays", "--", "echo", "inside").stdout == "inside\n"
    address = server.nebu("get", "containers", "stays", "--ip").stdout.strip()
    assert address in [guest.address for guest in amazon.machines.values()]
    os.kill(server.marks()["worker"]["pid"], signal.SIGKILL)
    until(lambda: server.nebu("exec", "stays", "--", "echo", "again").stdout == "again\n", "a new worker serves it")
    assert server.status("stays")["status"] == "running"
    assert len(amazon.living()) == 1
    assert server.nebu("delete", "container", "stays", "--wait").returncode == 0
    assert amazon.living() == []


def test_a_machine_that_the_cloud_takes_back_is_replaced(server: Server, amazon: Ec2Double, image: str):
    shown = create(server, image, "moved", "--spot")
    assert shown["status"] == "running", shown
    amazon.preempt(shown["instance_id"])
    again = until(
        lambda: (now := server.status("moved"))["status"] == "running" and now.get("recoveries") == 1 and now,
        "it runs on another machine",
    )
    assert again["instance_id"] != shown["instance_id"]
    assert server.nebu("delete", "container", "moved", "--wait").returncode == 0
    assert amazon.living() == []


def test_what_can_be_had_and_what_may_be_done(server: Server, amazon: Ec2Double):
    listed = json.loads(server.nebu("get", "offers", "--platform", "ec2", "-o", "json").stdout)["offers"]
    assert listed[0]["usd_per_hour"] > 0
    assert listed[0]["price_source"]
    refused = server.nebu("create", "container", "--platform", "ec2", "--accelerators", "4:A100", "--image", "x")
    assert refused.returncode == 2
    assert "nearest on ec2: 8:A100" in refused.stderr
    assert "ok ec2:prod: permissions: all that renting takes" in words(server)
    amazon.denied.add("ec2:RunInstances")
    assert "BAD ec2:prod: permissions: missing: ec2:RunInstances" in words(server)
    amazon.denied.clear()


def words(server: Server) -> str:
    """What the doctor says, however wide its columns are."""
    return " ".join(server.nebu("doctor").stdout.split())
