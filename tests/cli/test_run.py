"""`nebu run`, and `create` with --wait, --follow and --rm: what comes out, how it ends, what Ctrl-C does."""

from __future__ import annotations

import signal

import pytest

FOO = "/v1/containers/default/foo"
LOGS = f"{FOO}/logs"
ENDS = {"status": "completed", "reason": "", "exit_code": 0}


@pytest.fixture
def foo(server, double):
    """A server that creates `foo`, whose command says hi and ends well."""
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    server.on("GET", FOO, double.container("foo", status="completed"))
    server.on("GET", LOGS, double.events("pending: sold out", (3, "log", {"text": "hi\n"}), (None, "end", ENDS)))
    return server


def deletable(server, double):
    """DELETE begins the end, and then nothing is there."""
    stopping = double.container("foo", status="stopping", reason="Deleting", message="giving the instance back")
    server.on("DELETE", FOO, double.Reply(202, stopping))
    server.on("GET", FOO, stopping, double.refusal(404, "NotFound", "gone"))


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--image", "busybox", "--", "ls", "-l", "--", "x"),
        ("run", "--image", "busybox", "ls", "-l", "--", "x"),
    ],
)
def test_the_command_is_everything_after_the_flags(nebu, foo, words):
    ended = nebu(*words)
    assert (ended.code, ended.out) == (0, "hi\n")
    assert ended.err == (
        "container/foo created\ncontainer/foo pending: sold out\ncontainer/foo running\ncontainer/foo completed\n"
    )
    (asked,) = foo.requests("POST")
    assert asked.body["command"] == ["ls", "-l", "--", "x"]
    assert asked.body["image"] == "busybox"
    assert asked.body["metadata"] == {}


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"status": "failed", "reason": "Exited", "exit_code": 42}, 42),
        ({"status": "failed", "reason": "NoCapacity", "exit_code": None}, 1),
        ({"status": "invalid", "reason": "Rejected", "exit_code": None}, 1),
        ({"status": "stopped", "reason": "StoppedByUser", "exit_code": 143}, 143),
    ],
)
def test_it_ends_with_the_commands_own_code(nebu, foo, double, end, code):
    foo.on("GET", LOGS, double.events((None, "end", end)))
    assert nebu("run", "--cmd", "x").code == code


def test_detached_it_prints_the_name_and_nothing_else(nebu, foo):
    ended = nebu("run", "-d", "--name", "foo", "-n", "team", "--", "sleep", "9")
    assert (ended.code, ended.out, ended.err) == (0, "foo\n", "")
    assert foo.requests("POST")[0].body["metadata"] == {"name": "foo", "namespace": "team"}
    assert not foo.requests("GET")


def test_rm_deletes_afterwards_with_proof_and_keeps_the_code(nebu, foo, double):
    deletable(foo, double)
    foo.on("GET", LOGS, double.events((None, "end", {"status": "failed", "reason": "Exited", "exit_code": 3})))
    ended = nebu("run", "--rm", "--", "false")
    assert ended.code == 3
    assert ended.err.splitlines() == [
        "container/foo created",
        "container/foo failed (Exited 3)",
        "container/foo stopping (Deleting): giving the instance back",
        "container/foo deleted",
    ]


def test_a_file_gives_the_rest_and_the_words_the_command(nebu, foo, tmp_path):
    file = tmp_path / "base.yaml"
    file.write_text("kind: Container\nmetadata: {name: foo}\nimage: busybox\ncommand: echo from the file\n")
    nebu("run", "-f", str(file), "--", "echo", "hello")
    assert foo.requests("POST")[0].body == {
        "kind": "Container",
        "metadata": {"name": "foo"},
        "image": "busybox",
        "command": ["echo", "hello"],
    }


