"""Values of secrets, sealed before they enter any workflow: AES-256-GCM, bound to the secret's own address.

A sealed value moved to another secret does not open, and says so. `digest` tells whether two values are equal
without opening either; it is keyed, so it tells nobody else anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nebulous import keys
from nebulous.errors import Rejected
from nebulous.ids import Address
from nebulous.settings import Settings

_VERSION = "v1"
_NONCE_BYTES = 12


def secret_key(settings: Settings) -> bytes:
    """The key that seals this install's secrets: the setting, else a file under the data directory.

    Raises:
        ValueError: The setting is not base64 of 32 bytes.
    """
    if settings.secret_key is None:
        return keys.kept(settings.data / "keys" / "secrets")
    try:
        key = base64.b64decode(settings.secret_key, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != keys.KEY_BYTES:
        raise ValueError("NEBU_SECRET_KEY is not base64 of 32 bytes: try `openssl rand -base64 32`")
    return key


def key_id(key: bytes) -> str:
    """A short public name of the key, to tell a wrong key from a damaged value."""
    return hashlib.sha256(b"nebulous key id\0" + key).hexdigest()[:8]


def seal(key: bytes, address: Address | str, value: str) -> str:
    """Encrypt a value for one address; the same value seals differently each time."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, value.encode(), _bound(address))
    return f"{_VERSION}:{key_id(key)}:{base64.b64encode(nonce + sealed).decode()}"


def unseal(key: bytes, address: Address | str, sealed: str) -> str:
    """Decrypt what `seal` made for this address.

    Raises:
        Rejected: Another key sealed it, it was sealed for another address, or it is damaged.
    """
    version, _, rest = sealed.partition(":")
    sealed_by, _, body = rest.partition(":")
    hint = "restore DATA_DIR/keys/secrets (or NEBU_SECRET_KEY), or delete the secret and create it again"
    if version == _VERSION and sealed_by != key_id(key):
        raise Rejected(f"{str(address)!r} was sealed with key {sealed_by!r}, this server has {key_id(key)!r}", hint)
    try:
        raw = base64.b64decode(body, validate=True)
        return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(address)).decode()
    except (InvalidTag, ValueError) as error:  # binascii.Error is a ValueError, as is a nonce too short
        raise Rejected(
            f"the sealed value of {str(address)!r} is damaged or was sealed for another name", hint
        ) from error


def digest(key: bytes, address: Address | str, value: str) -> str:
    """A keyed hash: equal for equal values of the same secret, and for nothing else."""
    subkey = hmac.digest(key, b"nebulous secret digest", "sha256")
    return hmac.digest(subkey, _bound(address) + b"\0" + value.encode(), "sha256").hex()


def _bound(address: Address | str) -> bytes:
    return str(address).lower().encode()
