"""What a kind of session works with."""

from __future__ import annotations

from dataclasses import dataclass

from activities.platforms.base import Platform
from nebulous.models.platforms import Instance
from nebulous.sessions import Relay, SessionRequest


@dataclass(frozen=True)
class Task:
    """One request: where, what, and the way back to who asks."""

    platform: Platform
    instance: Instance
    relay: Relay
    request: SessionRequest
