"""Payloads under keys: what is encrypted, what stays readable, and what is said when a key is not there."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload

from nebulous.codec import ENCODING, Encryption, data_converter, encryption_keys
from nebulous.errors import KeyMissing
from nebulous.seal import key_id
from nebulous.settings import Settings

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
CLEAR = Payload(metadata={"encoding": b"json/plain"}, data=b'"canary"')


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


async def test_a_payload_is_encrypted_whole_and_says_with_which_key() -> None:
    [sealed] = await Encryption([NEW, OLD]).encode([CLEAR])
    assert b"canary" not in sealed.SerializeToString()
    assert b"json/plain" not in sealed.SerializeToString()
    assert sealed.metadata["encoding"] == ENCODING
    assert sealed.metadata["encryption-key-id"] == key_id(NEW).encode()
    assert sealed != (await Encryption([NEW]).encode([CLEAR]))[0]  # never the same twice
    assert await Encryption([NEW]).decode([sealed]) == [CLEAR]


async def test_an_old_key_is_accepted_for_reading_and_clear_text_stays_readable() -> None:
    [old] = await Encryption([OLD]).encode([CLEAR])
    assert await Encryption([NEW, OLD]).decode([old, CLEAR]) == [CLEAR, CLEAR]
    assert await Encryption().encode([CLEAR]) == [CLEAR]


@pytest.mark.parametrize(("known", "has"), [([], "has no key"), ([NEW], f"has {key_id(NEW)}")])
async def test_without_the_key_it_is_said_which_is_missing_and_where_it_belongs(known: list[bytes], has: str) -> None:
    [sealed] = await Encryption([OLD]).encode([CLEAR])
    with pytest.raises(KeyMissing, match=f"key '{key_id(OLD)}'.*{has}.*NEBU_ENCRYPTION_KEY"):
        await Encryption(known).decode([sealed])


async def test_what_was_altered_is_called_damaged() -> None:
    [sealed] = await Encryption([OLD]).encode([CLEAR])
    sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    with pytest.raises(KeyMissing, match="is damaged"):
        await Encryption([OLD]).decode([sealed])


def test_keys_come_from_a_list_and_a_wrong_one_is_named() -> None:
    assert encryption_keys(Settings()) == []
    assert encryption_keys(Settings(encryption_key=f"{text(NEW)}, {text(OLD)}")) == [NEW, OLD]
    for wrong in ("short", text(NEW[:-1]), "*" * 44):
        with pytest.raises(ValueError, match="key 2 in NEBU_ENCRYPTION_KEY is not base64 of 32 bytes"):
            data_converter(Settings(encryption_key=f"{text(NEW)},{wrong}"))


def test_a_secret_setting_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text(f"{text(NEW)}\n")
    monkeypatch.setenv("NEBU_ENCRYPTION_KEY_FILE", str(file))
    assert Settings().encryption_key == text(NEW)
    monkeypatch.setenv("NEBU_ENCRYPTION_KEY", text(OLD))
    with pytest.raises(ValueError, match="both NEBU_ENCRYPTION_KEY and NEBU_ENCRYPTION_KEY_FILE are set"):
        Settings()
    monkeypatch.delenv("NEBU_ENCRYPTION_KEY")
    file.write_text("\n")
    with pytest.raises(ValueError, match=r"NEBU_ENCRYPTION_KEY_FILE: .* is empty"):
        Settings()
    file.unlink()
    with pytest.raises(ValueError, match=r"NEBU_ENCRYPTION_KEY_FILE cannot be read: .*No such file"):
        Settings()
