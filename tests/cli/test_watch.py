"""`nebu watch`, `nebu get -w`, and the verbs that wait by a watch: lines as they come, whatever happens between."""

from __future__ import annotations

import json
import threading

import pytest
import yaml

from nebulous.cli.tables import Columns
from nebulous.client import Api

WATCH = "/v1/watch"
FOO = "/v1/containers/default/foo"


@pytest.fixture
def refused(double):
    """How a watch without end is ended in a test."""
    return double.refusal(401, "Unauthenticated", "the token has expired", "log in: nebu login")


def row(double, name="foo", version=1, **more):
    made = double.container(name, **more)
    made["metadata"]["resource_version"] = str(version)
    made["metadata"]["created_at"] = 0  # whose age is nothing, and so never changes
    return made


def test_the_table_comes_first_and_then_a_line_for_each_change(nebu, server, double, refused):
    server.on(
        "GET",
        WATCH,
        double.events(
            (None, "added", row(double, "web")),
            (None, "added", row(double, "train", status="creating", reason="Pulling")),
            (1, "synced", {}),
            (2, "modified", row(double, "train", 2, status="completed")),
            (3, "added", row(double, "late", status="pending", reason="NoCapacity")),
            (4, "deleted", row(double, "web", 5, cost_per_hr=1.0)),
        ),
        refused,
    )
    ended = nebu("get", "containers", "-w", "-n", "default")
    assert ended.out == (
        "NAME          STATUS                   PLATFORM    ACCELERATOR  AGE    $/H\n"
        "train         creating (Pulling)       local       -            -      -\n"
        "web           running                  local       -            -      -\n"
        "train         completed                local       -            -      -\n"
        "late          pending (NoCapacity)     local       -            -      -\n"
        "web           deleted                  local       -            -      -\n"
    )
    assert (ended.code, "expired" in ended.err) == (4, True)
    assert server.requests("GET", WATCH)[0].query == {"kind": ["container"], "namespace": ["default"]}


def test_a_column_grows_and_never_shrinks():
    table = Columns(["A", "B"], {"A": 4})
    table.fit(["x", "yy"])
    assert table.head() == "A     B"
    assert table.row(["longer", "y"]) == "longer  y"
    assert table.row(["x", "y"]) == "x       y"


def test_json_is_one_object_a_line_yaml_documents_and_name_names(nebu, server, double, refused):
    first, second = row(double, "a"), row(double, "a", 2, status="completed")
    told = double.events((None, "added", first), (1, "synced", {}), (2, "modified", second))
    wanted = [{"event": "added", **first}, {"event": "modified", **second}]
    server.on("GET", WATCH, told, refused)
    assert [json.loads(line) for line in nebu("watch", "co", "-o", "json").out.splitlines()] == wanted
    server.on("GET", WATCH, told, refused)
    assert list(yaml.safe_load_all(nebu("watch", "co", "-o", "yaml").out)) == wanted
    server.on("GET", WATCH, told, refused)
    assert nebu("get", "co", "-w", "-o", "name").out == "container/a\ncontainer/a\n"
    server.on("GET", WATCH, told, refused)
    ended = nebu("get", "co", "--watch-only", "-o", "json")
    assert [json.loads(line) for line in ended.out.splitlines()] == wanted[1:]


