"""Payloads as Temporal keeps them: AES-256-GCM, once `NEBU_ENCRYPTION_KEY` is set; ADR 11.

Everything that Temporal stores for us goes through here: arguments, results, memos, signals, heartbeats, failures.
Search attributes do not, because they are what Temporal searches by. A payload says in its metadata which key it was
encrypted with; one without that is in clear, and stays readable.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import secrets
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from nebulous import keys
from nebulous.errors import KeyMissing
from nebulous.seal import key_id
from nebulous.settings import Settings

ENCODING = b"binary/encrypted"  # the word that Temporal's own examples use, so that other tools know it
KEY_ID = "encryption-key-id"
_CIPHER = b"AES-256-GCM"
_NONCE_BYTES = 12
_BOUND = b"nebulous payload v1"


def encryption_keys(settings: Settings) -> list[bytes]:
    """The keys of payloads: the first encrypts, all decrypt; none leaves payloads in clear.

    Raises:
        ValueError: One of them is not base64 of 32 bytes.
    """
    found: list[bytes] = []
    for number, text in enumerate((settings.encryption_key or "").replace(",", " ").split(), start=1):
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != keys.KEY_BYTES:
            raise ValueError(
                f"key {number} in NEBU_ENCRYPTION_KEY is not base64 of 32 bytes: try `openssl rand -base64 32`"
            )
        found.append(key)
    return found


class Encryption(PayloadCodec):
    """Encrypts with the first key and decrypts with any; without keys it only says what it cannot read."""

    def __init__(self, known: Sequence[bytes] = ()) -> None:
        """Take the keys, newest first."""
        self.ids = [key_id(key) for key in known]
        self._ciphers = {name: AESGCM(key) for name, key in zip(self.ids, known, strict=True)}

    async def encode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Encrypt, when there is a key."""
        return [self.sealed(payload) for payload in payloads] if self.ids else list(payloads)

    async def decode(self, payloads: Iterable[Payload]) -> list[Payload]:
        """Decrypt what is encrypted.

        Raises:
            KeyMissing: It was encrypted with another key, or is damaged.
        """
        return [self.opened(payload) for payload in payloads]

    def sealed(self, payload: Payload) -> Payload:
        """One payload, encrypted whole: its metadata too."""
        name, nonce = self.ids[0], secrets.token_bytes(_NONCE_BYTES)
        data = nonce + self._ciphers[name].encrypt(nonce, payload.SerializeToString(), _BOUND)
        metadata = {"encoding": ENCODING, "encryption-cipher": _CIPHER, KEY_ID: name.encode()}
        return Payload(metadata=metadata, data=data)

    def opened(self, payload: Payload) -> Payload:
        """One payload in clear."""
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        name = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        cipher = self._ciphers.get(name)
        if cipher is None:
            has = f"this process has {' and '.join(self.ids)}" if self.ids else "this process has no key"
            raise KeyMissing(
                f"what Temporal holds was encrypted with key {name!r}, and {has}: add that key to NEBU_ENCRYPTION_KEY",
                "give API and workers the same keys; an old key goes behind the new one, with a comma between them",
            )
        try:
            clear = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], _BOUND)
            return Payload.FromString(clear)
        except (InvalidTag, ValueError, DecodeError) as error:
            raise KeyMissing(f"what Temporal holds, encrypted with key {name!r}, is damaged") from error


def data_converter(settings: Settings) -> DataConverter:
    """Pydantic models and JSON, encrypted when the settings have a key; messages of failures too.

    Raises:
        ValueError: A key in the settings is none.
    """
    known = encryption_keys(settings)
    converter = dataclasses.replace(pydantic_data_converter, payload_codec=Encryption(known))
    if not known:
        return converter
    return dataclasses.replace(converter, failure_converter_class=DefaultFailureConverterWithEncodedAttributes)
