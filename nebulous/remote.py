"""A further command in a container, as its caller has it: one websocket, whose frames `api/execs.py` describes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from nebulous import contexts
from nebulous.client import Place, httpx, wire
from nebulous.errors import BY_TYPE, NebulousError, Rejected, Unavailable

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

STDIN, STDOUT, STDERR = 0, 1, 2
LONGEST_URL = 200_000
AHEAD_BYTES = 256 * 1024  # of input that the server has not passed on yet
PIECE_BYTES = 32 * 1024
PROBES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # seconds; a vanished server is noticed so


class Connected(Protocol):
    """What a connection has to tell: either client's, blocking or not."""

    server: str

    @property
    def headers(self) -> httpx.Headers:
        """What every request carries, the token included."""
        ...


def execute(
    api: Connected,
    place: Place,
    argv: list[str],
    terminal: tuple[int, int] | None = None,
    open_within: float = wire.READ_TIMEOUT.total_seconds(),
) -> RemoteExecution:
    """Run a further command in a container.

    Args:
        api: The server.
        place: The container.
        argv: Program and arguments.
        terminal: Rows and columns of the terminal that it gets; None gives it none, and stderr apart.
        open_within: How long to wait for the server, in seconds.

    Raises:
        Unreachable: No answer. NebulousError: from `output()` of what is returned, if the API refuses.
    """
    from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
    from websockets.sync.client import connect

    token = api.headers.get("Authorization")
    open_until = contextlib.ExitStack()
    try:
        connection = open_until.enter_context(
            connect(
                _url(api.server, place, argv, terminal),
                additional_headers={"Authorization": token} if token else None,
                user_agent_header=api.headers["User-Agent"],
                compression=None,
                ping_timeout=None,
                proxy=None if contexts.is_loopback(api.server) else True,
                open_timeout=open_within,
            )
        )
    except InvalidStatus as error:
        what = f"{api.server} answered {error.response.status_code} {error.response.reason_phrase}"
        hint = "does a Nebulous API that knows exec run there?"
        raise wire.class_for(error.response.status_code)(what, hint) from error
    except (OSError, InvalidHandshake, InvalidMessage) as error:
        raise wire.unreachable(api.server, error) from error
    return RemoteExecution(connection, open_until)


def _url(server: str, place: Place, argv: list[str], terminal: tuple[int, int] | None) -> str:
    query: list[tuple[str, Any]] = [("command", word) for word in argv]
    query += [("owner", place.owner)] if place.owner else []
    query += [("tty", "true"), ("rows", terminal[0]), ("cols", terminal[1])] if terminal else []
    url = f"{server.replace('http', 'ws', 1)}{place.path}/exec?{urlencode(query)}"
    if len(url) > LONGEST_URL:
        raise Rejected("the command is too long to travel", "pass what is long on standard input: -i")
    return url


class RemoteExecution:
    """A running command; a context manager, and leaving it ends the command. Input may come from another thread."""

    def __init__(self, connection: ClientConnection, open_until: contextlib.ExitStack) -> None:
        """`open_until` closes the connection."""
        self._connection, self._open_until = connection, open_until
        self._sent = self._taken = 0
        self._changed = threading.Condition()
        self._over = False
        #: How it ended, once `output` has.
        self.exit_code: int | None = None
        with contextlib.suppress(OSError):  # a refusal may have closed it already, and is read all the same
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in PROBES.items():
                if hasattr(socket, option):
                    connection.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def __enter__(self) -> RemoteExecution:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and with it the command."""
        self._stop()
        self._connection.close()
        self._open_until.close()

    @property
    def over(self) -> bool:
        """True once it takes no more input."""
        return self._over

    def send(self, data: bytes) -> None:
        """Give it input; waits while enough is on its way. What comes after its end is dropped."""
        for at in range(0, len(data), PIECE_BYTES):
            piece = data[at : at + PIECE_BYTES]
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._sent - self._taken < AHEAD_BYTES)
            self._say(bytes([STDIN]) + piece)
            self._sent += len(piece)

    def end_input(self) -> None:
        """Let it read the end of its input."""
        self._say(json.dumps({"eof": True}))

    def resize(self, rows: int, cols: int) -> None:
        """Tell it that its terminal has another size."""
        self._say(json.dumps({"resize": {"rows": max(1, rows), "cols": max(1, cols)}}))

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Yield (channel, data) until it has ended; then `exit_code` says how.

        Raises:
            NebulousError: What the server refuses. Unavailable: the connection broke.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            for frame in self._connection:
                if isinstance(frame, bytes):
                    yield frame[0], frame[1:]
                elif self._ended(json.loads(frame)):
                    return
        except ConnectionClosed as error:
            raise _broken(error) from error
        finally:
            self._stop()
        raise _broken(None)

    def _ended(self, said: dict[str, Any]) -> bool:
        """Take in what the server says; True once that is the exit code."""
        match said:
            case {"error": {"type": kind, "message": message, **more}}:
                raise BY_TYPE.get(kind, NebulousError)(message, more.get("hint"))
            case {"exit": int(code)}:
                self.exit_code = code
                return True
            case {"taken": int(taken)}:
                with self._changed:
                    self._taken = taken
                    self._changed.notify_all()
            case _:
                pass  # a newer server may say more
        return False

    def _say(self, frame: bytes | str) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            if not self._over:
                self._connection.send(frame)
        except ConnectionClosed:
            return  # `output` says why

    def _stop(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _broken(error: Exception | None) -> Unavailable:
    why = f" ({error})" if error else ""
    return Unavailable(f"the connection to the command broke{why}; the command is ended", "run it again")
