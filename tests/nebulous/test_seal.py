"""Sealed values: opened by their key at their address, by nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebulous import seal
from nebulous.errors import Rejected
from nebulous.ids import Address
from nebulous.settings import Settings

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HERE = Address("secret", "Local", "default", "hf")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_opens_and_never_looks_the_same_twice(value: str) -> None:
    sealed = seal.seal(KEY, HERE, value)
    assert seal.unseal(KEY, "secret/local/default/HF", sealed) == value
    assert sealed != seal.seal(KEY, HERE, value)


def test_it_does_not_open_at_another_address_or_when_changed() -> None:
    sealed = seal.seal(KEY, HERE, "value")
    with pytest.raises(Rejected, match="another name"):
        seal.unseal(KEY, Address("secret", "local", "default", "other"), sealed)
    head, _, body = sealed.rpartition(":")
    raw = bytearray(base64.b64decode(body))
    raw[20] ^= 1
    for damaged in (f"{head}:{base64.b64encode(raw).decode()}", f"{head}:", f"{head}:!!", "", "nonsense", sealed[:-6]):
        with pytest.raises(Rejected):
            seal.unseal(KEY, HERE, damaged)


def test_another_key_is_named_with_what_to_do() -> None:
    with pytest.raises(Rejected, match=seal.key_id(KEY)) as caught:
        seal.unseal(OTHER_KEY, HERE, seal.seal(KEY, HERE, "value"))
    assert "NEBU_SECRET_KEY" in str(caught.value.hint)


def test_a_digest_is_equal_for_equal_values_of_one_secret_under_one_key_only() -> None:
    digest = seal.digest(KEY, HERE, "value")
    assert digest == seal.digest(KEY, "secret/local/default/hf", "value")
    others = {
        seal.digest(KEY, HERE, "other"),
        seal.digest(OTHER_KEY, HERE, "value"),
        seal.digest(KEY, Address("secret", "local", "default", "other"), "value"),
    }
    assert len(others | {digest}) == 4
    assert "value" not in digest


def test_a_key_in_the_settings_must_be_base64_of_32_bytes() -> None:
    assert seal.secret_key(Settings(secret_key=base64.b64encode(KEY).decode())) == KEY
    for wrong in ("short", base64.b64encode(b"x").decode(), "!" * 44):
        with pytest.raises(ValueError, match="openssl rand -base64 32"):
            seal.secret_key(Settings(secret_key=wrong))
