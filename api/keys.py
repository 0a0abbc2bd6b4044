"""Idempotency keys: which life a key stands for, and that it stands for one body only.

The life that a request makes, or the change, keeps a keyed digest of what was asked (`metadata.request` and the
workflow's `requests`), so that a key that comes back with another body is told so rather than believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nebulous import ids
from nebulous.errors import Rejected
from nebulous.ids import Address

LONGEST_KEY = 256
LONGEST_SHOWN = 80
HELD = timedelta(days=1)
REDIS_PATIENCE_S = 0.5  # a write does not wait for what only guards against a slip
DIGEST_LETTERS = 16  # 64 bits: it tells one caller's slip, and is no defence against them

Key = Annotated[str | None, Header(alias="Idempotency-Key", description="The same again means the same request.")]


class Reused(Rejected):
    """The key stands for another body already."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(
            f"Idempotency-Key {key[:LONGEST_SHOWN]!r} was used with another body already, for {what}",
            "send that body again to get its answer, or this one under a new key",
        )

    @property
    def type(self) -> str:
        """For the wire this is a rejection like any other."""
        return "Rejected"


@dataclass(frozen=True)
class Claim:
    """A key as one caller sent it, with the body that it came with."""

    key: str
    install: str
    caller: str
    request: str  # the body's digest

    @classmethod
    def of(cls, key: str, install: str, caller: str, body: Mapping[str, Any], secret_key: bytes) -> Claim:
        """Read it.

        Raises:
            Rejected: It is too long to be a key.
        """
        if len(key) > LONGEST_KEY:
            raise Rejected(f"Idempotency-Key has {len(key)} characters", f"at most {LONGEST_KEY} are allowed")
        return cls(key, install, caller, digest(secret_key, body))

    @property
    def seed(self) -> str:
        """What a generated name is made from: a repeated request without a name finds what it made."""
        return ids.id_from_idempotency_key(self.install, self.caller, self.key)

    def life(self, address: Address) -> str:
        """The id of the life that it makes at this address, or of the change."""
        return ids.id_from_idempotency_key(self.install, self.caller, self.key, str(address))

    async def hold(self, redis: Redis, address: Address) -> None:
        """Bind the key to one resource for a day, as far as Redis remembers; what a key did there is kept there.

        Raises:
            Reused: It is another's.
        """
        with contextlib.suppress(RedisError, TimeoutError):
            async with asyncio.timeout(REDIS_PATIENCE_S):
                name = f"keys:{address.organization.lower()}:{self.seed}"
                held = await redis.set(name, str(address), nx=True, get=True, ex=HELD)
            known = held.decode() if isinstance(held, bytes) else str(held or "")
            if known and known != str(address):
                raise Reused(self.key, known)


def digest(secret_key: bytes, body: Mapping[str, Any]) -> str:
    """What tells one body from another; order and whitespace do not matter. Keyed: secrets may be in it."""
    subkey = hmac.digest(secret_key, b"nebulous request digest", "sha256")
    written = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.digest(subkey, written.encode(), "sha256").hex()[:DIGEST_LETTERS]
