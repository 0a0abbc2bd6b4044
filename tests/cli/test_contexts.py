"""Contexts, and the verbs that change them: login, logout, config, whoami."""

from __future__ import annotations

import stat

import pytest

from nebulous import contexts
from nebulous.errors import Rejected

ME = {
    "handle": "ann",
    "organization": "acme",
    "admin": False,
    "organizations": {"acme": {"org_name": "acme", "org_role": "member"}},
}


def test_what_is_saved_is_read_again(own_home):
    contexts.save_context("local", "http://127.0.0.1:3000", 'to"ken: #x', namespace="team")
    contexts.save_context("prod", "nebu.example.com", "t2", "acme")
    known = contexts.load()
    assert known.current == "prod"
    assert known.known["local"] == contexts.Context("local", "http://127.0.0.1:3000", 'to"ken: #x', None, "team")
    assert known.active() == contexts.Context("prod", "https://nebu.example.com", "t2", "acme")
    assert stat.S_IMODE(own_home.stat().st_mode) == 0o600


def test_a_file_that_a_person_rearranged_is_read_as_yaml(own_home):
    own_home.parent.mkdir(parents=True)
    own_home.write_text("current: prod   # mine\ncontexts:\n    prod: {server: 'https://x.example', token: abc}\n")
    assert contexts.load().active() == contexts.Context("prod", "https://x.example", "abc")


@pytest.mark.parametrize(
    "text", ["contexts: [", "contexts: [a]", "- a", 'contexts:\n  a: "b"\n', 'contexts:\n  a:\n    server: "ftp://x"\n']
)
def test_a_malformed_file_is_named(own_home, nebu, text):
    own_home.parent.mkdir(parents=True)
    own_home.write_text(text)
    ended = nebu("get", "containers")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert str(own_home) in ended.err or "'ftp://x' is not the address" in ended.err


def test_without_any_configuration_the_local_server_is_meant():
    assert contexts.load().active().server == "http://127.0.0.1:3000"


def test_the_environment_wins(monkeypatch):
    contexts.save_context("prod", "https://nebu.example.com", "secret")
    monkeypatch.setenv("NEBU_API_KEY", " mine\n")
    assert contexts.load().active().token == "mine"
    assert contexts.load().active().server == "https://nebu.example.com"


def test_a_saved_token_goes_to_no_other_server(monkeypatch):
    contexts.save_context("prod", "https://nebu.example.com", "secret")
    monkeypatch.setenv("NEBU_SERVER", "https://evil.example.com")
    assert contexts.load().active().token is None
    monkeypatch.setenv("NEBU_SERVER", "https://nebu.example.com/")
    assert contexts.load().active().token == "secret"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:3000", "http://localhost:3000"),
        ("nebu.example.com", "https://nebu.example.com"),
        ("http://x:1/", "http://x:1"),
        ("[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_address_may_be_short(text, url):
    assert contexts.server_url(text) == url


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "http://x:port", "two words"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(Rejected, match="is not the address of a server"):
        contexts.server_url(text)


def test_login_checks_and_saves(nebu, server, own_home):
    server.on("GET", "/v1/users/me", ME)
    ended = nebu("login", "--url", server.url, "--token", "-", stdin="s3cret\n")
    assert ended.code == 0
    assert ended.out == f"logged in to {server.url} as ann of acme; context 'local' in {own_home}\n"
    assert server.asked[0].headers["authorization"] == "Bearer s3cret"
    assert contexts.load().known["local"].token == "s3cret"
    assert "s3cret" not in ended.out + ended.err


def test_a_wrong_token_is_not_saved(nebu, server, double, own_home):
    server.on("GET", "/v1/users/me", double.refusal(401, "Unauthenticated", "the token has expired", "nebu login"))
    ended = nebu("login", "--url", server.url, "--token", "old")
    assert ended.code == 4
    assert "refuses this token: the token has expired" in ended.err
    assert not own_home.exists()


def test_login_over_an_open_line_says_so(nebu):
    ended = nebu("login", "--url", "http://nebulous.invalid:1", "--token", "t")
    assert "http://nebulous.invalid:1 is not encrypted" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --url URL and --token -"),
        (["--url", "http://x"], "give --token -"),
        (["--url", "http://x", "--token", "-"], "the token is empty"),
    ],
)
def test_login_without_a_terminal_says_what_to_give(nebu, words, said):
    ended = nebu("login", *words)
    assert ended.code == 2
    assert said in ended.err


def test_login_asks_for_what_is_missing_and_hides_the_token(terminal, server, own_home):
    server.on("GET", "/v1/users/me", ME)
    with terminal("login") as screen:
        screen.expect("API server [")
        screen.type(f"{server.url}\n")
        screen.expect(f"Token for {server.url} (not shown): ")
        screen.type("s3cret\n")
        assert screen.ended() == 0
        assert "s3cret" not in screen.seen
    assert contexts.load().known["local"].token == "s3cret"


def test_logout_forgets_the_token_and_keeps_the_server(nebu):
    contexts.save_context("prod", "https://nebu.example.com", "secret")
    assert nebu("logout").out == "logged out of https://nebu.example.com (context 'prod')\n"
    assert contexts.load().active() == contexts.Context("prod", "https://nebu.example.com")


def test_contexts_are_listed_and_switched(nebu):
    contexts.save_context("local", "localhost:3000", "a")
    contexts.save_context("prod", "https://nebu.example.com", "b")
    assert (
        nebu("config", "use", "local", "-n", "team").out == "context 'local': http://localhost:3000, namespace team\n"
    )
    assert nebu("config", "contexts").out == (
        "   NAME   SERVER                    ORGANIZATION  NAMESPACE\n"
        "*  local  http://localhost:3000     -             team\n"
        "   prod   https://nebu.example.com  -             default\n"
    )
    shown = nebu("config", "show")
    assert "context:       local" in shown.out
    assert "token:         yes\n" in shown.out


def test_an_unknown_context_is_code_3(nebu):
    contexts.save_context("local", "localhost:3000", "a")
    ended = nebu("config", "use", "nope")
    assert ended.code == 3
    assert "known contexts: local" in ended.err


def test_whoami_says_who_and_in_which_role(nebu, server):
    server.on("GET", "/v1/users/me", ME)
    assert nebu("whoami").out == f"ann on {server.url}\n  member in acme (yours by default)\n"


def test_the_contexts_namespace_is_where_names_are_looked_up(nebu, server, double):
    contexts.save_context("test", server.url, "t", namespace="team")
    server.on("GET", "/v1/containers/team/foo", double.container("foo", namespace="team"))
    assert nebu("get", "containers", "foo").code == 0