def test_a_cut_watch_goes_on_where_it_was_and_tells_nothing_twice(nebu, server, double, refused):
    server.on(
        "GET",
        WATCH,
        double.events((None, "added", row(double, "a")), cut=True),  # in the middle of the first list
        double.events((None, "added", row(double, "a")), (7, "synced", {}), (8, "added", row(double, "b")), cut=True),
        double.hang_up(),
        double.events(
            (9, "added", row(double, "b")),  # told before
            (9, "modified", row(double, "a", 2)),
            (9, "deleted", row(double, "never", 2)),  # came and went meanwhile
            (10, "synced", {}),
            cut=True,
        ),
        double.events(  # the server cannot resume: its list says what has become of each
            (None, "reset", {}),
            (None, "added", row(double, "a", 3)),
            (None, "added", row(double, "c")),
            (20, "synced", {}),
        ),
        refused,
    )
    lines = [json.loads(line) for line in nebu("watch", "co", "-o", "json").out.splitlines()]
    told = [(line["event"], line["metadata"]["name"], line["metadata"]["resource_version"]) for line in lines]
    assert told == [
        ("added", "a", "1"),
        ("added", "b", "1"),
        ("modified", "a", "2"),
        ("modified", "a", "3"),
        ("added", "c", "1"),
        ("deleted", "b", "1"),
    ]
    cursors = [asked.query.get("cursor") for asked in server.requests("GET", WATCH)]
    assert cursors == [None, None, ["8"], ["8"], ["10"], ["20"]]


def test_another_life_under_the_name_is_told_as_two_things(server, double, refused):
    server.on(
        "GET",
        WATCH,
        double.events((None, "added", row(double, "a", 4, id="old")), (1, "synced", {}), cut=True),
        double.events((None, "reset", {}), (None, "added", row(double, "a", id="new")), (2, "synced", {})),
        refused,
    )
    told = []
    with Api(server.url) as api, pytest.raises(Exception, match="expired"):
        told.extend(_noted(api.watch(), told))
    assert told == [("added", "old"), ("synced", {}), ("deleted", "old"), ("added", "new")]


def _noted(watch, told):
    """Pass on what is told, one by one, so that what comes before a failure is kept."""
    for word, resource in watch:
        told.append((word, resource and resource["metadata"]["id"]))
    return ()


def test_an_id_by_itself_moves_the_cursor(server, double, refused):
    text = b"event: synced\nid: 1\ndata: {}\n\nid: 2\n: ping\n\n"
    server.on("GET", WATCH, double.Reply(200, text, [("Content-Type", "text/event-stream")], cut=True), refused)
    with Api(server.url) as api, pytest.raises(Exception, match="expired"):
        list(api.watch())
    assert server.asked[1].query["cursor"] == ["2"]


def test_one_name_is_watched_where_it_is(nebu, server, double, refused):
    there = row(double, "foo", namespace="team")
    server.on("GET", "/v1/containers", {"containers": [there], "cursor": None})
    server.on("GET", WATCH, double.events((None, "added", there), (1, "synced", {})), refused)
    ended = nebu("watch", "containers", "foo", "-o", "name")
    assert ended.out == "container/foo\n"
    assert server.requests("GET", WATCH)[0].query == {
        "kind": ["container"],
        "namespace": ["team"],
        "name": ["foo"],
        "owner": ["local"],
    }


def test_a_selector_that_matches_nothing_yet_says_so_and_waits(nebu, server, double, refused):
    server.on("GET", WATCH, double.events((1, "synced", {}), (2, "added", row(double, "a"))), refused)
    ended = nebu("get", "containers", "-w", "-l", "team=x", "-o", "name")
    assert ended.out == "container/a\n"
    assert ended.err.startswith("no containers yet; waiting for the first (Ctrl-C ends)\n")
    assert server.asked[0].query == {"kind": ["container"], "label": ["team=x"]}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["watch", "contaners"], 2, "did you mean Container?"),
        (["watch", "processors"], 2, "not in this release"),
        (["get", "accelerators", "-w"], 2, "accelerators cannot be watched"),
        (["watch", "co", "-n", "a", "-A"], 2, "-n and -A contradict"),
        (["watch", "co", "foo", "-l", "a=b"], 2, "give a NAME, or -l"),
        (["watch", "co", "foo", "bar"], 2, "one NAME is expected"),
        (["watch", "co", "-l", "team"], 2, "-l KEY=VALUE"),
        (["get", "co", "-w", "--status", "running"], 2, "-w goes with"),
        (["watch", "co", "nope"], 3, "container/nope does not exist"),
        (["watch"], 2, "Usage"),
    ],
)
def test_what_cannot_be_watched_is_said(nebu, server, words, code, said):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu(*words)
    assert (ended.code, said in ended.err + ended.out) == (code, True), ended


