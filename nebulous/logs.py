"""A followed log on the client's side: server-sent events in, the command's bytes out, whatever breaks between.

With every chunk the server says which place in the log comes after it, so a connection that was cut goes on at
exactly that byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from nebulous.errors import Unavailable

#: A followed log sends a sign of life every 5 s; without three of them the connection is dead.
SILENCE = timedelta(seconds=15)
#: How long to try to come back after a cut.
PATIENCE = timedelta(seconds=30)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two attempts

#: Opens a connection for the query, at the first place (False) or where to go on after a cut (True).
Connect = Callable[[dict[str, Any], bool], AbstractContextManager[Iterator[bytes]]]


class LogFollow:
    """The bytes of a followed log, by iteration. Then `end` says how the command ended."""

    def __init__(self, connect: Connect, query: dict[str, Any], patience: timedelta = PATIENCE) -> None:
        self._connect, self._query, self._patience = connect, query, patience.total_seconds()
        self._resumed = False
        #: `status`, `reason` and `exit_code`, once the log has ended.
        self.end: dict[str, Any] | None = None
        #: The place after the last byte received, as the server counts; None before the first.
        self.offset: int | None = query.get("offset")
        #: Called with what the server says while there is nothing to read yet.
        self.comment: Callable[[str], None] = lambda _: None

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks until the command has ended.

        Raises:
            Unavailable: The connection broke and did not come back within the patience.
        """
        alive, pause = time.monotonic(), FIRST_PAUSE
        while True:
            cause = Unavailable("the server keeps closing the connection")
            try:
                for chunk in self._connection():
                    alive, pause = time.monotonic(), FIRST_PAUSE
                    if chunk:
                        yield chunk
            except Unavailable as error:
                cause = error
            if self.end is not None:
                return
            if time.monotonic() - alive > self._patience:
                raise cause
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _connection(self) -> Iterator[bytes]:
        """One connection's chunks; an empty one is a sign of life."""
        with self._connect(self._query, self._resumed) as stream:
            for event in events(lines(stream)):
                yield self._take(event)
                if self.end is not None:
                    return

    def _take(self, event: dict[str, str]) -> bytes:
        if "comment" in event:
            self.comment(event["comment"])
            return b""
        data: dict[str, Any] = json.loads(event.get("data") or "{}")
        if event.get("event") == "end":
            self.end = data
            return b""
        if event.get("id", "").isdigit():
            # From here on the offset alone says where to go on.
            self.offset = int(event["id"])
            self._query, self._resumed = {"offset": self.offset}, True
        # Bytes that are no UTF-8 travel as lone surrogates, and become bytes again here.
        return str(data.get("text", "")).encode("utf-8", "surrogateescape")


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
