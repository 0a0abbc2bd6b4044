"""The key pair of a rented machine: derived, not stored (docs/adr/0015).

The same rental has the same pair in every worker process that has the install's secret key, so that a repeated request
sends the same user data to the byte, and nothing secret has to be kept anywhere for a machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    import asyncssh

SEED_BYTES = 32
CONTEXT = b"nebulous machine key v1\0"  # the secret key derives other things too, and other kinds of machines' keys


def public(secret_key: bytes, key: str, context: bytes = CONTEXT) -> str:
    """The public half for the rental of this key, as a line of authorized_keys."""
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return f"{_derived(secret_key, key, context).public_key().public_bytes(encoding, form).decode()} nebulous"


def private(secret_key: bytes, key: str, context: bytes = CONTEXT) -> asyncssh.SSHKey:
    """The private half; it is never written anywhere."""
    import asyncssh

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    derived = _derived(secret_key, key, context)
    return asyncssh.import_private_key(derived.private_bytes(encoding, form, serialization.NoEncryption()))


def _derived(secret_key: bytes, key: str, context: bytes) -> Ed25519PrivateKey:
    hkdf = HKDF(algorithm=hashes.SHA256(), length=SEED_BYTES, salt=None, info=context + key.encode())
    return Ed25519PrivateKey.from_private_bytes(hkdf.derive(secret_key))