def test_an_older_server_is_named(nebu, server, double):
    server.on("GET", WATCH, double.refusal(404, "NotFound", "there is no GET /v1/watch"))
    ended = nebu("watch", "containers")
    assert ended.code == 1
    assert "is older than `watch`" in ended.err
    assert "nebu get containers" in ended.err


def test_a_server_that_is_not_there_is_code_5_at_once(nebu, server, double):
    server.on("GET", WATCH, double.hang_up())
    ended = nebu("watch", "containers")
    assert ended.code == 5
    assert len(server.asked) == 1


@pytest.fixture
def held(server, double):
    """A watch that goes on until the test is over."""
    release = threading.Event()

    def hold(_):
        release.wait(20)
        return double.hang_up()

    yield hold
    release.set()


def test_on_a_terminal_of_80_columns_lines_stand_under_each_other_and_ctrl_c_is_quiet(terminal, server, double, held):
    server.on(
        "GET",
        WATCH,
        double.events(
            (None, "added", row(double, "pytorch-test", namespace="team", accelerator="1:A100", cost_per_hr=1.6)),
            (1, "synced", {}),
            (2, "modified", row(double, "pytorch-test", 2, namespace="team", status="stopping", reason="Deleting")),
            (3, "deleted", row(double, "pytorch-test", 3, namespace="team")),
        ),
        held,
    )
    with terminal("get", "containers", "-w", columns=80) as screen:
        screen.expect("deleted")
        screen.type("\x03")
        assert screen.ended() == 130
    lines = [line for line in screen.seen.replace("^C", "").split("\r\n") if line]
    assert [line.split()[:3] for line in lines] == [
        ["NAMESPACE", "NAME", "STATUS"],
        ["team", "pytorch-test", "running"],
        ["team", "pytorch-test", "stopping"],
        ["team", "pytorch-test", "deleted"],
    ]
    assert max(map(len, lines)) <= 80
    assert len({line.index(word) for line, word in zip(lines, ("PLATFORM", *["local"] * 3), strict=True)}) == 1


def test_waiting_is_told_by_the_watch_and_asks_no_more_than_it_must(nebu, server, double, held):
    creating, done = row(double, "foo", 2, status="creating"), row(double, "foo", 3, status="completed")
    server.on("GET", FOO, creating)
    stale = row(double, "foo", 1, status="defined")  # visibility is behind
    told = ((None, "added", stale), (1, "synced", {}), (2, "modified", done))
    server.on("GET", WATCH, double.events(*told), held)
    ended = nebu("wait", "foo", "--for=status=completed")
    assert (ended.code, ended.err) == (0, "container/foo creating\ncontainer/foo completed\n")
    assert len(server.requests("GET", FOO)) == 3  # to find it, at first, and when the watch had begun
    assert server.requests("GET", WATCH)[0].query == {
        "kind": ["containers"],
        "namespace": ["default"],
        "name": ["foo"],
        "owner": ["local"],
    }


def test_waiting_goes_on_by_asking_when_the_watch_breaks(nebu, server, double, refused):
    creating = row(double, "foo", 2, status="creating")
    server.on("GET", FOO, *[creating] * 4, row(double, "foo", 3, status="completed"))
    server.on("GET", WATCH, double.events((None, "added", creating), (1, "synced", {})), refused)
    assert nebu("wait", "foo").code == 0


def test_a_deletion_that_the_watch_tells_is_proven_by_a_look(nebu, server, double, held):
    there = row(double, "foo", 2, status="stopping")
    server.on("DELETE", FOO, double.Reply(202, there))
    server.on("GET", FOO, there, there, double.refusal(404, "NotFound", "gone"))
    server.on("GET", WATCH, double.events((None, "added", there), (1, "synced", {}), (2, "deleted", there)), held)
    ended = nebu("delete", "foo")
    assert (ended.code, ended.out) == (0, "container/foo deleted\n")


