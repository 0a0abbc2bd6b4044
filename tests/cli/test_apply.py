"""`nebu diff` and `nebu apply`: what is shown, what is asked, what is refused, and the exit code of each."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager

import pytest

from nebulous.cli import addresses

FOO = "/v1/containers/default/foo"
FILE = "kind: Container\nmetadata: {name: foo}\nimage: busybox\n"
TIMEOUT = {"field": "timeout", "from": "1h", "to": "2h", "in_place": True}
LABEL = {"field": "metadata.labels.team", "from": None, "to": "x", "in_place": True}
RETRIES = {"field": "max_retries", "from": 3, "to": None, "in_place": True}
IMAGE = {"field": "image", "from": "alpine", "to": "busybox", "in_place": False}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "foo.yaml").write_text(FILE)
    return str(tmp_path / "foo.yaml")


@pytest.fixture
def planned(server, double):
    """A server that answers a dry run with these changes, and takes the rest."""

    def plan(*changes, outcome=None, path=FOO, version="idfoo.7", status=200):
        lasting = any(not change["in_place"] for change in changes)
        said = outcome or ("next" if lasting else "changed" if changes else "same")
        answer = {"outcome": said, "changes": list(changes), "resource_version": version}

        def answered(asked):
            if asked.query.get("dry_run"):
                return double.Reply(200, answer)
            row = double.container(path.rpartition("/")[2], id="newlifenew22" if said == "next" else "idfoo")
            headers = [("X-Nebu-Outcome", said), ("Content-Type", "application/json")]
            return double.Reply(202 if said == "next" else status, row, headers)

        server.on("PUT", path, answered)

    return plan


def writes(server):
    return [asked for asked in server.requests("PUT") if not asked.query.get("dry_run")]


# --- diff -----------------------------------------------------------------------------------------------


def test_no_difference_is_code_0_and_no_output(nebu, server, planned, file):
    planned()
    ended = nebu("diff", "-f", file)
    assert (ended.code, ended.out, ended.err) == (0, "", "no differences\n")
    assert not writes(server)


def test_each_field_is_a_line_and_differences_are_code_1(nebu, server, planned, file):
    planned(LABEL, RETRIES, TIMEOUT)
    ended = nebu("diff", "-f", file)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "container/foo changes in place\n  + metadata.labels.team: x\n  - max_retries: 3\n  ~ timeout: 1h -> 2h\n"
    )
    assert not writes(server)


def test_what_needs_a_new_life_is_marked(nebu, planned, file):
    planned(IMAGE, TIMEOUT)
    ended = nebu("diff", "-f", file)
    assert ended.out == (
        "container/foo needs a new life\n  ~ image: alpine -> busybox  (new life)\n  ~ timeout: 1h -> 2h\n"
    )
    assert ended.code == 1


def test_values_cannot_move_the_cursor(nebu, planned, file):
    planned({"field": "command", "from": "a\x1b[2Jb", "to": ["a", "b c"], "in_place": False})
    ended = nebu("diff", "-f", file)
    assert '  ~ command: "a\\u001b[2Jb" -> ["a", "b c"]' in ended.out
    assert "\x1b" not in ended.out


def test_colours_are_for_terminals_only(terminal, planned, file):
    planned(LABEL, RETRIES, TIMEOUT)
    with terminal("diff", "-f", file) as screen:
        screen.expect("\x1b[32m  + metadata.labels.team: x\x1b[0m")
        screen.expect("\x1b[31m  - max_retries: 3\x1b[0m")
        screen.expect("\x1b[33m  ~ timeout: 1h -> 2h\x1b[0m")
        assert screen.ended() == 1


def test_flags_change_the_file_as_they_do_for_create(nebu, server, planned, file):
    planned(TIMEOUT, path="/v1/containers/team/foo")
    ended = nebu("diff", "-f", file, "--timeout", "2h", "--label", "a=b", "-n", "team")
    assert (ended.code, ended.out.splitlines()[0]) == (1, "container/foo in team changes in place")
    [asked] = server.requests("PUT")
    assert asked.body == {
        "kind": "Container",
        "metadata": {"name": "foo", "namespace": "team", "labels": {"a": "b"}},
        "image": "busybox",
        "timeout": "2h",
    }


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(422, "Rejected", 2), (409, "Conflict", 2), (404, "NotFound", 3), (403, "Forbidden", 4), (503, "Unavailable", 5)],
)
def test_a_comparison_that_cannot_be_made_is_more_than_1(nebu, server, double, file, status, kind, code):
    server.on("PUT", FOO, double.refusal(status, kind, "because"))
    ended = nebu("diff", "-f", file)
    assert ended.code == code
    assert "because" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "/does/not/exist.yaml"], "cannot read '/does/not/exist.yaml'"),
        (["-f", "ftp://host/file.yaml"], "ftp:// cannot be read"),
        (["-f", "https://me:secret@host/file.yaml"], "a user or a password"),
        (["container", "--image", "x"], "metadata.name is missing"),
        (["--image", "x"], "which resource?"),
    ],
)
def test_what_cannot_be_read_is_code_2(nebu, server, words, said):
    for verb in ("diff", "apply"):
        ended = nebu(verb, *words)
        assert ended.code == 2
        assert said in ended.err
        assert "secret@" not in ended.err
    assert not server.asked


# --- apply ----------------------------------------------------------------------------------------------


def test_apply_sends_along_what_was_read(nebu, server, planned, file):
    planned(TIMEOUT)
    ended = nebu("apply", "-f", file)
    assert (ended.code, ended.out) == (0, "container/foo changed\n")
    [asked] = writes(server)
    assert asked.body["metadata"] == {"name": "foo", "resource_version": "idfoo.7"}
    assert "replace" not in asked.query
    assert asked.headers["idempotency-key"]


def test_apply_of_what_is_not_there_creates_it_and_refuses_what_came_meanwhile(nebu, server, planned, file):
    planned(IMAGE, outcome="new", version="")
    ended = nebu("apply", "-f", file)
    assert (ended.code, ended.out) == (0, "container/foo created\n")
    [asked] = writes(server)
    assert asked.body["metadata"]["resource_version"] == ""


def test_apply_of_the_same_writes_nothing(nebu, server, planned, file):
    planned()
    ended = nebu("apply", "-f", file, "--wait")
    assert (ended.code, ended.out) == (0, "container/foo unchanged\n")
    assert not writes(server)


def test_a_dry_run_shows_and_writes_nothing(nebu, server, planned, file):
    planned(IMAGE)
    ended = nebu("apply", "-f", file, "--dry-run")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "container/foo needs a new life")
    assert not writes(server)


def test_a_new_life_is_refused_where_nobody_can_be_asked_with_what_to_type(nebu, server, planned, file):
    planned(IMAGE, TIMEOUT)
    ended = nebu("apply", "-f", file)
    assert ended.code == 2
    assert "error: container/foo needs a new life: image cannot change in place" in ended.err
    assert f"type: nebu apply -f {file} --replace" in ended.err
    assert not writes(server)


@pytest.mark.parametrize("consent", ["--replace", "--yes"])
def test_a_new_life_begins_with_consent(nebu, server, planned, file, consent):
    planned(IMAGE)
    ended = nebu("apply", "-f", file, consent)
    assert (ended.code, ended.out) == (0, "container/foo replaced\n")
    [asked] = writes(server)
    assert asked.query["replace"] == ["true"]


@pytest.mark.parametrize(("answer", "code", "count"), [("y", 0, 1), ("n", 1, 0), ("", 1, 0)])
def test_a_terminal_is_asked_and_anything_but_yes_is_no(terminal, server, planned, file, answer, code, count):
    planned(IMAGE)
    with terminal("apply", "-f", file) as screen:
        screen.expect("~ image: alpine -> busybox  (new life)")
        screen.expect("stop container/foo and begin a new life? [y/N] ")
        screen.type(f"{answer}\n")
        assert screen.ended() == code
        assert len(writes(server)) == count
        if code:
            screen.expect("nothing was changed")


@pytest.mark.parametrize("verb", ["apply", "diff"])
def test_a_stale_version_of_a_file_stands_where_it_was_written(nebu, server, double, tmp_path, verb):
    stale = double.refusal(409, "Conflict", "it changed meanwhile: resource_version is '9', not '7'", "read it again")
    server.on("PUT", FOO, stale)
    printed = tmp_path / "printed.yaml"
    printed.write_text("kind: Container\nmetadata:\n  name: foo\n  id: life1\n  resource_version: '7'\nimage: x\n")
    ended = nebu(verb, "-f", str(printed))
    assert ended.code == (1 if verb == "apply" else 2)
    assert f"{printed}:5:3: " in ended.err
    assert "resource_version is '9', not '7'" in ended.err
    assert server.asked[0].body["metadata"] == {"name": "foo", "resource_version": "life1.7"}


def test_a_resource_that_changed_since_is_refused(nebu, server, double, planned, file):
    planned(TIMEOUT)
    stale = double.refusal(409, "Conflict", "it changed meanwhile: resource_version is '9', not '7'", "read it again")
    answers = server._replies[("PUT", FOO)]
    server.on("PUT", FOO, answers[0], stale)
    ended = nebu("apply", "-f", file)
    assert ended.code == 1
    assert "resource_version is '9', not '7'" in ended.err
    assert "read it again" in ended.err


def test_wait_outlives_the_old_life_and_follows_the_new_one(nebu, server, double, planned, file):
    planned(IMAGE)
    old = double.container("foo", status="stopping", id="idfoo")
    new = [double.container("foo", status=status, id="newlifenew22") for status in ("running", "completed")]
    server.on("GET", FOO, old, old, new[0], *new)
    ended = nebu("apply", "-f", file, "--replace", "--wait")
    assert (ended.code, ended.out) == (0, "container/foo replaced\n")
    assert "container/foo stopping" in ended.err
    assert "container/foo completed" in ended.err


def test_a_secret_is_applied_from_a_flag(nebu, server, planned):
    path = "/v1/secrets/default/hf"
    planned({"field": "value", "from": "***", "to": "***", "in_place": True}, path=path)
    ended = nebu("apply", "secret", "hf", "--value", "-", stdin="hunter2\n")
    assert (ended.code, ended.out) == (0, "secret/hf changed\n")
    assert "hunter2" not in ended.out + ended.err
    assert [asked.body["value"] for asked in server.requests("PUT", path)] == ["hunter2", "hunter2"]
    assert nebu("apply", "container", "foo", "--value", "x").code == 2


# --- many -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "many"
    made.mkdir()
    (made / "1-secret.yaml").write_text("kind: Secret\nmetadata: {name: hf}\nvalue: x\n")
    (made / "2-foo.yml").write_text(FILE + "---\nkind: Container\nmetadata: {name: bar}\nimage: x\n")
    (made / "notes.txt").write_text("not: [a resource")
    return made


def test_a_folder_is_applied_in_order_and_later_files_may_use_what_earlier_ones_make(nebu, server, planned, folder):
    planned(outcome="new", path="/v1/secrets/default/hf", version="")
    planned(outcome="new", version="")
    planned(TIMEOUT, path="/v1/containers/default/bar")
    ended = nebu("apply", "-f", str(folder))
    assert (ended.code, ended.out) == (0, "secret/hf created\ncontainer/foo created\ncontainer/bar changed\n")
    assert [asked.path.rpartition("/")[2] for asked in writes(server)] == ["hf", "foo", "bar"]
    plans = [asked for asked in server.requests("PUT") if asked.query.get("dry_run")]
    assert plans[2].query["assume"] == ["secret/default/hf", "container/default/foo"]


def test_a_folder_with_a_broken_file_changes_nothing(nebu, server, planned, folder):
    (folder / "3-broken.yaml").write_text("kind: Container\nimage: [a\n")
    ended = nebu("apply", "-f", str(folder))
    assert ended.code == 2
    assert "3-broken.yaml:" in ended.err
    assert not server.asked
    assert nebu("diff", "-f", str(folder)).code == 2


def test_a_folder_with_a_spec_that_is_refused_changes_nothing_and_shows_where(nebu, server, double, planned, folder):
    planned(outcome="new", path="/v1/secrets/default/hf", version="")
    planned(TIMEOUT, path="/v1/containers/default/bar")
    problems = [{"path": ["image"], "message": "is unheard of"}]
    server.on("PUT", FOO, double.refusal(422, "Rejected", "image: is unheard of", problems=problems))
    ended = nebu("apply", "-f", str(folder))
    assert ended.code == 2
    assert "2-foo.yml:3:1: image: is unheard of" in ended.err
    assert "nothing was changed" in ended.err
    assert not writes(server)


def test_a_folder_that_says_two_things_of_one_resource_is_refused(nebu, server, folder):
    (folder / "3-again.yaml").write_text(FILE)
    ended = nebu("apply", "-f", str(folder))
    assert ended.code == 2
    assert "Container 'foo' is given twice, also at" in ended.err
    assert not server.asked


def test_an_empty_folder_is_usage(nebu, server, tmp_path):
    ended = nebu("apply", "-f", str(tmp_path))
    assert ended.code == 2
    assert ".yaml, .yml, .json" in ended.err


def test_standard_input_is_read(nebu, planned):
    planned(TIMEOUT)
    assert nebu("apply", "-f", "-", stdin=FILE).out == "container/foo changed\n"


# --- addresses ------------------------------------------------------------------------------------------


@contextmanager
def serving(body=b"", status=200, kind="text/plain", headers=()):
    """A web server that remembers the headers that it got."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_port}/foo.yaml", got
        finally:
            web.shutdown()
            thread.join()


