"""A followed log on the client's side: server-sent events in, the command's bytes out, whatever breaks between.

With every chunk the server says which place in the log comes after it, so a connection that was cut goes on at
exactly that byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Generic, TypeVar

from nebulous.errors import Unavailable

#: A followed log sends a sign of life every 5 s; without three of them the connection is dead.
SILENCE = timedelta(seconds=15)
#: How long to try to come back after a cut.
PATIENCE = timedelta(seconds=30)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two attempts

#: Opens a connection for the query, at the first place (False) or where to go on after a cut (True).
Connect = Callable[[dict[str, Any], bool], AbstractContextManager[Iterator[bytes]]]


T = TypeVar("T")


class Follow(Generic[T]):
    """What one stream of server-sent events tells, over as many connections as that takes."""

    #: Whether even the first connection may be waited for.
    patient_at_first = True

    def __init__(self, connect: Connect, query: dict[str, Any], patience: timedelta = PATIENCE) -> None:
        self._connect, self._query, self._patience = connect, query, patience.total_seconds()
        self._resumed = False

    def __iter__(self) -> Iterator[T]:
        """Yield what is told until all is.

        Raises:
            Unavailable: The connection broke and did not come back within the patience.
        """
        alive, pause = time.monotonic(), FIRST_PAUSE
        met = self.patient_at_first
        while True:
            cause = Unavailable("the server keeps closing the connection")
            try:
                for told in self._connection():
                    alive, pause, met = time.monotonic(), FIRST_PAUSE, True
                    yield from told
            except Unavailable as error:
                cause = error
            if self._over():
                return
            if not met or time.monotonic() - alive > self._patience:
                raise cause
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _connection(self) -> Iterator[Sequence[T]]:
        """What each event of one connection tells; one that tells nothing is a sign of life."""
        with self._connect(self._query, self._resumed) as stream:
            for event in events(lines(stream)):
                yield self._take(event)
                if self._over():
                    return

    def _take(self, event: dict[str, str]) -> Sequence[T]:
        raise TypeError("a stream says what its events tell")

    def _over(self) -> bool:
        """True when there will be nothing more."""
        return False


class LogFollow(Follow[bytes]):
    """The bytes of a followed log, by iteration. Then `end` says how the command ended."""

    def __init__(self, connect: Connect, query: dict[str, Any], patience: timedelta = PATIENCE) -> None:
        super().__init__(connect, query, patience)
        #: `status`, `reason` and `exit_code`, once the log has ended.
        self.end: dict[str, Any] | None = None
        #: The place after the last byte received, as the server counts; None before the first.
        self.offset: int | None = query.get("offset")
        #: Called with what the server says while there is nothing to read yet.
        self.comment: Callable[[str], None] = lambda _: None

    def _over(self) -> bool:
        return self.end is not None

    def _take(self, event: dict[str, str]) -> Sequence[bytes]:
        if "comment" in event:
            self.comment(event["comment"])
            return ()
        data: dict[str, Any] = json.loads(event.get("data") or "{}")
        if event.get("event") == "end":
            self.end = data
            return ()
        if event.get("id", "").isdigit():
            # From here on the offset alone says where to go on.
            self.offset = int(event["id"])
            self._query, self._resumed = {"offset": self.offset}, True
        # Bytes that are no UTF-8 travel as lone surrogates, and become bytes again here.
        chunk = str(data.get("text", "")).encode("utf-8", "surrogateescape")
        return (chunk,) if chunk else ()


def lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Complete lines; only a line feed ends one, because text may hold every other separator of Unicode."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole)


def events(source: Iterator[str]) -> Iterator[dict[str, str]]:
    """Server-sent events; one that a cut has left incomplete is dropped, and so is sent again."""
    event: dict[str, str] = {}
    for line in source:
        if not line:
            if event:
                yield event
            event = {}
        elif line.startswith(":"):
            yield {"comment": line[1:].strip()}
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            event[name] = f"{event[name]}\n{value}" if name == "data" and name in event else value