def test_many_are_deleted_and_told_in_the_order_of_their_proofs(nebu, server, double, held):
    for name in ("a", "b"):
        there = row(double, name, status="stopping")
        server.on("DELETE", f"/v1/containers/default/{name}", double.Reply(202, there))
        server.on("GET", f"/v1/containers/default/{name}", there, there, double.refusal(404, "NotFound", "gone"))
    told = [(None, "added", row(double, name, status="stopping")) for name in ("a", "b")]
    gone = [(number, "deleted", row(double, name)) for number, name in ((2, "b"), (3, "a"))]
    server.on("GET", WATCH, double.events(*told, (1, "synced", {}), *gone), held)
    ended = nebu("delete", "a", "b")
    assert (ended.code, ended.out) == (0, "container/b deleted\ncontainer/a deleted\n")


def test_wait_for_several_by_name_and_by_label(nebu, server, double, held):
    rows = {name: row(double, name, status="running") for name in ("a", "b")}
    for name, there in rows.items():
        server.on("GET", f"/v1/containers/default/{name}", there)
    server.on("GET", "/v1/containers", {"containers": list(rows.values()), "cursor": None})
    ended = [
        (2, "modified", row(double, "b", 2, status="completed")),
        (3, "modified", row(double, "a", 2, status="failed")),
    ]
    for words in (["a", "b"], ["containers", "-l", "team=x"]):
        server.on(
            "GET",
            WATCH,
            double.events(*[(None, "added", each) for each in rows.values()], (1, "synced", {}), *ended),
            held,
        )
        result = nebu("wait", *words)
        assert result.code == 1
        assert "container/a is failed" in result.err
        assert "container/b is" not in result.err


def test_wait_for_ready(nebu, server, double, held):
    server.on("GET", FOO, row(double, "foo", status="running"))
    told = ((None, "added", row(double, "foo")), (1, "synced", {}), (2, "modified", row(double, "foo", 2, ready=True)))
    server.on("GET", WATCH, double.events(*told), held)
    assert nebu("wait", "foo", "--for=ready").code == 0


def test_waiting_for_a_selector_that_matches_nothing(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu("wait", "-l", "team=x", "-n", "a")
    assert ended.code == 3
    assert ended.err == (
        "error: no containers match -l team=x in namespace a\nhint:  `nebu get containers` lists what there is\n"
    )
    assert nebu("wait", "-l", "team=x", "--for=deleted").code == 0


@pytest.mark.parametrize("words", [["foo", "-l", "a=b"], [], ["containers"]])
def test_what_to_wait_for_must_be_clear(nebu, server, words):
    assert nebu("wait", *words).code == 2
    assert not server.asked


def test_waiting_for_a_new_life_lets_the_old_one_go_first(nebu, server, double, held):
    old = row(double, "foo", 5, status="stopping", id="old")
    old["metadata"]["deleted_at"] = 1
    server.on("POST", "/v1/containers", double.Reply(202, row(double, "foo", id="new", status="defined")))
    server.on("GET", FOO, old)
    done = row(double, "foo", 2, id="new", status="completed")
    told = ((None, "added", old), (1, "synced", {}), (2, "deleted", old), (3, "added", done))
    server.on("GET", WATCH, double.events(*told), held)
    ended = nebu("create", "container", "--name", "foo", "--cmd", "true", "--wait")
    assert (ended.code, ended.err.splitlines()[-1]) == (0, "container/foo completed")


def test_ctrl_c_leaves_what_is_waited_for_alone_and_says_how_to_come_back(terminal, server, double, held):
    server.on("GET", FOO, row(double, "foo", status="running"))
    server.on("GET", WATCH, double.events((None, "added", row(double, "foo")), (1, "synced", {})), held)
    with terminal("wait", "foo", columns=80) as screen:
        screen.expect("container/foo running  1s")  # the clock goes on while nothing is told
        screen.type("\x03")
        screen.expect("come back with: nebu wait foo")
        assert screen.ended() == 130
