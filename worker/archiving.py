"""Telling in the worker's log whether logs of containers can be kept, before the first of them is lost."""

from __future__ import annotations

import asyncio
import logging

from nebulous.archive import Archive
from nebulous.errors import NebulousError

BAD_AGAIN_S = 60.0
#: Its mark may be removed by a rule of the bucket, and a key may expire.
GOOD_AGAIN_S = 3600.0

log = logging.getLogger(__name__)


async def tell_of(archive: Archive) -> None:
    """Try to write, for ever, and say when it does not work and when it does again; containers end without a log."""
    bad = False
    while True:
        try:
            await archive.check_writing()
        except NebulousError as error:
            bad = True
            log.error("logs of containers cannot be kept: %s%s", error, f"; {error.hint}" if error.hint else "")
        else:
            if bad:
                log.info("logs of containers are kept in %s again", archive.place)
            bad = False
        await asyncio.sleep(BAD_AGAIN_S if bad else GOOD_AGAIN_S)
