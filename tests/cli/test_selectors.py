"""Labels on the command line: what they select, and what is said when that is nothing."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "containers"], "no containers with label team=none"),
        (["get", "containers", "-l", "tier=x"], "no containers with labels tier=x, team=none"),
        (["get", "containers", "-n", "foo"], "no containers with label team=none in namespace foo"),
        (["stop", "containers"], "no containers to stop with label team=none"),
        (["start", "containers"], "no containers to start with label team=none"),
        (["restart", "containers"], "no containers to restart with label team=none"),
        (["delete", "containers"], "no containers to delete with label team=none"),
        (["top"], "no container runs with label team=none"),
        (["wait", "--for=deleted"], ""),
    ],
)
def test_a_selector_that_matches_nothing_is_named_and_is_no_failure(nebu, server, words, said):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu(*words, "-l", "team=none")
    assert ended.code == 0
    assert said in ended.err
    assert ended.out == ""
    assert server.requests("POST") == server.requests("DELETE") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["wait"], 3, "error: no containers match -l team=none\nhint:  `nebu get containers` lists what there is\n"),
        (["logs"], 2, "No such option: -l"),
        (["stop", "foo"], 2, "give names, or -l, or --all: not both"),
        (["top", "foo"], 2, "give names, or -l: not both"),
    ],
)
def test_where_a_selector_must_match_or_has_no_place_that_is_said(nebu, server, words, code, said):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu(*words, "-l", "team=none")
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert not server.requests("POST")


def test_a_selector_out_of_form_is_refused(nebu, server, double):
    problem = {"error": {"type": "Rejected", "message": "label 'team' is not KEY=VALUE", "hint": "write label=team=x"}}
    server.on("GET", "/v1/containers", double.Reply(422, problem))
    ended = nebu("get", "containers", "-l", "team")
    assert ended.code not in (0, None)
    assert "team" in ended.err


def test_the_panic_button_gives_back_a_machine_that_is_kept_after_a_failure(nebu, server, double):
    kept = [{"type": "Released", "status": "False", "reason": "KeptOnFailure", "message": "until then"}]
    rows = [
        double.container("kept", "default", "failed", conditions=kept),
        double.container("over", "default", "failed"),
    ]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    server.on("POST", "/v1/containers/default/kept/stop", double.Reply(202, rows[0]))
    ended = nebu("stop", "containers", "--all", "--yes")
    assert (ended.code, ended.out) == (0, "container/kept stopping\n")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("team!=y", "-l team!=y: labels select, they cannot exclude\nhint:  -l team=OTHER selects"),
        ("team==y", "-l team==y: one = is enough\nhint:  write -l team=y"),
        ("=y", "'=y' is not a label: write -l KEY=VALUE"),
        ("team", "'team' is not a label: write -l KEY=VALUE"),
    ],
)
@pytest.mark.parametrize("words", [("get", "containers"), ("watch", "containers"), ("delete", "containers"), ("top",)])
def test_what_only_looks_like_a_label_is_not_asked_for(nebu, server, words, label, said):
    ended = nebu(*words, "-l", label)
    assert ended.code == 2
    assert f"error: {said}" in ended.err
    assert not server.asked


def test_a_label_with_two_values_is_not_half_taken(nebu, server):
    ended = nebu("create", "container", "--cmd", "x", "--label", "a=b", "--label", "a=c")
    assert (ended.code, ended.err) == (2, "error: --label a is given twice: 'b' and 'c'\nhint:  give one of them\n")
    assert not server.asked
