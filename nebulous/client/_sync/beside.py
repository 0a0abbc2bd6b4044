"""A watch that is read beside whatever else goes on: here in a thread. Written by hand, unlike the files beside it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from nebulous.client._sync.follow import Watch
from nebulous.client.watching import WATCHLESS
from nebulous.client.wire import Change


class Beside:
    """Reads from the moment it is made; `close` lets go of the connection at the server's next sign of life."""

    def __init__(self, watch: Watch, ended: Callable[[], None]) -> None:
        """`ended` is called once, when its connection is no longer used."""
        #: True once nothing more will come.
        self.over = False
        self._watch, self._ended = watch, ended
        self._told: queue.SimpleQueue[Change | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float) -> Change | None:
        """The next change; None if there is none within the time, or never will be."""
        try:
            told = self._told.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        self.over = not isinstance(told, Change)
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        """Read no more."""
        self._watch.stop()

    def _read(self) -> None:
        try:
            with self._watch as watch:
                for change in watch:
                    self._told.put(change)
            self._told.put(None)
        except WATCHLESS:
            self._told.put(None)
        except Exception as error:  # for whoever asks for the next
            self._told.put(error)
        finally:
            self._ended()
