"""A watch that is read beside whatever else goes on, so that whoever waits for it can keep the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nebulous.client._async.follow import AsyncWatch
from nebulous.client.watching import WATCHLESS
from nebulous.client.wire import Change


class AsyncBeside:
    """Reads from the moment it is made, in a task of its own."""

    def __init__(self, watch: AsyncWatch, ended: Callable[[], None]) -> None:
        """`ended` is called once, when its connection is no longer used."""
        #: True once nothing more will come.
        self.over = False
        self._told: asyncio.Queue[Change | Exception | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read(watch))
        self._reading.add_done_callback(lambda _: ended())

    async def next(self, seconds: float) -> Change | None:
        """The next change; None if there is none within the time, or never will be."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                told = await self._told.get()
        except TimeoutError:
            return None
        self.over = not isinstance(told, Change)
        if isinstance(told, Exception):
            raise told
        return told

    async def aclose(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self, watch: AsyncWatch) -> None:
        try:
            async with watch:
                async for change in watch:
                    self._told.put_nowait(change)
            self._told.put_nowait(None)
        except WATCHLESS:
            self._told.put_nowait(None)
        except Exception as error:  # for whoever asks for the next
            self._told.put_nowait(error)
