"""Secrets: values that are encrypted before they enter any workflow, and never listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from nebulous.models.base import IN_PLACE, Record, Spec
from nebulous.models.resources import MetadataRequest

LARGEST_VALUE = 24_000  # characters; a spec is at most 32 kB


class SecretSpec(Spec):
    """What a person sends. `value` is replaced by `sealed` before anything stores it."""

    kind: Literal["Secret"] = "Secret"
    metadata: MetadataRequest | None = Field(default=None, description="Name, place and labels.")
    value: str = Field(
        min_length=1,
        max_length=LARGEST_VALUE,
        description="The secret itself; write-only.",
        json_schema_extra={**IN_PLACE, "writeOnly": True},
    )

    expires_at: int | None = Field(default=None, description="The original's field; accepted when null.")

    @field_validator("expires_at")
    @classmethod
    def _not_enforced(cls, value: int | None) -> int | None:
        if value is not None:
            raise ValueError("is not enforced by this release, so it is not accepted; leave it out")
        return value

    @classmethod
    def comparable(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The keyed digest: sealing is randomised, so it is what tells equal values from others."""
        return {"value": stored.get("digest")}


class StoredSecret(Record):
    """What the workflow keeps: AES-256-GCM, bound to the secret's own address."""

    sealed: str
    key_id: str = ""


class SecretStatus(Record):
    """A secret has no life: it is there, or gone."""

    status: Literal["ready", "deleting", "invalid"] = "ready"
    reason: str = ""
    message: str = ""
