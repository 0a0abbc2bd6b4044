"""Secrets: sealed before anything stores them, never listed, shown again only to an admin who asks for it."""

from __future__ import annotations

from typing import Any

from api.containers import metadata
from api.resources import Asked, Prepared, Surface, Target
from api.services import Services
from nebulous import seal
from nebulous.models import kinds
from nebulous.models.resources import Row
from nebulous.models.secrets import SecretSpec, SecretStatus
from nebulous.tokens import Role

KIND = kinds.find("secret")


async def prepare(asked: Asked) -> Prepared:
    """Seal the value; what is stored besides is a keyed digest that tells equal values from others."""
    spec: SecretSpec = asked.spec
    key = asked.uses.secret_key
    shown = {"kind": KIND.name, "digest": seal.digest(key, asked.address, spec.value)}
    return Prepared({**shown, "sealed": seal.seal(key, asked.address, spec.value)}, shown, "sealed value")


def present(row: Row, _: Role) -> dict[str, Any]:
    """The reply, without the value."""
    return {
        "kind": KIND.name,
        "metadata": metadata(row),
        "value": None,
        "expires_at": None,
        "status": {**SecretStatus().model_dump(mode="json"), **row.status},
    }


async def reveal(uses: Services, target: Target) -> dict[str, Any]:
    """The value in clear.

    Raises:
        Unavailable: No worker answers. Rejected: it was sealed with another key.
    """
    sealed = await uses.store.sealed(target.address)
    return {"value": seal.unseal(uses.secret_key, target.address, sealed)}


async def written(uses: Services, target: Target) -> dict[str, Any]:
    """The spec with its value, from which a PATCH of the labels alone starts; it goes nowhere but into a seal."""
    return {"kind": KIND.name, **await reveal(uses, target)}


SURFACE = Surface(
    kind=KIND,
    prepare=prepare,
    present=present,
    first_status=SecretStatus().model_dump(mode="json"),
    statuses=("ready", "deleting", "invalid"),
    steady=frozenset({"ready"}),
    reveal=reveal,
    written=written,
)
