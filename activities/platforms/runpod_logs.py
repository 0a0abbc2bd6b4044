"""A pod's log, as RunPod streams it: lines of the command, and between them those of our entry, which nobody sees.

The stream never says that all there was has come; a moment of silence does. A log is read from where the pod began, for
RunPod gives 5,000 lines at most when asked for the last ones.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from activities.platforms.runpod_api import RunpodApi
from nebulous.errors import NebulousError, NotFound, Unavailable
from nebulous.models.platforms import Exit

MARK = re.compile(r"^nebulous-(ready|start|exit|told|refused|stopped|unended): (\S*) (.*) (\S+)$")
ENDS = frozenset({"exit", "refused", "stopped"})
FIRST_S, QUIET_S = 2.0, 0.3  # silence before the first line, and after one
SURELY_S = 10.0  # where it is known that the end is still to come
RECONNECT_S, SLOWEST_RECONNECT_S = 0.2, 30.0
MOST_LINES = 5000  # RunPod's limit on `tail`
SLACK_LINES = 100  # of our own among the last


@dataclass(frozen=True)
class Line:
    """One event."""

    id: str
    at: str
    text: str

    @property
    def mark(self) -> Mark | None:
        """What our entry says with it."""
        found = MARK.match(self.text)
        if not found:
            return None
        return Mark(found[1], found[2], found[3], self.at if found[4] == "-" else found[4])


@dataclass(frozen=True)
class Mark:
    """A word of our entry."""

    kind: str
    run: str
    words: str
    at: str

    @property
    def end(self) -> Exit:
        """How the run ended, of one that tells an end."""
        code, _, oom = self.words.partition("-")
        return Exit(code=int(code) if code.isdigit() else 1, at=self.at, oom=oom == "oom")


async def lines(
    api: RunpodApi, pod: str, after: str = "", opened: Callable[[], None] | None = None, **params: str
) -> AsyncGenerator[Line]:
    """Stream one connection's worth of lines, behind the event `after` if given, else as `params` say.

    Raises:
        NotFound: The pod is gone. Unavailable: the line broke.
    """
    wanted = {"source": "container", **params}
    rest = b""
    try:
        async with api.stream(f"/v2/pods/{pod}/logs", "reading a log", wanted, after) as reply:
            if opened:
                opened()
            async for data in reply.aiter_bytes():
                *whole, rest = (rest + data).split(b"\n\n")  # not by lines: text has line ends of other kinds
                for event in whole:
                    if line := _line(event):
                        yield line
    except httpx.HTTPError as error:
        raise Unavailable(f"the log of pod {pod!r} broke off: {error or type(error).__name__}") from error


def _line(event: bytes) -> Line | None:
    fields: dict[str, str] = {}
    for field in event.decode(errors="replace").split("\n"):
        name, _, value = field.partition(":")
        fields[name] = value.removeprefix(" ")
    try:
        data: dict[str, Any] = json.loads(fields.get("data", ""))
    except ValueError:
        return None
    at = str(data.get("ts") or "")
    return Line(fields.get("id", at), at, str(data.get("line") or "").removesuffix("\n"))


class Resumed:
    """A log over as many connections as it takes; what a new one repeats is left out."""

    def __init__(self, api: RunpodApi, pod: str, **params: str) -> None:
        """Nothing is connected yet; `params` say where the first connection begins."""
        self._api = api
        self._pod = pod
        self._params = params
        self.open = False  # RunPod answers with it just now
        self._last = ""
        self._had: deque[str] = deque(maxlen=MOST_LINES)  # with the last id, for several may have it

    async def once(self) -> AsyncGenerator[Line]:
        """One connection."""
        repeated = deque(self._had)
        try:
            async with aclosing(lines(self._api, self._pod, self._last, self._opened, **self._params)) as source:
                async for line in source:
                    if line.id == self._last and repeated and repeated[0] == line.text:
                        repeated.popleft()
                        continue
                    if line.id != self._last:
                        self._last = line.id
                        self._had.clear()
                    repeated.clear()
                    self._had.append(line.text)
                    yield line
        finally:
            self.open = False

    def _opened(self) -> None:
        self.open = True

    async def forever(self) -> AsyncGenerator[Line]:
        """Connect again whenever a connection ends.

        Raises:
            NotFound: The pod is gone. Other errors of RunPod before the first line.
        """
        pause, begun = RECONNECT_S, False
        while True:
            try:
                async with aclosing(self.once()) as source:
                    async for line in source:
                        pause, begun = RECONNECT_S, True
                        yield line
            except NotFound:
                raise
            except NebulousError as error:
                if not begun and not isinstance(error, Unavailable):
                    raise
                pause = max(pause, getattr(error, "retry_after", None) or 0.0)
            await asyncio.sleep(pause)
            pause = min(2 * pause, SLOWEST_RECONNECT_S)


class _Shown:
    """Takes our own lines out, each with the empty one that it begins with."""

    def __init__(self) -> None:
        self._held = False

    def take(self, line: Line) -> bytes:
        if line.mark:
            self._held = False
            return b""
        before, self._held = b"\n" if self._held else b"", not line.text
        return before if self._held else before + line.text.encode() + b"\n"

    def rest(self) -> bytes:
        before, self._held = b"\n" if self._held else b"", False
        return before


async def read(api: RunpodApi, pod: str, created_at: str, run: str | None) -> AsyncGenerator[bytes]:
    """All that the command wrote until now; `run` is one that is known to have ended."""
    shown = _Shown()
    async with aclosing(_with_quiet(lines(api, pod, "", None, **_from(created_at)), bool(run))) as source:
        async for line in source:
            if line is None:
                break
            if piece := shown.take(line):
                yield piece
            if _ends(line, run) and run:
                break
    if piece := shown.rest():
        yield piece


async def last(api: RunpodApi, pod: str, created_at: str, run: str | None, count: int) -> bytes:
    """The last lines that the command wrote until now."""
    asked = count + SLACK_LINES
    if asked <= MOST_LINES:
        shown, had, found = _Shown(), 0, deque[bytes](maxlen=count)
        async with aclosing(_with_quiet(lines(api, pod, tail=str(asked)), bool(run))) as source:
            async for line in source:
                if line is None:
                    break
                had += 1
                found.extend(shown.take(line).splitlines(keepends=True))
                if _ends(line, run) and run:
                    break
        found.extend(shown.rest().splitlines(keepends=True))
        if len(found) == count or had < asked:
            return b"".join(found)
    found = deque[bytes](maxlen=count)
    async with aclosing(read(api, pod, created_at, run)) as pieces:
        async for piece in pieces:
            found.extend(piece.splitlines(keepends=True))
    return b"".join(found)


async def follow(
    api: RunpodApi, pod: str, created_at: str, run: str | None, tail: int | None = None
) -> AsyncGenerator[bytes]:
    """What the command wrote (its last lines, or all) and writes, until this run of it has ended or the pod is gone."""
    shown, begun, over = _Shown(), False, False
    waiting: deque[bytes] | None = None if tail is None else deque(maxlen=tail)
    log = Resumed(api, pod, **_from(created_at))
    try:
        async with aclosing(_with_quiet(log.forever())) as source:
            async for line in source:
                begun = True
                piece = b"" if line is None else shown.take(line)
                over = line is not None and _ends(line, run)
                if waiting is not None:
                    waiting.extend(piece.splitlines(keepends=True))
                    if line is not None and not over:
                        continue
                    piece, waiting = b"".join(waiting), None
                if piece:
                    yield piece
                if over:
                    return
    except NotFound:
        if not begun:
            raise


def _ends(line: Line, run: str | None) -> bool:
    mark = line.mark
    return mark is not None and mark.kind in ENDS and run in (None, mark.run)


def _from(created_at: str) -> dict[str, str]:
    return {"since": created_at} if created_at else {"tail": str(MOST_LINES)}


async def _with_quiet(source: AsyncGenerator[Line], ended: bool = False) -> AsyncGenerator[Line | None]:
    """The lines, and one None when for a moment, or for ever, no more of those come that were there already."""
    first, quiet = (SURELY_S, SURELY_S) if ended else (FIRST_S, QUIET_S)
    queue: asyncio.Queue[Line | Exception | None] = asyncio.Queue(1000)

    async def pump() -> None:
        try:
            async with aclosing(source):
                async for line in source:
                    await queue.put(line)
            await queue.put(None)
        except Exception as error:  # for whoever reads
            await queue.put(error)

    pumping, patience = asyncio.create_task(pump()), first
    try:
        while True:
            try:
                async with asyncio.timeout(patience):
                    line = await queue.get()
            except TimeoutError:
                yield None
                patience = None
                continue
            if line is None:
                yield None
                return
            if isinstance(line, Exception):
                raise line
            patience = patience and quiet
            yield line
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
