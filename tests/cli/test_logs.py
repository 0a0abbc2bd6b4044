"""`nebu logs`: bytes as they come, whatever happens to the connection."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from nebulous.cli import logs
from nebulous.cli.logs import follow_log
from nebulous.cli.lookup import Lookup
from nebulous.client import Api, LogFollow, Place, Unreachable
from nebulous.client._sync import api
from nebulous.contexts import Context

LOGS = "/v1/containers/default/foo/logs"
END = {"status": "completed", "reason": "", "exit_code": 0}


@pytest.fixture
def foo(server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    return server


def test_what_was_written_so_far_comes_byte_for_byte(nebu, foo, double):
    foo.on("GET", LOGS, double.Reply(200, b"one\n\xff\xfe no text\r\n", [("Content-Type", "text/plain")]))
    ended = nebu("logs", "foo", "--tail", "10")
    assert ended.code == 0
    assert ended.raw == b"one\n\xff\xfe no text\r\n"
    assert foo.requests("GET", LOGS)[0].query == {"owner": ["local"], "tail": ["10"]}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"status": "completed", "reason": "", "exit_code": 0}, 0),
        ({"status": "failed", "reason": "Exited", "exit_code": 42}, 42),
        ({"status": "failed", "reason": "NoCapacity", "exit_code": None}, 1),
        ({"status": "stopped", "reason": "StoppedByUser", "exit_code": 143}, 143),
        ({"status": "stopped", "reason": "StoppedByUser", "exit_code": None}, 0),
        ({"status": "failed", "reason": "Exited", "exit_code": -9}, 1),
    ],
)
def test_a_followed_log_ends_with_the_commands_own_code(nebu, foo, double, end, code):
    foo.on("GET", LOGS, double.events((3, "log", {"text": "hi\n"}), "ping", (None, "end", end)))
    ended = nebu("logs", "-f", "foo")
    assert (ended.code, ended.out) == (code, "hi\n")


def test_ctrl_c_closes_the_followed_log_at_once(nebu, foo, double, monkeypatch):
    """What is left to the collector is closed at any moment, also when its own thread holds the pool's lock: a hang."""
    foo.on("GET", LOGS, double.events((3, "log", {"text": "hi\n"}), (6, "log", {"text": "ho\n"}), (None, "end", END)))
    followed: list[LogFollow] = []

    class Watched(LogFollow):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            followed.append(self)

    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "LogFollow", Watched)
    monkeypatch.setattr(logs, "emit_bytes", interrupted)
    assert nebu("logs", "-f", "foo").code == 130
    (log,) = followed
    assert inspect.getgeneratorstate(log._running) == inspect.GEN_CLOSED


def test_a_log_cut_in_the_middle_loses_and_doubles_no_byte(nebu, foo, double):
    again = "/v1/containers/idfooxxxxxxx/logs"
    foo.on("GET", LOGS, double.events((4, "log", {"text": "one\n"}), (8, "log", {"text": "two\n"}), cut=True))
    foo.on(
        "GET",
        again,
        double.hang_up(),
        double.Reply(
            200, b'id: 14\nevent: log\ndata: {"text": "half', [("Content-Type", "text/event-stream")], cut=True
        ),
        double.events((14, "log", {"text": "three\n"}), (None, "end", END)),
    )
    ended = nebu("logs", "-f", "foo", "--tail", "2")
    assert ended.code == 0
    assert ended.out == "one\ntwo\nthree\n"
    assert foo.requests("GET", LOGS)[0].query == {"follow": ["true"], "owner": ["local"], "tail": ["2"]}
    for asked in foo.requests("GET", again):
        assert asked.query == {"follow": ["true"], "owner": ["local"], "offset": ["8"]}
    assert len(foo.requests("GET", again)) == 3


def test_a_cut_before_the_first_byte_begins_anew(nebu, foo, double):
    foo.on(
        "GET",
        LOGS,
        double.events("pending: sold out", cut=True),
        double.events((2, "log", {"text": "a\n"}), (None, "end", END)),
    )
    ended = nebu("logs", "-f", "foo")
    assert ended.out == "a\n"
    assert ended.err == "container/foo pending: sold out\n"


def test_bytes_that_are_no_text_survive_the_stream(nebu, foo, double):
    foo.on(
        "GET",
        LOGS,
        double.events((3, "log", {"text": b"\xff\xc3\n".decode("utf-8", "surrogateescape")}), (None, "end", END)),
    )
    assert nebu("logs", "-f", "foo").raw == b"\xff\xc3\n"


def test_a_server_that_stays_away_is_code_5_and_says_how_to_go_on(server, double):
    server.on("GET", LOGS, double.events((4, "log", {"text": "one\n"}), cut=True))
    server.on("GET", "/v1/containers/life/logs", double.hang_up())
    api = Api(server.url, patience=timedelta(seconds=0.05))
    with api, pytest.raises(Unreachable) as failure:
        follow_log(Lookup(api, Context("test")), Place("containers", "foo", "default"), "life", {})
    assert failure.value.hint == "go on with: nebu logs -f foo --offset 4"
    assert "the log broke off" in failure.value.message


def test_a_server_that_keeps_hanging_up_is_given_up(server, double):
    server.on("GET", LOGS, double.Reply(200, b"", [("Content-Type", "text/event-stream")]))
    with Api(server.url, patience=timedelta(seconds=0.05)) as api, pytest.raises(Exception, match="keeps closing"):
        list(api.follow(Place("containers", "foo", "default")))


def test_the_logs_of_a_deleted_container_are_found_by_its_id(nebu, server, double):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    server.on("GET", "/v1/containers/abc234defgh5/logs", double.Reply(200, b"old\n", [("Content-Type", "text/plain")]))
    ended = nebu("logs", "abc234defgh5")
    assert (ended.code, ended.out) == (0, "old\n")


def test_an_unknown_container_has_no_logs(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    assert nebu("logs", "nope").code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logs", "secret/x"], "secrets have no logs"),
        (["logs", "foo", "bar"], "one NAME is expected"),
        (["logs", "foo", "--offset", "3"], "--offset goes with -f"),
        (["logs", "containers"], "which container?"),
        (["logs"], "Missing argument"),
    ],
)
def test_logs_used_wrongly_is_code_2(nebu, words, said):
    ended = nebu(*words)
    assert ended.code == 2
    assert said in ended.err
