"""What a health check of the worker process looks at: a file that is written again only while it can work.

Its age says what no exit code does: that the event loop turns, that Temporal answers, and that what it holds can be
read with the keys that this process has.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from nebulous import ids, temporal
from nebulous.errors import KeyMissing

log = logging.getLogger(__name__)

EVERY_S = 10.0  # a check asks for an age below one minute: several looks may fail before it does


async def keep(client: Client, ready_file: Path) -> None:
    """Write the file again and again for as long as this process is able to work; never ends by itself."""
    before: str | None = None
    while True:
        trouble = await _trouble(client)
        if trouble is None:
            try:
                ready_file.write_text(str(os.getpid()))
            except OSError as error:
                trouble = f"{str(ready_file)!r} cannot be written: {error.strerror}"
        if trouble != before:
            log.warning("not able to work: %s", trouble) if trouble else log.info("able to work again")
        before = trouble
        await asyncio.sleep(EVERY_S)


async def _trouble(client: Client) -> str | None:
    """Why this process cannot work now, or None: it reads what it has to be able to read. That costs no action."""
    try:
        handle = client.get_workflow_handle(ids.INSTALL_WORKFLOW)
        await (await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT)).memo()
    except KeyMissing as error:
        return str(error)
    except (RPCError, RuntimeError) as error:
        return f"no word from Temporal: {error}"
    return None
