"""Server-sent events out of the bytes of a reply; waits for nothing, so both clients use it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Event:
    """One event; a comment alone is one too, and a sign of life."""

    name: str = ""
    data: str = ""
    id: str = ""
    comment: str = ""


class EventParser:
    """Takes bytes as they come, gives events as they are complete.

    One that a cut has left incomplete is never given: the server sends it again.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete."""
        found: list[Event] = []
        # only a line feed ends a line, because text may hold every other separator of Unicode
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if event:
                found.append(event)
        return found

    def _line(self, line: str) -> Event | None:
        if line.startswith(":"):
            return Event(comment=line[1:].strip())
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            more = name == "data" and name in self._fields
            self._fields[name] = f"{self._fields[name]}\n{value}" if more else value
            return None
        fields, self._fields = self._fields, {}
        return Event(fields.get("event", ""), fields.get("data", ""), fields.get("id", "")) if fields else None
