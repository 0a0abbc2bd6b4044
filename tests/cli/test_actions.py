"""`nebu stop`, `start`, `restart`, `delete` and `wait`: what is meant, what is asked first, what is waited for."""

from __future__ import annotations

import pytest

from nebulous.cli import names
from nebulous.cli.failures import UsageError

FOO = "/v1/containers/default/foo"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["foo"], [("container", None, "foo")]),
        (["containers", "foo", "bar"], [("container", None, "foo"), ("container", None, "bar")]),
        (["CO", "foo"], [("container", None, "foo")]),
        (["secret/tok"], [("secret", None, "tok")]),
        (["Agentsea/foo"], [("container", "Agentsea", "foo")]),
        (["container/Agentsea/foo"], [("container", "Agentsea", "foo")]),
        (["secrets", "Agentsea/tok"], [("secret", "Agentsea", "tok")]),
        (["foo", "bar"], [("container", None, "foo"), ("container", None, "bar")]),
        (["container/container"], [("container", None, "container")]),
    ],
)
def test_words_name_resources(words, expected):
    assert [(each.kind.id, each.owner, each.name) for each in names.select(words).targets] == expected


@pytest.mark.parametrize("words", [["contaner", "foo"], ["processors", "foo"], ["a/b/c"], ["a//b"], ["co", "/x"]])
def test_words_that_may_be_a_slip_name_nothing(words):
    with pytest.raises(UsageError):
        names.select(words)


@pytest.mark.parametrize(("verb", "doing"), [("stop", "stopping"), ("start", "starting"), ("restart", "restarting")])
def test_a_verb_is_passed_on_with_a_key(nebu, server, double, verb, doing):
    server.on("POST", f"{FOO}/{verb}", double.Reply(202, double.container("foo")))
    ended = nebu(verb, "foo")
    assert (ended.code, ended.out) == (0, f"container/foo {doing}\n")
    assert server.asked[0].headers["idempotency-key"]


@pytest.mark.parametrize(
    ("verb", "status", "said"),
    [
        ("stop", "stopped", "is stopped already"),
        ("stop", "stopping", "is stopping already"),
        ("stop", "completed", "has ended already: completed"),
        ("start", "running", "runs already"),
        ("start", "pending", "is on its way already: pending"),
    ],
)
def test_a_verb_without_effect_says_what_is_so_already(nebu, server, double, verb, status, said):
    row = double.container("foo", status=status)
    server.on("POST", f"{FOO}/{verb}", double.Reply(202, row, [("X-Nebu-Outcome", "same")]))
    ended = nebu(verb, "foo")
    assert (ended.code, ended.out, ended.err) == (0, f"container/foo {said}\n", "")


def test_a_secret_cannot_be_stopped(nebu, server):
    ended = nebu("stop", "secret/x")
    assert ended.code == 2
    assert not server.asked


def test_a_broken_connection_is_repeated_with_the_same_key(nebu, server, double):
    server.on(
        "POST",
        f"{FOO}/stop",
        double.hang_up(),
        double.refusal(503, "Unavailable", "Temporal asks for a pause"),
        double.Reply(202, double.container("foo")),
    )
    assert nebu("stop", "foo").code == 0
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert (len(server.asked), len(keys)) == (3, 1)


def test_the_panic_button_needs_a_yes_where_nobody_can_be_asked(nebu, server, double):
    rows = [double.container("a"), double.container("b", namespace="team"), double.container("c", status="failed")]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    ended = nebu("stop", "containers", "--all")
    assert ended.code == 2
    assert ended.err == (
        "error: --all would stop 2 containers in all namespaces of your organization\nhint:  confirm it with --yes\n"
    )
    assert not server.requests("POST")


