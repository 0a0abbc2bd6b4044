"""Completion as a person meets it: real shells with the printed script, against a server that answers, or does not."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nebulous.cli.completing import Line, answer

BIN = Path(sys.executable).parent
#: Calls the function as readline does, and prints what it proposes.
ASK = """eval "$(nebu completion bash)"
COMP_LINE="$1"; COMP_POINT="${#1}"
_nebu_completion nebu
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(server, monkeypatch):
    """The test's server, and `nebu` on the path; also for this process."""
    for name, value in {"NEBU_SERVER": server.url, "NEBU_API_KEY": "a-token", "PS1": "$ "}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    return os.environ


@pytest.fixture
def proposed(environment):
    """What real bash proposes for a line."""

    def ask(line: str) -> list[str]:
        command = ["bash", "--norc", "--noprofile", "-c", ASK, "bash", line]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=20, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    return ask


def words(line: str) -> list[str]:
    """The same without a shell."""
    return [each for each in answer("fish", line).splitlines() if each]


def values(line: str) -> list[str]:
    return [each.partition("\t")[0] for each in words(line)]


@pytest.fixture
def three(server, double, environment):
    rows = [
        double.container("train-a"),
        double.container("train-b", status="failed"),
        double.container("serve", "team"),
    ]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    secret = {"metadata": {"name": "hf-token", "namespace": "default"}, "status": {"status": "ready"}}
    server.on("GET", "/v1/secrets", {"secrets": [secret], "cursor": None})
    return server


def test_bash_completes_verbs_kinds_names_flags_and_values(proposed, three):
    assert proposed("nebu re") == ["restart"]
    assert proposed("nebu get sec") == ["secrets"]
    assert proposed("nebu logs -f tr") == ["train-a", "train-b"]
    assert proposed("nebu logs --ta") == ["--tail"]
    assert proposed("nebu create container --platform r") == ["runpod"]
    behind_the_colon = proposed("nebu create container --accelerators 4:a100-8")
    assert behind_the_colon == ["A100-80GB-PCIE", "A100-80GB-SXM"]


def test_bash_is_told_to_offer_files_where_files_are_meant(proposed):
    assert proposed("nebu create -f ") == []


def test_a_server_that_is_away_completes_nothing_and_says_nothing(proposed, environment, monkeypatch):
    monkeypatch.setenv("NEBU_SERVER", "http://127.0.0.1:1")
    assert proposed("nebu logs tr") == []
    assert proposed("nebu delete containers ") == []


def test_a_server_that_refuses_completes_nothing(server, double, environment):
    server.on("GET", "/v1/containers", double.refusal(401, "Unauthenticated", "who are you?"))
    assert values("nebu logs tr") == []


def test_a_server_that_hangs_is_not_waited_for(server, double, environment):
    left = threading.Event()

    def hang(_):
        left.wait(20)
        return double.hang_up()

    server.on("GET", "/v1/containers", hang)
    begun = time.monotonic()
    assert values("nebu logs tr") == []
    assert time.monotonic() - begun < 10, "a second, on a machine that is not busy"
    left.set()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("nebu ", ["run", "create", "completion", "serve"]),
        ("nebu logs ", ["train-a", "serve", "containers"]),
        ("nebu delete containers train-a ", ["train-b", "serve"]),
        ("nebu delete co ", ["train-a"]),
        ("nebu get secrets ", ["hf-token"]),
        ("nebu describe secret h", ["hf-token"]),
        ("nebu get ", ["containers", "secrets", "offers", "platforms", "accelerators"]),
        ("nebu get containers -n ", ["default", "team"]),
        ("nebu get containers -o ", ["table", "wide", "json", "yaml", "name"]),
        ("nebu get containers --output=", ["--output=table"]),
        ("nebu get offers --accelerators ", ["1:A100", "1:H100-SXM", "1:L4"]),
        ("nebu run --accelerators 8:h1", ["8:H100", "8:H100-SXM"]),
        ("nebu run --accelerators=8:h1", ["--accelerators=8:H100"]),
        ("nebu run --restart O", ["OnFailure"]),
        ("nebu wait train-a --for del", ["deleted"]),
        ("nebu create container --for r", ["running", "restarting"]),
        ("nebu get containers --status q", ["queued"]),
        ("nebu create ", ["container", "secret"]),
        ("nebu create container --env-file ", [":files"]),
        ("nebu create container --c", ["--cmd"]),
        ("nebu config ", ["contexts", "use", "show"]),
        ("nebu completion z", ["zsh"]),
        ("nebu schema con", ["containers"]),
        ("nebu stop 'train", ["train-a", "train-b"]),
        ("sudo NEBU_X=1 /opt/bin/nebu vers", ["version"]),
        ("nebu top -n team --own", ["--owner"]),
        ("nebu run --rm -- ", [":files"]),
        ("nebu cp ", ["train-a:", "serve:", "tests/", "README.md"]),
        ("nebu cp README.md tr", ["train-a:", "train-b:"]),
        ("nebu cp ./", [":files"]),
        ("nebu cp train-a:/data ~", [":files"]),
        ("nebu get offers --", ["--accelerators", "--spot", "--regions", "--max-price", "--platform", "--output"]),
        ("nebu get platforms --", ["--output", "--platform"]),
    ],
)
def test_what_could_stand_there(three, line, some):
    found = values(line)
    assert [each for each in some if each not in found] == [], found


