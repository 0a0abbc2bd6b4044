"""`copy_local`: the caller's own keys, read where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

FILE = "kind: Container\nmetadata: {name: a}\nimage: x\nssh_keys:\n  - copy_local: true\n  - public_key_secret: team\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def created(server, double):
    server.on("POST", "/v1/containers", double.Reply(200, double.container("a", "default", "defined")))
    return server


def test_the_callers_public_keys_are_sent_and_nothing_else_of_the_folder(nebu, created, home):
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text("PRIVATE")
    (home / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAAone ada\n")
    (home / ".ssh" / "work.pub").write_text("ssh-rsa AAAAtwo ada@work\n")
    assert nebu("create", "-f", "-", stdin=FILE).code == 0
    [asked] = created.requests("POST")
    assert asked.body["ssh_keys"] == [
        {"public_key": "ssh-ed25519 AAAAone ada"},
        {"public_key": "ssh-rsa AAAAtwo ada@work"},
        {"public_key_secret": "team"},
    ]


@pytest.mark.parametrize("folder", [True, False])
def test_without_a_key_nothing_is_created_and_it_says_how_to_make_one(nebu, created, home, folder):
    if folder:
        (home / ".ssh").mkdir()
    ended = nebu("create", "-f", "-", stdin=FILE)
    assert ended.code == 2
    assert f"there is no public key in '{home}/.ssh'" in ended.err
    assert "ssh-keygen -t ed25519" in ended.err
    assert created.requests("POST") == []