def test_what_the_api_refuses_of_the_command_names_it(nebu, server, double):
    problems = [{"path": ["command"], "message": "is too long"}]
    server.on("POST", "/v1/containers", double.refusal(422, "Rejected", "command: is too long", problems=problems))
    ended = nebu("run", "--", "x")
    assert ended.code == 2
    assert ended.err == "error: CMD: command: is too long\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "run what?"),
        (("run", "-d", "--rm", "--", "x"), "-d and --rm contradict each other"),
        (("run", "--cmd", "x", "--", "y"), "the command is given twice"),
        (("create", "container", "--cmd", "x", "--rm"), "--rm goes with --wait or --follow"),
        (("create", "container", "--cmd", "x", "--wait", "--rm", "--for", "running"), "--for makes no sense"),
        (("create", "container", "--cmd", "x", "--for", "runing"), "did you mean 'running'?"),
        (("create", "secret", "t", "--value", "x", "--rm"), "go with one container"),
    ],
)
def test_used_wrongly_it_is_code_2_and_creates_nothing(nebu, server, words, said):
    ended = nebu(*words)
    assert ended.code == 2
    assert said in ended.err
    assert not server.requests("POST")


def test_run_takes_one_container(nebu, server):
    text = "kind: Container\nimage: x\n---\nkind: Container\nimage: y\n"
    ended = nebu("run", "-f", "-", stdin=text)
    assert ended.code == 2
    assert "2 documents: run takes one container" in ended.err


@pytest.mark.parametrize(("flags", "code"), [(("--wait",), 1), (("--follow",), 3), (("--wait", "--follow"), 3)])
def test_create_waits_or_follows_then_removes(nebu, server, double, flags, code):
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    server.on("GET", LOGS, double.events((None, "end", {"status": "failed", "reason": "Exited", "exit_code": 3})))
    server.on(
        "GET",
        FOO,
        double.container("foo", status="failed", reason="Exited", exit_code=3),
        double.refusal(404, "NotFound", "gone"),
    )
    server.on("DELETE", FOO, double.Reply(202, double.container("foo", status="stopping")))
    ended = nebu("create", "container", "--cmd", "exit 3", *flags, "--rm")
    assert ended.code == code
    assert ended.out == "container/foo created\n"
    assert ended.err.endswith("container/foo deleted\n")
    assert server.requests("DELETE", FOO)


def test_with_rm_one_that_restarts_always_is_waited_for_until_it_ends(nebu, server, double):
    spec = {"restart": "Always"}
    server.on("POST", "/v1/containers", double.container("foo", status="defined", spec=spec))
    running, stopped = (double.container("foo", status=status, spec=spec) for status in ("running", "stopped"))
    server.on("GET", FOO, running, stopped, double.refusal(404, "NotFound", "gone"))
    server.on("DELETE", FOO, double.Reply(202, stopped))
    assert nebu("create", "container", "--cmd", "x", "--restart", "Always", "--wait", "--rm").code == 0


def test_when_the_server_goes_away_it_says_that_nothing_was_deleted(nebu, foo, double, monkeypatch):
    foo.on("POST", "/v1/containers", double.container("foo", status="defined"))
    foo.on("GET", LOGS, double.refusal(401, "Unauthenticated", "the token has expired", "log in"))
    ended = nebu("run", "--rm", "--", "x")
    assert ended.code == 4
    assert "foo was not deleted: nebu delete foo\n" in ended.err
    assert not foo.requests("DELETE")


def test_ctrl_c_leaves_the_container_and_says_how_to_come_back(program, foo, double):
    foo.on("GET", LOGS, double.events((3, "log", {"text": "hi\n"}), cut=True))
    foo.on("GET", "/v1/containers/idfooxxxxxxx/logs", double.hang_up())
    running = program("run", "--", "sleep", "100")
    assert running.stdout.read(3) == b"hi\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"detached; come back with: nebu logs -f foo --tail 20" in err
    assert b"nebu stop foo" in err
    assert not foo.requests("DELETE")


