"""How long the API waits for a client to say what it wants: a connection that says nothing must not stay for ever.

uvicorn limits the time between two requests, and not how long the head of one may take: a few hundred connections that
send a byte a minute would take all the file descriptors of the process.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT_S = 15.0


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 whose request heads have to arrive in time; bodies are their readers' matter."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's own
        """A client is there: its request should follow."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Bytes came; while they are of no whole head yet, the time goes on."""
        super().data_received(data)
        if self._answering() or self.transport.is_closing():
            self._head_came()
        elif self._head_timer is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It left."""
        self._head_came()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:  # noqa: ANN401 - h11's Request
        """From here on it speaks another protocol."""
        self._head_came()
        super().handle_websocket_upgrade(event)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison] - None until the first request

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._too_slow)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._answering():
            self.transport.close()
