# Made of _async/follow.py by `make client`; change that file, not this one.
"""What the server sends for as long as one listens: logs and watches, whatever breaks between.

With every event the server says which place comes after it, so a connection that was cut goes on there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from datetime import timedelta
from time import monotonic
from typing import Any, Generic, Self, TypeVar

from nebulous.client.events import Event, EventParser
from nebulous.client.watching import Told
from nebulous.client.wire import Change
from nebulous.errors import Unavailable

#: A stream of events sends a sign of life every 5 s; without three of them the connection is dead.
SILENCE = timedelta(seconds=15)
#: How long to try to come back after a cut.
PATIENCE = timedelta(seconds=30)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two attempts

#: Opens a connection at the beginning (None), or behind the event with this id.
Connect = Callable[[str | None], AbstractContextManager[Iterator[bytes]]]

T = TypeVar("T")


class Stream(Generic[T]):
    """Something that comes bit by bit: iterate over it, inside `with` if you may leave before its end."""

    def __init__(self) -> None:
        #: Called with True when the server is out of reach, and with False when it is back.
        self.away: Callable[[bool], None] = lambda _: None
        self._running: Generator[T] | None = None

    def _items(self) -> Generator[T]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[T]:
        self._running = self._items()
        return self._running

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, if one is open."""
        if self._running is not None:
            self._running.close()


class Log(Stream[bytes]):
    """What a command wrote: by iteration the bytes as they come, or whole lines of text."""

    #: `status`, `reason` and `exit_code`, once a followed log has ended.
    end: dict[str, Any] | None = None

    def lines(self) -> Generator[str]:
        """Whole lines without their end; bytes that are no UTF-8 become U+FFFD."""
        rest = b""
        for chunk in self:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def read(self) -> bytes:
        """All of it at once."""
        return b"".join(list(self))


class LogText(Log):
    """What was written so far."""

    def __init__(self, chunks: Callable[[], Generator[bytes]]) -> None:
        super().__init__()
        self._chunks = chunks

    def _items(self) -> Generator[bytes]:
        return self._chunks()


def resumed(
    connect: Connect,
    last: Callable[[], str | None],
    patience: timedelta,
    *,
    at_first: bool = True,
    away: Callable[[bool], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Event]:
    """Events over as many connections as it takes, each beginning behind `last()`; for ever.

    Args:
        connect: Opens a connection.
        last: The id of the last event taken.
        patience: How long to try to come back.
        at_first: Whether to be patient before anything has come, too.
        away: Told once that the server is out of reach, and once that it is back.
        stopped: True once nobody wants to come back.

    Raises:
        Unavailable: The connection broke and did not come back within the patience.
    """
    alive, pause, met, cuts = monotonic(), FIRST_PAUSE, at_first, 0
    while True:
        cause = Unavailable("the server keeps closing the connection")
        try:
            with closing(_connection(connect, last())) as events:
                for event in events:
                    if cuts > 1:
                        away(False)
                    alive, pause, met, cuts = monotonic(), FIRST_PAUSE, True, 0
                    yield event
        except Unavailable as error:
            cause = error
        if stopped():
            return
        if not met or monotonic() - alive > patience.total_seconds():
            raise cause
        cuts += 1
        if cuts == 2:  # coming back at once is no news
            away(True)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _connection(connect: Connect, last: str | None) -> Generator[Event]:
    parser = EventParser()
    with connect(last) as chunks:
        for chunk in chunks:
            yield from parser.feed(chunk)


class LogFollow(Log):
    """The bytes of a followed log, until the command has ended; then `end` says how."""

    def __init__(self, connect: Connect, offset: int | None = None, patience: timedelta = PATIENCE) -> None:
        super().__init__()
        self._connect, self._patience = connect, patience
        self._last: str | None = None
        #: The place after the last byte received, as the server counts; None before the first.
        self.offset = offset
        #: Called with what the server says while there is nothing to read yet.
        self.comment: Callable[[str], None] = lambda _: None

    @property
    def exit_code(self) -> int | None:
        """The command's own, once it has ended; None without one."""
        return (self.end or {}).get("exit_code")

    def _items(self) -> Generator[bytes]:
        with closing(resumed(self._connect, lambda: self._last, self._patience, away=self.away)) as events:
            for event in events:
                if event.comment:
                    self.comment(event.comment)
                elif event.name == "end":
                    self.end = json.loads(event.data or "{}")
                    return
                elif text := self._take(event):
                    yield text

    def _take(self, event: Event) -> bytes:
        if event.id.isdigit():
            # From here on the offset alone says where to go on.
            self.offset, self._last = int(event.id), event.id
        # Bytes that are no UTF-8 travel as lone surrogates, and become bytes again here.
        return str(json.loads(event.data or "{}").get("text", "")).encode("utf-8", "surrogateescape")


class Watch(Stream[Change]):
    """What there is and what changes, each change once, for ever; `cursor` says where another watch goes on."""

    def __init__(self, connect: Connect, cursor: str | None = None, patience: timedelta = PATIENCE) -> None:
        super().__init__()
        self._connect, self._patience = connect, patience
        self._told = Told(cursor)
        self._stopped = False

    def stop(self) -> None:
        """End at the next sign of life; for another thread, or task, than the one that iterates."""
        self._stopped = True

    @property
    def cursor(self) -> str | None:
        """The place behind the last change received; None before all that was there has been told."""
        return self._told.cursor

    def _begin(self, last: str | None) -> AbstractContextManager[Iterator[bytes]]:
        self._told.connected()
        return self._connect(last)

    def _items(self) -> Generator[Change]:
        stream = resumed(
            self._begin,
            lambda: self.cursor,
            self._patience,
            at_first=False,
            away=self.away,
            stopped=lambda: self._stopped,
        )
        with closing(stream) as events:
            for event in events:
                if self._stopped:
                    return
                yield from self._told.take(event)
