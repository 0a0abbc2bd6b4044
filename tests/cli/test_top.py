"""`nebu top`: a table of what runs, errors for what does not."""

from __future__ import annotations

import json
import signal

import pytest

GIB = 1 << 30
USED = {
    "at": "2026-11-24T03:00:00Z",
    "cpu_percent": 187.4,
    "memory_bytes": 3 * GIB,
    "memory_limit_bytes": 4 * GIB,
    "accelerators": [
        {"index": 0, "name": "L4", "percent": 7.0, "memory_bytes": 12 * GIB, "memory_limit_bytes": 24 * GIB},
        {"index": 1, "name": "L4", "percent": None, "memory_bytes": None, "memory_limit_bytes": None},
    ],
    "simulated": False,
}
PLAIN = {**USED, "cpu_percent": None, "memory_bytes": 5 << 20, "memory_limit_bytes": None, "accelerators": []}


@pytest.fixture
def two(server, double):
    rows = [double.container("foo"), double.container("bar", namespace="team")]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    server.on("GET", "/v1/containers/default/foo", rows[0])
    server.on("GET", "/v1/containers/default/foo/stats", USED)
    server.on("GET", "/v1/containers/team/bar/stats", {**PLAIN, "simulated": True})
    return server


def test_all_that_runs_in_one_table(nebu, two):
    ended = nebu("top", "-l", "team=a")
    assert ended.code == 0
    assert ended.out == (
        "NAMESPACE  NAME  STATUS               CPU   MEMORY       ACCELERATORS\n"
        "default    foo   running              187%  3.0/4.0 GiB  0 L4 7%, 12.0/24.0 GiB; 1 L4 -\n"
        "team       bar   running (simulated)  -     5 MiB        -\n"
    )
    assert two.requests("GET", "/v1/containers")[0].query == {"status": ["running"], "label": ["team=a"]}


def test_programs_get_the_replies(nebu, two):
    (first, _) = json.loads(nebu("top", "-o", "json").out)["containers"]
    assert (first["metadata"]["name"], first["stats"]) == ("foo", USED)


def test_a_named_one_that_does_not_run_is_an_error_and_hides_no_other(nebu, two, double):
    two.on("GET", "/v1/containers/default/old", double.container("old", status="completed"))
    two.on(
        "GET",
        "/v1/containers/default/old/stats",
        double.refusal(409, "Conflict", "container 'old' is completed: nothing runs", "nebu describe old"),
    )
    ended = nebu("top", "old", "foo")
    assert ended.code == 1
    assert ended.err == "error: container 'old' is completed: nothing runs\nhint:  nebu describe old\n"
    assert "187%" in ended.out


def test_one_that_ended_while_all_were_looked_at_is_no_failure(nebu, two, double):
    two.on("GET", "/v1/containers/team/bar/stats", double.refusal(404, "NotFound", "gone"))
    ended = nebu("top")
    assert ended.code == 0
    assert "foo" in ended.out
    assert "gone" in ended.err


def test_nothing_runs(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu("top")
    assert (ended.code, ended.out, ended.err) == (0, "", "no container runs\n")


def test_an_unknown_name_is_code_3(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    assert nebu("top", "nope").code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [(("top", "secret/x"), "secrets use nothing"), (("top", "foo", "-l", "a=b"), "give names, or -l: not both")],
)
def test_used_wrongly_it_is_code_2(nebu, two, words, said):
    ended = nebu(*words)
    assert ended.code == 2
    assert said in ended.err


def test_watching_goes_on_until_ctrl_c_which_is_its_normal_end(program, two):
    running = program("top", "foo", "-w")
    for _ in range(2):
        assert running.stdout.readline().startswith(b"NAME ")
        assert b"foo" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (0, b"")


def test_on_a_terminal_watching_redraws(terminal, two):
    with terminal("top", "foo", "-w") as screen:
        screen.expect("\x1b[H\x1b[2J")
        screen.expect("187%")
        screen.expect("\x1b[H\x1b[2J")
        screen.type("\x03")
        assert screen.ended() == 0
