"""Requests of the session plane that have one answer, as JSON; `sessions.py` relays it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from activities.containers import OffersRequest, offers_of
from activities.platforms.base import Platform
from nebulous.sessions import SessionRequest


async def _offers(platform: Platform, request: SessionRequest) -> object:
    found = await offers_of(platform, OffersRequest.model_validate(request.ask))
    return [offer.model_dump(mode="json") for offer in found]


#: kind of request -> what the platform says to it
ANSWERS: dict[str, Callable[[Platform, SessionRequest], Awaitable[object]]] = {"offers": _offers}
