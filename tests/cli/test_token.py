"""`nebu token create`: by the server's own key, where that is; without it, words and no new key."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from nebulous import keys, tokens

KEY = "a-signing-key-for-tests-only-0123456789"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEBU_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_it_prints_a_token_of_the_admin_and_until_when_it_is_good(nebu, monkeypatch):
    monkeypatch.setenv("NEBU_SIGNING_KEY", KEY)
    ended = nebu("token", "create", "--admin", "--days", "7")
    assert ended.code == 0, ended.err
    token = ended.out.removesuffix("\n")
    assert tokens.read(KEY.encode(), token) == tokens.local_admin()
    end = jwt.decode(token, KEY, algorithms=["HS256"])["exp"]
    assert abs(end - time.time() - 7 * 86400) < 60
    assert ended.err == (
        f"good until {time.strftime('%Y-%m-%d', time.gmtime(end))} for everything on this server; "
        "only another signing key takes it back\n"
    )


def test_the_key_may_be_in_a_file_or_in_the_data_directory_of_serve(nebu, monkeypatch, data, tmp_path):
    made = keys.kept(data / "keys" / "signing")
    assert tokens.read(made, nebu("token", "create", "--admin").out.strip()).admin
    (tmp_path / "secret").write_text(KEY)
    monkeypatch.setenv("NEBU_SIGNING_KEY_FILE", str(tmp_path / "secret"))
    assert tokens.read(KEY.encode(), nebu("token", "create", "--admin").out.strip()).admin


def test_without_the_key_it_says_where_to_run_it_and_makes_none(nebu, data):
    ended = nebu("token", "create", "--admin")
    assert (ended.code, ended.out) == (3, "")
    assert "there is no signing key here: NEBU_SIGNING_KEY is not set, and '" in ended.err
    assert "docker compose exec api nebu token create" in ended.err
    assert not data.exists()


def test_a_key_that_cannot_be_used_is_said_by_name(nebu, monkeypatch):
    monkeypatch.setenv("NEBU_SIGNING_KEY", "short")
    ended = nebu("token", "create", "--admin")
    assert (ended.code, "NEBU_SIGNING_KEY has 5 bytes; it needs 32" in ended.err) == (2, True)
    monkeypatch.setenv("NEBU_SIGNING_KEY_FILE", "/nowhere")
    monkeypatch.delenv("NEBU_SIGNING_KEY")
    ended = nebu("token", "create", "--admin")
    assert (ended.code, "NEBU_SIGNING_KEY_FILE cannot be read" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "for whom? there are only tokens of the server's admin so far"),
        (("--admin", "--days", "0"), "0 is not in the range"),
        (("--admin", "--days", "4000"), "4000 is not in the range"),
    ],
)
def test_what_is_asked_wrongly_is_code_2(nebu, monkeypatch, words, message):
    monkeypatch.setenv("NEBU_SIGNING_KEY", KEY)
    ended = nebu("token", "create", *words)
    assert (ended.code, message in ended.err, ended.out) == (2, True, "")
