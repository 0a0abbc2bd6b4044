"""A machine of one's own in a whole install: `nebu serve`, a real OpenSSH server, a real Engine behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker_engine import without
from tests.served import Server, until
from tests.sshd import Sshd, sshd, why_not

pytestmark = pytest.mark.docker

ACCOUNT = "docker:gpu-box"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if reason := why_not():
        without(reason)
    with sshd(tmp_path_factory.mktemp("box")) as running:
        yield running


@pytest.fixture(scope="module")
def server(box: Sshd, docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("attached")
    machine = {
        "ssh": f"root@127.0.0.1:{box.port}",
        "identity_file": str(box.identity),
        "engine": docker_host.removeprefix("unix://"),
    }
    env = {"HOME": str(folder), "NEBU_LOCAL_ENABLED": "false", "NEBU_PLATFORMS": json.dumps({ACCOUNT: machine})}
    running = Server(folder, env)
    try:
        running.up()
        until(lambda: row(running)["usable"], "the box is usable")
        yield running
        gone = running.nebu("delete", "containers", "--all", "--yes")
        assert gone.returncode == 0, gone.stderr  # they run on an Engine that other tests use
    finally:
        running.close()


def row(server: Server) -> dict[str, Any]:
    """What `nebu get platforms` says of the machine."""
    listed = json.loads(server.nebu("get", "platforms", "-o", "json").stdout)["platforms"]
    return next((each for each in listed if each["account"] == ACCOUNT), {"usable": False})


def test_a_command_runs_there_and_is_spoken_to(server: Server, image: str):
    ran = server.nebu("run", "--rm", "--platform", ACCOUNT, "--image", image, "--", "echo", "from the box")
    assert (ran.returncode, ran.stdout) == (0, "from the box\n"), ran.stderr
    made = server.nebu(
        "create", "container", "--name", "stays", "--platform", "docker", "--image", image, "--cmd", "sleep 600"
    )
    assert made.returncode == 0, made.stderr
    server.until_status("stays", "running")
    assert server.nebu("exec", "stays", "--", "echo", "inside").stdout == "inside\n"
    assert "gpu-box" in server.nebu("get", "containers", "-o", "wide").stdout


def test_how_busy_it_is_is_shown(server: Server):
    shown = until(lambda: row(server)["load"], "it says how busy it is")  # left out when it is not said within a second
    assert shown["processors"] == os.cpu_count()
    assert shown["average"] >= 0
    assert shown["containers"] >= 1
    assert (shown["accelerators"], shown["accelerators_held"]) == (0, 0)
    table = server.nebu("get", "platforms").stdout
    assert f"of {os.cpu_count()} CPUs, " in next(line for line in table.splitlines() if ACCOUNT in line)


def test_a_machine_that_is_away_is_not_usable_and_its_container_is_not_dead(server: Server, box: Sshd, image: str):
    made = server.nebu(
        "create", "container", "--name", "far", "--platform", ACCOUNT, "--image", image, "--cmd", "sleep 600"
    )
    assert made.returncode == 0, made.stderr
    server.until_status("far", "running")
    box.stop()
    gone = until(lambda: not row(server)["usable"] and row(server), "it is seen to be away")
    assert f"root@127.0.0.1:{box.port} cannot be reached" in gone["reason"]
    assert f"ssh -p {box.port} root@127.0.0.1" in gone["hint"]
    assert server.status("far")["status"] == "running"
    box.start()
    until(lambda: row(server)["usable"], "it is back")
    assert server.nebu("exec", "far", "--", "echo", "still here").stdout == "still here\n"
    assert server.status("far")["status"] == "running"
    assert server.nebu("delete", "container", "far", "--wait").returncode == 0


def test_a_worker_that_is_killed_dials_again(server: Server, image: str):
    made = server.nebu(
        "create", "container", "--name", "kept", "--platform", ACCOUNT, "--image", image, "--cmd", "sleep 600"
    )
    assert made.returncode == 0, made.stderr
    server.until_status("kept", "running")
    os.kill(server.marks()["worker"]["pid"], signal.SIGKILL)
    until(lambda: server.nebu("exec", "kept", "--", "echo", "again").stdout == "again\n", "a new worker serves it")
    assert server.status("kept")["status"] == "running"


def test_a_machine_that_says_nothing_does_not_hold_up_the_server(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        machine = {"ssh": f"me@127.0.0.1:{silent.getsockname()[1]}"}
        server = Server(tmp_path, {"NEBU_PLATFORMS": json.dumps({ACCOUNT: machine}), "NEBU_DOCKER_ENABLED": "false"})
        try:
            server.up()
            assert row(server)["reason"] == f"{ACCOUNT} has not answered yet"
            until(lambda: "cannot be reached: no answer in time" in row(server)["reason"], "it is given up on")
        finally:
            server.close()


@pytest.mark.parametrize(
    ("platforms", "words"),
    [
        ({"ssh:box": {"ssh": "me@box"}}, "'ssh:box' is no account: write docker:NAME, ec2:NAME"),
        ({"docker:box": {"ssh": "me@"}}, "'me@' is not [user@]host[:port]"),
        ({"docker:box": {"shh": "me@box"}}, "docker:box: there is no field 'shh'; did you mean 'ssh'?"),
    ],
)
def test_a_wrong_machine_is_wrong_usage(tmp_path: Path, platforms: dict[str, Any], words: str):
    server = Server(tmp_path, {"NEBU_PLATFORMS": json.dumps(platforms)})
    refused = server.nebu("serve", "--data-dir", str(tmp_path / "data"), "--port", "0")
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