def test_the_panic_button_stops_all_that_live(nebu, server, double):
    rows = [double.container("a"), double.container("b", namespace="team"), double.container("c", status="failed")]
    followed = double.container("d", status="completed")
    followed["metadata"]["next_id"] = "the-life-that-begins-in-a-moment"
    server.on("GET", "/v1/containers", {"containers": [*rows, followed], "cursor": None})
    for path in ("/v1/containers/default/a/stop", "/v1/containers/team/b/stop", "/v1/containers/default/d/stop"):
        server.on("POST", path, double.Reply(202, double.container()))
    ended = nebu("stop", "containers", "--all", "--yes")
    assert (ended.code, ended.out) == (0, "container/a stopping\ncontainer/b stopping\ncontainer/d stopping\n")


def test_the_panic_button_tells_the_admin_what_other_organizations_rent(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    server.on("GET", "/v1/users/me", {"organization": "local"})
    server.on("GET", "/v1/doctor", {"running": [{"owner": "Agentsea"}, {"owner": "local"}, {"owner": "Agentsea"}]})
    ended = nebu("stop", "containers", "--all", "--yes")
    assert ended.code == 0
    assert ended.err == (
        "no containers to stop\n"
        "note: 2 machines are rented in organization Agentsea: nebu stop containers --all --owner Agentsea\n"
    )


@pytest.mark.parametrize(("answer", "code", "stopped"), [("y", 0, 1), ("", 1, 0), ("no", 1, 0)])
def test_the_panic_button_asks_on_a_terminal(terminal, server, double, answer, code, stopped):
    server.on("GET", "/v1/containers", {"containers": [double.container("a")], "cursor": None})
    server.on("POST", "/v1/containers/default/a/stop", double.Reply(202, double.container()))
    with terminal("stop", "containers", "--all", "-n", "default") as screen:
        screen.expect("stop 1 container in namespace default of your organization? [y/N] ")
        screen.type(f"{answer}\n")
        assert screen.ended() == code
    assert len(server.requests("POST")) == stopped


def test_on_a_terminal_the_status_in_force_carries_a_clock(terminal, server, double):
    server.on("GET", FOO, double.container("foo", status="creating"))
    with terminal("wait", "foo") as screen:
        screen.expect("\r\x1b[Kcontainer/foo creating  0s")
        server.on("GET", FOO, double.container("foo", status="completed"))
        screen.expect("\r\x1b[Kcontainer/foo completed")
        assert screen.ended() == 0


def test_one_that_fails_does_not_spare_the_others(nebu, server, double):
    rows = [double.container("a"), double.container("gone"), double.container("b")]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    server.on("POST", "/v1/containers/default/a/stop", double.refusal(403, "Forbidden", "viewers may not stop"))
    server.on("POST", "/v1/containers/default/b/stop", double.Reply(202, double.container()))
    ended = nebu("stop", "containers", "-l", "team=x")
    assert ended.code == 4
    assert ended.out == "container/b stopping\n"
    assert ended.err == "error: viewers may not stop\n"


def test_nothing_to_stop_is_fine(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu("stop", "containers", "--all")
    assert (ended.code, ended.err) == (0, "no containers to stop\n")


@pytest.mark.parametrize("words", [["foo", "--all"], ["foo", "-l", "a=b"], ["containers"], []])
def test_what_to_act_on_must_be_clear(nebu, server, words):
    assert nebu("delete", *words).code == 2
    assert not server.asked


def test_delete_waits_for_the_proof_and_shows_the_way(nebu, server, double):
    server.on("DELETE", FOO, double.Reply(202, double.container("foo", status="stopping")))
    server.on(
        "GET",
        FOO,
        double.container("foo"),
        double.container("foo", status="stopping", message="final push"),
        double.container("foo", status="stopping", message="waits for proof"),
        double.refusal(404, "NotFound", "gone"),
    )
    ended = nebu("delete", "containers", "foo")
    assert (ended.code, ended.out) == (0, "container/foo deleted\n")
    said = ("delete requested, was running", "stopping: final push", "stopping: waits for proof")
    assert ended.err == "".join(f"container/foo {words}\n" for words in said)


def test_a_new_life_of_the_name_proves_the_old_one_gone(nebu, server, double):
    server.on("DELETE", FOO, double.Reply(202, double.container("foo", id="old")))
    server.on("GET", FOO, double.container("foo", id="new"))
    assert nebu("delete", "foo").out == "container/foo deleted\n"


def test_no_wait_comes_back_at_once(nebu, server, double):
    server.on("DELETE", FOO, double.Reply(202, double.container("foo")))
    ended = nebu("delete", "foo", "--no-wait")
    assert ended.out == "container/foo is being deleted\n"
    assert not server.requests("GET")


def test_delete_says_where_the_name_is(nebu, server, double):
    row = double.container("pytorch-test", namespace="foo")
    server.on("GET", "/v1/containers", {"containers": [row], "cursor": None})
    ended = nebu("delete", "containers", "pytorch-test")
    assert ended.code == 3
    assert ended.err == ("error: container/pytorch-test is not in default: it is in foo\nhint:  use -n foo\n")


def test_of_several_names_the_good_ones_go(nebu, server, double):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    server.on("DELETE", FOO, double.Reply(202, double.container("foo")))
    ended = nebu("delete", "nope", "foo", "--no-wait")
    assert ended.code == 3
    assert ended.out == "container/foo is being deleted\n"
    assert "container/nope does not exist" in ended.err


def test_delete_what_a_file_says(nebu, server, double):
    server.on("DELETE", "/v1/containers/team/foo", double.Reply(202, double.container("foo", namespace="team")))
    text = "kind: Container\nmetadata: {name: foo, namespace: team}\nimage: x\n"
    assert nebu("delete", "-f", "-", "--no-wait", stdin=text).out == "container/foo is being deleted\n"


def test_wait_for_a_status(nebu, server, double):
    creating = double.container("foo", status="creating")
    server.on("GET", FOO, creating, creating, double.container("foo", status="running"))
    ended = nebu("wait", "foo", "--for=running")
    assert (ended.code, ended.err) == (0, "container/foo creating\ncontainer/foo running\n")


@pytest.mark.parametrize(
    ("status", "wanted", "code"),
    [
        ("completed", "finished", 0),
        ("stopped", "finished", 0),
        ("failed", "finished", 1),
        ("failed", "running", 1),
        ("failed", "failed", 0),
        ("completed", "running", 0),
        ("invalid", "completed", 1),
    ],
)
def test_wait_ends_when_it_can_no_longer_come_to_that(nebu, server, double, status, wanted, code):
    server.on("GET", FOO, double.container("foo", status=status))
    assert nebu("wait", "foo", "--for", wanted).code == code


def test_wait_has_a_limit(nebu, server, double):
    server.on("GET", FOO, double.container("foo", status="pending"))
    ended = nebu("wait", "foo", "--timeout", "50ms")
    assert ended.code == 1
    assert "container/foo is not there yet" in ended.err


def test_wait_until_it_is_deleted(nebu, server, double):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    server.on("GET", FOO, double.container("foo", status="stopping"), double.refusal(404, "NotFound", "gone"))
    assert nebu("wait", "foo", "--for", "deleted").code == 0
    assert nebu("wait", "foo", "--for", "deleted").code == 0


def test_wait_survives_a_restart_of_the_server(nebu, server, double):
    down = [double.hang_up()] * 6
    server.on(
        "GET", FOO, double.container("foo"), double.container("foo"), *down, double.container("foo", status="completed")
    )
    assert nebu("wait", "foo").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "runing"], "did you mean 'running'?"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a duration"),
    ],
)
def test_wait_used_wrongly_is_code_2(nebu, words, said):
    ended = nebu("wait", "foo", *words)
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize(("check", "code"), [({"path": "/"}, 1), (None, 0)])
def test_what_ended_without_a_good_answer_to_its_check_was_never_ready(nebu, server, double, check, code):
    server.on("GET", FOO, double.container("foo", status="completed", spec={"health_check": check}))
    assert nebu("wait", "foo", "--for", "ready").code == code