def test_with_rm_ctrl_c_stops_and_deletes_with_proof(program, foo, double):
    deletable(foo, double)
    foo.on("GET", LOGS, double.events((3, "log", {"text": "hi\n"}), cut=True))
    foo.on("GET", "/v1/containers/idfooxxxxxxx/logs", double.hang_up())
    running = program("run", "--rm", "--", "sleep", "100")
    assert running.stdout.read(3) == b"hi\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"stopping and deleting foo, because of --rm" in err
    assert err.endswith(b"container/foo deleted\n")
    assert len(foo.requests("DELETE", FOO)) == 1


def test_a_dry_run_asks_and_runs_nothing(nebu, server, double):
    nothing = {"offers": [], "out": [], "why": "", "problem": "NoCapacity: none", "rejected": False}
    server.on("POST", "/v1/containers", {"outcome": "new", "resource": double.container("foo"), **nothing})
    ended = nebu("run", "--name", "foo", "--dry-run", "--", "x")
    assert ended.code == 0
    assert (
        ended.out == "container/foo would be created (dry run)\nno offer now; it would be pending: NoCapacity: none\n"
    )
    assert not server.requests("GET")


LONG = "trying sim-west, sim-east, sim-north and every other region that there is, one after the other"


def test_on_a_terminal_of_80_columns_progress_stays_on_its_line_and_ctrl_c_with_rm_cleans_up(terminal, server, double):
    pending = double.container("foo", status="pending", reason="NoCapacity", message=LONG)
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    server.on("GET", FOO, pending)
    server.on("DELETE", FOO, lambda _: (deletable(server, double), double.Reply(202, pending))[1])
    with terminal("create", "container", "--cmd", "x", "--wait", "--rm", columns=80) as screen:
        screen.expect("container/foo created")
        screen.expect("…  ")
        screen.expect("\r\x1b[Kcontainer/foo pending (NoCapacity): trying")
        screen.type("\x03")
        screen.expect(f"{LONG}  ")
        screen.expect("stopping and deleting foo, because of --rm")
        screen.expect("container/foo deleted")
        assert screen.ended() == 130
    live = [line for line in screen.seen.split("\r") if line.startswith("\x1b[K") and not line.endswith("\n")]
    drawn = [line.removeprefix("\x1b[K").removesuffix("^C") for line in live]
    assert drawn
    assert [line for line in drawn if len(line) > 80 and LONG not in line] == []


def test_a_followed_run_on_a_terminal_shows_output_as_it_comes(terminal, foo, double):
    foo.on("GET", LOGS, double.events("pending: sold out", (3, "log", {"text": "hi\n"}), (None, "end", ENDS)))
    with terminal("run", "--", "echo", "hi", columns=80) as screen:
        for text in ("container/foo created", "pending: sold out", "hi"):
            screen.expect(text)
        assert screen.ended() == 0


def test_rm_leaves_alone_what_was_there_already(nebu, foo, double):
    same = double.Reply(200, double.container("foo"), [("X-Nebu-Outcome", "same")])
    foo.on("POST", "/v1/containers", same)
    ended = nebu("run", "--rm", "--name", "foo", "--", "x")
    assert ended.code == 1
    assert "container/foo was there already, so --rm leaves it alone" in ended.err
    assert not foo.requests("DELETE")


def test_rm_also_cleans_up_when_the_reader_of_the_output_leaves(program, foo, double):
    deletable(foo, double)
    many = [(number + 1, "log", {"text": "x" * 9999 + "\n"}) for number in range(200)]
    foo.on("GET", LOGS, double.events(*many, (None, "end", ENDS)))
    running = program("run", "--rm", "--", "yes")
    running.stdout.read(1)
    running.stdout.close()
    assert running.wait(20) == 141
    assert running.stderr.read().endswith(b"container/foo deleted\n")
    running.stderr.close()
    assert len(foo.requests("DELETE", FOO)) == 1
