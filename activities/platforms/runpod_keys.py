"""The keys of one pod's SSH server: derived from the install's secret key and the rental's, so that none is kept.

The host's private key is a variable of the pod, as all secrets of a pod are; ours never leaves the worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True)
class PodKeys:
    """Both pairs of a rental."""

    secret_key: bytes
    rental: str

    @cached_property
    def host_private(self) -> str:
        """What the pod's server proves itself with, in OpenSSH's form."""
        return _private(self._pair("host"))

    @cached_property
    def host_public(self) -> str:
        """What we expect of it: `ssh-ed25519 AAAA…`."""
        return _public(self._pair("host"))

    @cached_property
    def client_private(self) -> str:
        """Ours, in OpenSSH's form."""
        return _private(self._pair("client"))

    @cached_property
    def client_public(self) -> str:
        """What the pod lets in."""
        return _public(self._pair("client"))

    def _pair(self, whose: str) -> Ed25519PrivateKey:
        info = f"nebulous runpod {whose}\0{self.rental}".encode()
        return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, None, info).derive(self.secret_key))


def _private(pair: Ed25519PrivateKey) -> str:
    return pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode().strip()


def _public(pair: Ed25519PrivateKey) -> str:
    return pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
