"""Where a client goes, and as whom: as the command line does, unless it is told otherwise."""

from __future__ import annotations

import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from nebulous import Client, contexts
from nebulous.errors import NotFound, Rejected, Unauthenticated


def reach(**given: str) -> tuple[str, str | None]:
    """The server and the token that a client would use."""
    with Client(**given) as client:
        http = client.api._http
        return client.api.server, http.headers.get("Authorization", "").removeprefix("Bearer ") or None


@pytest.fixture
def saved(own_home: Path) -> None:
    contexts.save_context("work", "https://nebu.example", "work-token", organization="acme", namespace="lab")
    contexts.save_context("local", "http://127.0.0.1:3000", "local-token")


def test_without_a_file_it_is_the_local_server():
    assert reach() == ("http://127.0.0.1:3000", None)


@pytest.mark.usefixtures("saved")
def test_the_current_context_is_used_unless_another_is_named():
    assert reach() == ("http://127.0.0.1:3000", "local-token")
    assert reach(context="work") == ("https://nebu.example", "work-token")
    with pytest.raises(NotFound, match="no context 'home'"):
        reach(context="home")


@pytest.mark.usefixtures("saved")
def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEBU_SERVER", "https://other.example")
    monkeypatch.setenv("NEBU_API_KEY", "env-token")
    assert reach() == ("https://other.example", "env-token")


@pytest.mark.usefixtures("saved")
def test_what_is_given_wins_and_no_token_goes_to_a_server_that_it_was_not_meant_for(monkeypatch: pytest.MonkeyPatch):
    assert reach(server="https://nebu.example") == ("https://nebu.example", "work-token")
    assert reach(server="elsewhere.example") == ("https://elsewhere.example", None)
    assert reach(server="elsewhere.example", token="t") == ("https://elsewhere.example", "t")
    monkeypatch.setenv("NEBU_API_KEY", "env-token")  # for whatever server is named
    assert reach(server="elsewhere.example") == ("https://elsewhere.example", "env-token")
    monkeypatch.setenv("NEBU_SERVER", "https://other.example")  # and now for that one
    assert reach(server="elsewhere.example") == ("https://elsewhere.example", None)
    assert reach(server="other.example") == ("https://other.example", "env-token")
    assert reach(context="work") == ("https://nebu.example", "work-token")


def test_what_cannot_be_an_address_or_a_token_is_said_at_once():
    with pytest.raises(Rejected, match="is not the address of a server"):
        Client("http://")
    with pytest.raises(Unauthenticated, match="has characters that no token has"):
        Client(token="tökén")


def test_times_may_be_numbers_of_seconds():
    with Client(timeout=2, patience=0.5) as client:
        assert (client.api.timeout, client.api.patience) == (timedelta(seconds=2), timedelta(seconds=0.5))
        assert client.api._http.timeout.read == 2


def test_a_traceback_shows_what_to_do():
    with pytest.raises(Rejected) as raised:
        Client("http://")
    assert raised.value.hint
    assert traceback.format_exception_only(raised.value)[1:] == [f"hint: {raised.value.hint}\n"]
