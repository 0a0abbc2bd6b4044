"""The states around a log: those before it come before it, those after it after it, whatever the server says when."""

from __future__ import annotations

import pytest

FOO = "/v1/containers/default/foo"
LOGS = f"{FOO}/logs"
WATCH = "/v1/watch"
ENDS = {"status": "completed", "reason": "", "exit_code": 0}
HI = (3, "log", {"text": "hi\n"})
CREATE = ("create", "container", "--cmd", "x", "--follow")


@pytest.fixture
def foo(server, double):
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    server.on("GET", FOO, double.container("foo"))
    return server


def test_a_person_sees_the_states_in_their_order_with_labels(terminal, foo, double):
    told = ("pending: Unavailable: Unavailable: docker: no socket", "creating: Pulling: pulling x")
    foo.on("GET", LOGS, double.events(*told, HI, "running: Started", (None, "end", ENDS)))
    with terminal(*CREATE, columns=80) as screen:
        assert screen.ended() == 0
    assert screen.seen.replace("\r\n", "\n").splitlines() == [
        "container/foo created",
        "container/foo pending (Unavailable): docker: no socket",
        "container/foo creating (Pulling): pulling x",
        "container/foo running",
        "hi",
        "container/foo completed",
    ]


def test_a_state_that_comes_behind_the_first_line_is_told_no_more(nebu, foo, double):
    end = {"status": "failed", "reason": "Exited", "exit_code": 3}
    foo.on("GET", LOGS, double.events("defined", HI, "created: Booting: waiting", (None, "end", end)))
    ended = nebu("run", "--", "false")
    assert (ended.code, ended.out) == (3, "hi\n")
    assert ended.err.splitlines() == [
        "container/foo created",
        "container/foo defined",
        "container/foo running",
        "container/foo failed (Exited 3)",
    ]


def test_a_restart_and_a_recovery_behind_the_first_line_are_news(nebu, foo, double):
    more = (
        HI,
        "created: Booting: late",
        "restarting: Exited: in 10s",
        (6, "log", {"text": "hi\n"}),
        "running: Started",
        "pending: InstanceLost: it is gone",
        (9, "log", {"text": "hi\n"}),
    )
    foo.on("GET", LOGS, double.events(*more, (None, "end", ENDS)))
    ended = nebu(*CREATE)
    assert ended.err.splitlines() == [
        "container/foo running",
        "container/foo restarting (Exited): in 10s",
        "container/foo running",
        "container/foo pending (InstanceLost): it is gone",
        "container/foo running",
        "container/foo completed",
    ]


def test_an_end_stands_on_a_line_of_its_own(terminal, foo, double):
    foo.on("GET", LOGS, double.events((2, "log", {"text": "hi"}), (None, "end", ENDS)))
    with terminal(*CREATE, columns=80) as screen:
        assert screen.ended() == 0
    assert screen.seen.replace("\r\n", "\n").endswith("hi\ncontainer/foo completed\n")


def test_logs_say_nothing_of_a_life_that_goes_well(nebu, foo, double):
    foo.on("GET", LOGS, double.events(HI, "running: Started", (None, "end", ENDS)))
    assert nebu("logs", "-f", "foo").err == ""


@pytest.mark.parametrize("words", [("get", "containers", "-w"), ("watch", "containers")])
def test_a_watch_says_once_that_the_server_is_away_and_once_that_it_is_back(nebu, server, double, words):
    row = double.container("foo")
    away = double.refusal(503, "Unavailable", "starting")
    again = double.events((2, "modified", {**row, "metadata": {**row["metadata"], "resource_version": "2"}}))
    over = double.refusal(401, "Unauthenticated", "the token has expired")
    server.on(
        "GET", WATCH, double.events((None, "added", row), (1, "synced", {}), cut=True), away, away, away, again, over
    )
    ended = nebu(*words)
    assert ended.out.count("foo") == 2
    assert ended.err.splitlines()[:2] == ["the server is out of reach; trying again", "the server is back"]
    assert ended.err.count("server is") == 2


def test_a_connection_that_comes_back_at_once_is_no_news(nebu, server, double):
    over = double.refusal(401, "Unauthenticated", "the token has expired")
    first = double.events((None, "added", double.container("foo")), (1, "synced", {}), cut=True)
    server.on("GET", WATCH, first, double.events("ping", cut=True), over)
    assert "server is" not in nebu("watch", "containers").err


def test_what_is_no_state_is_told_as_it_is(nebu, foo, double):
    foo.on("GET", LOGS, double.events("no worker answers for runpod:1", HI, (None, "end", ENDS)))
    assert "no worker answers for runpod:1" in nebu("logs", "-f", "foo").err.splitlines()
