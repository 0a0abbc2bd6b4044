"""What a cloud refused lately, remembered for all containers: nobody asks again for what is known to be sold out.

Each process remembers for itself; what it shares with others of the same account is a `Board` (`worker/board.py`).
Nothing here decides: offers are marked, and workflows leave out what is marked. Forgetting costs a refused request.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from nebulous.errors import AuthFailed, NebulousError, OutOfCapacity, QuotaExceeded, Unavailable
from nebulous.ids import OWN_MACHINES
from nebulous.models.platforms import Offer

log = logging.getLogger(__name__)

SOLD_OUT = timedelta(minutes=3)  # capacity comes back within minutes
QUOTA = timedelta(minutes=10)  # people ask for more, and get it within hours
NO_ACCESS = timedelta(minutes=10)
LONGEST_REASON = 200


@dataclass(frozen=True)
class Block:
    """A scope that is left alone."""

    scope: str  # as `Offer.within` reads it
    reason: str
    until: float  # unix time


class Board(Protocol):
    """Where the processes of one account share blocks."""

    async def post(self, block: Block) -> None:
        """Tell the others.

        Raises:
            Unavailable: Nobody can be told now.
        """
        ...

    async def read(self) -> list[Block]:
        """What is there; outdated ones may be among them.

        Raises:
            Unavailable: Nobody knows now.
        """
        ...


class Blocks:
    """The blocks of one platform account."""

    def __init__(self, account: str, board: Board | None = None, clock: Callable[[], float] = time.time) -> None:
        self._account = account
        self._board = board
        self._clock = clock
        self._known: dict[str, Block] = {}

    async def learn(self, offer: Offer, error: NebulousError) -> None:
        """Remember a refusal, if it tells anything about other requests."""
        span = _span(error)
        if span is None or not error.lasting or offer.platform in OWN_MACHINES:
            return
        reason = f"{error.type}: {error.message}"[:LONGEST_REASON]
        block = Block(_scope(offer, error), reason, self._clock() + span.total_seconds())
        self._known[block.scope] = block
        if self._board:
            try:
                await self._board.post(block)
            except Unavailable as trouble:
                log.info("a refusal of %s is remembered by this process alone: %s", self._account, trouble)

    async def mark(self, offers: list[Offer]) -> list[Offer]:
        """The same offers, with why and until when those are to be left alone that lie in a blocked scope."""
        blocks = await self._current() if offers else []
        return [_marked(offer, blocks) for offer in offers] if blocks else offers

    async def _current(self) -> list[Block]:
        for block in await self._others():
            known = self._known.get(block.scope)
            if known is None or known.until < block.until:
                self._known[block.scope] = block
        now = self._clock()
        self._known = {scope: block for scope, block in self._known.items() if block.until > now}
        return list(self._known.values())

    async def _others(self) -> list[Block]:
        try:
            return await self._board.read() if self._board else []
        except Unavailable as trouble:
            log.info("what others learned of %s cannot be read: %s", self._account, trouble)
            return []


def _span(error: NebulousError) -> timedelta | None:
    spans = {OutOfCapacity: SOLD_OUT, QuotaExceeded: QUOTA, AuthFailed: NO_ACCESS}
    return next((span for kind, span in spans.items() if isinstance(error, kind)), None)


def _scope(offer: Offer, error: NebulousError) -> str:
    """What the refusal is about: the pool, the quota's scope, or the whole account."""
    if isinstance(error, OutOfCapacity):
        return offer.pool
    if isinstance(error, QuotaExceeded) and offer.within(error.scope):
        return error.scope
    return offer.account


def _marked(offer: Offer, blocks: list[Block]) -> Offer:
    about = [block for block in blocks if offer.within(block.scope)]
    if not about:
        return offer
    last = max(about, key=lambda block: block.until)
    until = datetime.fromtimestamp(math.ceil(last.until), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return offer.model_copy(update={"blocked": last.reason, "blocked_until": until})
