"""Telling in the worker's log whether logs of containers can be kept, before the first of them is lost."""

from __future__ import annotations

import asyncio
import logging

from nebulous.archive import Archive
from nebulous.errors import NebulousError

AGAIN_S = 60.0

log = logging.getLogger(__name__)


async def tell_of(archive: Archive) -> None:
    """Try to write until it works, and say each time why it does not; containers run, and end without a log."""
    told = False
    while True:
        try:
            await archive.check_writing()
        except NebulousError as error:
            told = True
            log.error("logs of containers cannot be kept: %s%s", error, f"; {error.hint}" if error.hint else "")
            await asyncio.sleep(AGAIN_S)
        else:
            if told:
                log.info("logs of containers are kept in %s again", archive.place)
            return
