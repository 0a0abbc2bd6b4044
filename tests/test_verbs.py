"""`run`, `top`, offers and dry runs as a person types them: real serve, real commands on this host, real signals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.served import LIMIT_S, Server, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("verbs"))
    made.up("--simulate", "runpod")
    try:
        yield made
    finally:
        made.close()


def started(server: Server, *words: str) -> subprocess.Popen[str]:
    """A `nebu` that goes on."""
    command = [sys.executable, "-m", "nebulous", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=server.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def interrupted(process: subprocess.Popen[str]) -> str:
    """Ctrl-C; returns what it said."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=3 * LIMIT_S)  # a machine that is busy with other tests stops and proves slowly
    assert process.returncode == 130, err
    return err


def test_run_prints_what_the_command_writes_and_ends_with_its_code(server: Server) -> None:
    ended = server.nebu("run", "--name", "seven", "--platform", "local", "--", "sh", "-c", "echo hello; exit 7")
    assert (ended.returncode, ended.stdout) == (7, "hello\n"), ended.stderr
    assert ended.stderr.startswith("container/seven created\n")
    assert server.status("seven")["exit_code"] == 7


def test_the_states_of_a_machine_that_boots_come_before_its_output_and_the_end_after_it(server: Server) -> None:
    labels = {"boot": "2s", "run_for": "1s", "log": "hi there"}
    flags = [word for key, value in labels.items() for word in ("--label", f"sim.nebulous/{key}={value}")]
    words = ("--image", "x", "--platform", "runpod", "--accelerators", "1:A100", *flags, "--cmd", "true")
    command = [sys.executable, "-m", "nebulous", "run", "--name", "boots", *words]
    both = subprocess.run(
        command,
        env=server.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    lines = both.stdout.splitlines()
    states = [number for number, line in enumerate(lines) if line.startswith("container/boots ")]
    assert lines[states[0]] == "container/boots created"
    assert any("(Booting)" in lines[number] for number in states), lines
    assert [lines[number] for number in states[-2:]] == ["container/boots running", "container/boots completed"], lines
    assert states[-2] < lines.index("hi there") < states[-1] == len(lines) - 1


def test_run_with_rm_leaves_nothing(server: Server) -> None:
    words = ("--platform", "local", "--", "sh", "-c", "echo hello; exit 3")
    ended = server.nebu("run", "--rm", "--name", "brief", *words)
    assert (ended.returncode, ended.stdout) == (3, "hello\n"), ended.stderr
    assert ended.stderr.endswith("container/brief deleted\n")
    assert server.nebu("get", "containers", "brief").returncode == 3


def test_ctrl_c_with_rm_stops_the_command_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    said = f"echo $$ > {tmp_path}/pid; echo here; exec sleep 300"
    running = started(server, "run", "--rm", "--name", "cut", "--platform", "local", "--cmd", said)
    assert running.stdout
    assert running.stdout.readline() == "here\n"
    pid = int((tmp_path / "pid").read_text())
    assert psutil.pid_exists(pid)
    assert interrupted(running).endswith("container/cut deleted\n")
    assert not psutil.pid_exists(pid)
    assert server.nebu("get", "containers", "cut").returncode == 3


def test_ctrl_c_leaves_the_command_which_top_then_measures_until_it_ends(server: Server) -> None:
    busy = "echo here; exec timeout 120 sh -c 'while :; do :; done'"  # no test that fails leaves it for ever
    running = started(server, "run", "--name", "busy", "--platform", "local", "--cmd", busy)
    assert running.stdout
    assert running.stdout.readline() == "here\n"
    assert "nebu logs -f busy" in interrupted(running)
    server.until_status("busy", "running")

    def measured() -> bool:
        (row,) = json.loads(server.nebu("top", "busy", "-o", "json").stdout)["containers"]
        return row["stats"]["cpu_percent"] > 5 and row["stats"]["memory_bytes"] > 0

    until(measured, "top sees that it is busy")
    table = server.nebu("top").stdout
    assert "busy" in table
    assert re.search(r" (\d+ MiB|\d+\.\d)/\d+\.\d GiB", table), "memory is told of what there is"
    assert server.nebu("delete", "busy").returncode == 0
    gone = server.nebu("top", "busy")
    assert gone.returncode == 3
    finished = server.nebu("run", "--name", "done", "--platform", "local", "--", "true")
    assert finished.returncode == 0
    none = server.nebu("top", "done")
    assert none.returncode == 1
    assert none.stderr == (
        "error: container 'done' is completed: nothing runs that could be measured\n"
        "hint:  what came of it: nebu describe done\n"
    )


def test_detached_it_prints_the_name_alone(server: Server) -> None:
    ended = server.nebu("run", "-d", "--platform", "sim", "--image", "x", "--", "true")
    name = ended.stdout.strip()
    assert ended.returncode == 0
    assert ended.stdout == f"{name}\n"
    assert server.nebu("delete", name).returncode == 0


def test_offers_and_a_dry_run_foresee_where_it_goes(server: Server) -> None:
    words = ("--accelerators", "1:A100", "--platform", "runpod")
    offers = json.loads(server.nebu("get", "offers", *words, "-o", "json").stdout)["offers"]
    dry = server.nebu("create", "container", "--name", "train", "--image", "x", *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    best = offers[0]["place"]
    assert f"chosen: {best} (named by the spec)" in dry.stdout
    assert "runpod (simulated)" in dry.stdout
    assert server.nebu("get", "containers", "train").returncode == 3, "a dry run creates nothing"
    assert server.nebu("create", "container", "--name", "train", "--image", "x", *words).returncode == 0
    status = server.until_status("train", "running")
    assert f"runpod {status['region']} {status['instance_type']}" == best
    assert server.nebu("delete", "train").returncode == 0


def test_without_accelerators_and_a_name_it_says_why_the_others_are_out(server: Server) -> None:
    shown = server.nebu("get", "offers")
    assert shown.returncode == 0, shown.stderr
    out = shown.stdout.split("OUT ")[1]
    assert "chosen: local" in shown.stdout
    assert "runpod" in out
    assert "simulated, so used only when named" in out
    assert "nebu serve --simulate ec2" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--platform", "gce", "--image", "x"), 2, "'gce' is not configured"),
        (("--accelerators", "1:L40SS", "--image", "x"), 2, "unknown accelerator 'L40SS'"),
        (("--platform", "local", "--cmd", "x", "--port", "x"), 2, "is no port"),
    ],
)
def test_a_dry_run_fails_as_creating_does(server: Server, words: tuple[str, ...], code: int, said: str) -> None:
    dry, real = (server.nebu("create", "container", "--name", "bad", *words, *more) for more in (("--dry-run",), ()))
    assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
    assert dry.returncode == code
    assert said in dry.stderr
    assert server.nebu("get", "containers", "bad").returncode == 3


def test_completion_knows_what_is_there(server: Server) -> None:
    assert server.nebu("run", "--name", "complete-me", "--platform", "local", "--", "true").returncode == 0

    def completed() -> bool:
        asked = server.nebu(COMP_LINE="nebu delete containers comp", _NEBU_COMPLETE="bash")
        assert asked.stderr == ""
        return asked.stdout == "complete-me\n"

    until(completed, "the list has it")
