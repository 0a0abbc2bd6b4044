"""A TCP proxy that breaks connections when told to, and remembers what clients sent through it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

PIECE = 65536


@dataclass
class Proxy:
    """Between a client and the server at `target`."""

    target: tuple[str, int]
    url: str = ""
    #: So many answers are thrown away with their connections: the server has done it, the client never learns.
    swallow: int = 0
    sent: list[bytes] = field(default_factory=list)
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def cut(self) -> None:
        """Break every connection that there is."""
        while self._pairs:
            for end in self._pairs.pop():
                _close(end)

    def keys(self) -> list[str]:
        """The idempotency keys that clients sent."""
        lines = b"".join(self.sent).decode("latin-1").splitlines()
        return [line.partition(":")[2].strip() for line in lines if line.lower().startswith("idempotency-key:")]

    def carry(self, client: socket.socket) -> None:
        """One connection, until an end of it closes."""
        with socket.create_connection(self.target) as server:
            self._pairs.append((client, server))
            back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while piece := client.recv(PIECE):
                    self.sent.append(piece)
                    server.sendall(piece)
            _close(server)
            back.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(PIECE):
                if self.swallow:
                    self.swallow -= 1
                    break
                client.sendall(piece)
        _close(client)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A proxy on a port of its own before the server at this URL."""
    parts = urlsplit(target)
    made = Proxy((str(parts.hostname), int(parts.port or 80)))

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            made.carry(self.request)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.cut()
            server.shutdown()
            thread.join()
