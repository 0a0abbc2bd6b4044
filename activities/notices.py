"""Telling a URL what became of a container; how that is done safely stands in `webhook.py`."""

from __future__ import annotations

from typing import Any, Protocol

from temporalio import activity

from activities.failures import translated
from activities.heartbeat import beating
from nebulous.models.base import Record


class NoticeRequest(Record):
    """What to send where; the same key on every try."""

    url: str
    key: str
    body: dict[str, Any]


class Teller(Protocol):
    """Whatever carries a notice."""

    async def post(self, url: str, key: str, body: dict[str, Any]) -> int:
        """Send it once; see `Webhook`."""
        ...


class NoticeActivities:
    """Runs on the queue `nebulous`."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller

    @activity.defn(name="notify")
    async def notify(self, request: NoticeRequest) -> int:
        """Send one notice."""
        with translated():
            async with beating():
                return await self._teller.post(request.url, request.key, request.body)