def test_an_address_is_read_without_anybodys_credentials(nebu, planned):
    planned(TIMEOUT)
    with serving(FILE.encode()) as (address, got):
        ended = nebu("apply", "-f", address)
    assert (ended.code, ended.out) == (0, "container/foo changed\n")
    assert "authorization" not in got[0]
    assert "cookie" not in got[0]


def test_problems_in_a_file_at_an_address_name_it(nebu, server):
    with serving(b"kind: Container\nimage: [a\n") as (address, _):
        ended = nebu("diff", "-f", address)
    assert ended.code == 2
    assert f"{address}:" in ended.err


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"status": 404}, 3, "there is nothing at"),
        ({"status": 500}, 5, "answered 500"),
        ({"status": 403}, 2, "answered 403"),
        ({"body": b"<html>", "kind": "text/html"}, 2, "is a web page"),
        ({"body": b"#" * 1_000_001}, 2, "is larger than 1 MB"),
        ({"body": b"\xff\xfe"}, 2, "is not UTF-8"),
        ({"status": 302, "headers": [("Location", "/foo.yaml")]}, 5, "redirects"),
        ({"status": 302, "headers": [("Location", "file:///etc/passwd")]}, 5, "cannot read"),
    ],
)
def test_an_address_that_gives_no_file_is_explained(nebu, server, answer, code, said):
    with serving(**answer) as (address, _):
        ended = nebu("apply", "-f", address)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert not server.asked


def test_nobody_at_an_address_is_said_and_slow_ones_are_left(nebu, server, monkeypatch):
    ended = nebu("apply", "-f", "http://127.0.0.1:9/foo.yaml")
    assert ended.code == 5
    assert "cannot read http://127.0.0.1:9/foo.yaml" in ended.err
    monkeypatch.setattr(addresses, "LONGEST_S", 0.0)
    with serving(FILE.encode()) as (address, _):
        assert nebu("apply", "-f", address).code == 5


def test_create_of_what_exists_otherwise_names_apply(nebu, server, double, file):
    hint = "change it with `nebu apply`, delete it first (nebu delete container foo), or choose another name"
    server.on("POST", "/v1/containers", double.refusal(409, "Conflict", "it exists with another spec", hint))
    ended = nebu("create", "-f", file)
    assert ended.code == 1
    assert "nebu apply" in ended.err
