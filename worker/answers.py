"""Requests of the session plane that have one answer, as JSON; `sessions.py` relays it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from activities.blocks import Blocks
from activities.containers import OffersRequest, offers_of
from activities.platforms.base import Diagnoses, HasLoad, Measures, Platform
from nebulous.errors import NotFound, Rejected
from nebulous.sessions import SessionRequest


async def _offers(platform: Platform, request: SessionRequest, blocks: Blocks) -> object:
    found = await offers_of(platform, OffersRequest.model_validate(request.ask), blocks)
    return [offer.model_dump(mode="json") for offer in found]


async def _stats(platform: Platform, request: SessionRequest, blocks: Blocks) -> object:
    if not isinstance(platform, Measures):
        raise Rejected(f"platform {platform.type!r} does not tell what a container uses")
    found = await platform.find(request.key)
    if not found:
        raise NotFound(f"nothing is rented under {request.key!r} any more")
    return (await platform.usage(found[0])).model_dump(mode="json")


async def _load(platform: Platform, request: SessionRequest, blocks: Blocks) -> object:
    return asdict(await platform.load()) if isinstance(platform, HasLoad) else None


async def _diagnosis(platform: Platform, request: SessionRequest, blocks: Blocks) -> object:
    return [asdict(check) for check in await platform.diagnose()] if isinstance(platform, Diagnoses) else []


#: kind of request -> what the platform says to it
ANSWERS: dict[str, Callable[[Platform, SessionRequest, Blocks], Awaitable[object]]] = {
    "offers": _offers,
    "stats": _stats,
    "load": _load,
    "diagnosis": _diagnosis,
}
