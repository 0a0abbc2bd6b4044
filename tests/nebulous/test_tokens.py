"""Tokens and keys: signed, complete, expiring; made once, readable by their user alone."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import jwt
import pytest

from nebulous import keys, tokens
from nebulous.errors import Unauthenticated
from nebulous.settings import Settings
from nebulous.tokens import Caller

KEY = b"k" * 32
ANNA = Caller("anna", "agentsea", {"agentsea": "member", "local": "viewer"})


def test_a_token_gives_back_its_caller() -> None:
    assert tokens.read(KEY, tokens.mint(KEY, ANNA, timedelta(hours=1))) == ANNA
    assert tokens.read(KEY, tokens.mint(KEY, tokens.local_admin(), timedelta(hours=1))) == tokens.local_admin()


def test_a_token_for_one_thing_is_good_for_that_alone() -> None:
    narrow = tokens.mint(KEY, ANNA, timedelta(hours=1), tokens.CODEC)
    assert tokens.read(KEY, narrow, tokens.CODEC) == ANNA
    for token, audience in ((narrow, None), (narrow, "else"), (tokens.mint(KEY, ANNA, timedelta(1)), tokens.CODEC)):
        with pytest.raises(Unauthenticated):
            tokens.read(KEY, token, audience)


def test_organizations_compare_without_case() -> None:
    shouted = Caller("anna", "AgentSea", {"AgentSea": "admin"})
    read = tokens.read(KEY, tokens.mint(KEY, shouted, timedelta(hours=1)))
    assert read.role_in("AGENTSEA") == "admin"
    assert read.role_in("other") is None


def test_an_expired_token_says_nebu_login() -> None:
    with pytest.raises(Unauthenticated, match="expired") as caught:
        tokens.read(KEY, tokens.mint(KEY, ANNA, timedelta(minutes=-5)))
    assert "nebu login" in str(caught.value.hint)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "\udc80",
        "é.é.é",
        jwt.encode({"sub": "anna", "iss": "nebulous", "iat": 1, "exp": 9999999999}, "other" * 8),
        jwt.encode({"sub": "anna", "iss": "other", "iat": 1, "exp": 9999999999}, KEY),
        jwt.encode({"sub": "anna", "iss": "nebulous", "iat": 1}, KEY),
        jwt.encode({"sub": "anna", "iss": "nebulous", "iat": 1, "exp": 9999999999}, None, algorithm="none"),
    ],
)
def test_what_this_server_did_not_sign_is_nobody(token: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read(KEY, token)


def test_a_role_that_this_version_does_not_know_gives_no_rights() -> None:
    claims = {"sub": "anna", "iss": "nebulous", "iat": 1, "exp": 9999999999, "org": "a", "orgs": {"a": "owner"}}
    assert tokens.read(KEY, jwt.encode(claims, KEY)).roles == {}


def test_a_key_is_made_once_also_when_many_ask_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "signing"
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: keys.kept(path), range(64)))
    assert len(found) == 1
    assert len(found.pop()) == keys.KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["signing"]


def test_a_damaged_key_file_is_said_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "signing"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="restore it"):
        keys.kept(path)
    assert path.read_bytes() == b"short"


def test_a_short_signing_key_in_the_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="openssl"):
        tokens.signing_key(Settings(signing_key="short"))