@pytest.mark.parametrize(
    "line",
    ["nebu nonsense ", "nebu logs --tail ", "nebu version ", "nebu config nonsense x", "", 'nebu "', "nebu a'b\"c "],
)
def test_where_nothing_can_stand_there_is_nothing(three, line):
    assert values(line) in ([], values("nebu ")), "nothing, or at most the verbs"


def test_only_flags_that_go_with_what_is_asked_for_are_proposed(three):
    assert "--status" not in values("nebu get offers --")
    assert "--spot" not in values("nebu get containers --")
    assert "--label" not in values("nebu get accelerators --")


def test_names_given_already_and_flags_that_go_once_are_not_proposed_again(three):
    assert values("nebu stop train-a tr") == ["train-b"]
    assert "--tail" not in values("nebu logs --tail 5 -")
    assert "--label" in values("nebu get containers -l a=b -")


def test_a_namespace_narrows_the_names(three):
    values("nebu logs -n team --owner acme s")
    assert three.requests("GET")[-1].query == {"namespace": ["team"], "owner": ["acme"], "limit": ["200"]}


def test_meanings_go_along_where_a_shell_shows_them(three):
    assert "failed" in answer("fish", "nebu logs train-b").partition("\t")[2]
    assert answer("zsh", "nebu run --accelerators 2:T4G") == "2\\:T4G"
    assert answer("zsh", "nebu logs train-b") == "train-b:failed"


def test_a_line_is_read_as_a_shell_does():
    assert Line.read("a 'b c' d") == Line(["a", "b c"], "d")
    assert Line.read("a b ") == Line(["a", "b"], "")
    assert Line.read("a 'b c") == Line(["a"], "b c")


def test_in_a_terminal_tab_writes_the_rest(environment, three, tmp_path):
    (tmp_path / "basic.yaml").touch()
    ours, theirs = pty.openpty()
    shell = ["bash", "--norc", "--noprofile", "-i"]
    process = subprocess.Popen(
        shell, env=dict(environment), cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = ""

    def expect(text: str) -> None:
        nonlocal seen
        end = time.monotonic() + 20
        while text not in seen:
            assert time.monotonic() < end, f"{text!r} did not come, but {seen!r}"
            if select.select([ours], [], [], 0.5)[0]:
                seen += os.read(ours, 65536).decode()
        seen = seen[seen.index(text) + len(text) :]

    try:
        for typed, completed in (
            ('eval "$(nebu completion bash)"; echo lo""aded\n', "loaded"),
            ("nebu whoa\t", "nebu whoami "),
            ("\x15nebu create container --accelerators 2:T4G\t", "2:T4G "),
            ("\x15nebu create -f ba\t", "basic.yaml "),
            ("\x15nebu stop serv\t", "serve "),
        ):
            os.write(ours, typed.encode())
            expect(completed)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(environment, three, shell):
    """Where the shell is installed it reads the script; elsewhere the script is at least whole."""
    script = subprocess.run(
        ["nebu", "completion", shell], env=dict(environment), capture_output=True, text=True, check=True
    )
    assert "_NEBU_COMPLETE" in script.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n" if shell == "zsh" else "--no-execute"], input=script.stdout, text=True, check=True)
