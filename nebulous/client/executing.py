"""A command in a container from its start to its end, as a program has it: input in, output out, an exit code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Self

from nebulous import waiting
from nebulous.client.wire import READ_TIMEOUT, Place
from nebulous.errors import Ended, NotReady, Unavailable, Unreachable
from nebulous.remote import STDERR, Connected, RemoteExecution, execute
from nebulous.waiting import Limit

SHELL = ("sh", "-c")

Taker = Callable[[bytes], object]


@dataclass(frozen=True)
class Executed:
    """How a command ended, and what it wrote that nobody took as it came."""

    command: list[str]
    exit_code: int
    stdout: bytes
    stderr: bytes

    def checked(self, where: str) -> Self:
        """Itself, if its exit code is 0.

        Raises:
            Ended: It is another.
        """
        if self.exit_code == 0:
            return self
        last = self.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        said = f": {last}" if last else ""
        raise Ended(f"{self.command[0]!r} in {where!r} ended with exit code {self.exit_code}{said}")


@dataclass(frozen=True)
class Ends:
    """Where its input comes from, and where its output goes."""

    stdin: bytes | Iterable[bytes] = b""
    stdout: Taker | None = None
    stderr: Taker | None = None


class Execution:
    """One command; call it to run it. `close`, from any thread, ends the command."""

    def __init__(
        self, api: Connected, place: Place, command: str | Sequence[str], ends: Ends, limit: Limit = None
    ) -> None:
        """A text is a line for the container's shell, a sequence a program and its arguments."""
        if isinstance(ends.stdin, str):
            raise TypeError("stdin is bytes, or an iterable of bytes, and no str: encode it")
        self._argv = [*SHELL, command] if isinstance(command, str) else [*command]
        self._api, self._place = api, place
        self._ends, self._limit = ends, limit
        self._lock = threading.Lock()
        self._running: RemoteExecution | None = None
        self._closed = self._late = False
        self._failure: Exception | None = None

    def __call__(self) -> Executed:
        """Run it to its end.

        Raises:
            NotReady: It still ran after the limit, and was ended.
            Unavailable: The connection broke, and the command was ended with it.
            NebulousError: What the server refuses. Whatever reading the input raises.
        """
        end = monotonic() + waiting.seconds(self._limit)
        running = self._begun(end)
        with self._lock:
            self._running = running
            if self._closed:
                running.close()
        timer = self._timer(end)
        try:
            with running:
                return self._finish(running)
        except Unavailable as error:
            if self._failure:
                raise self._failure from error
            if not self._late:
                raise
            raise self._late_for("still ran", "it was ended; give it more time") from error
        finally:
            if timer:
                timer.cancel()

    def close(self) -> None:
        """End it, whatever it does; harmless after its end."""
        with self._lock:
            self._closed, running = True, self._running
        if running:
            running.close()

    def _begun(self, end: float) -> RemoteExecution:
        within = min(READ_TIMEOUT.total_seconds(), max(0.0, end - monotonic()))
        try:
            return execute(self._api, self._place, self._argv, open_within=within)
        except Unreachable as error:
            if monotonic() < end:
                raise
            raise self._late_for("had not begun", "the server does not answer; try later") from error

    def _late_for(self, how: str, hint: str) -> NotReady:
        return NotReady(f"{self._argv[0]!r} in {self._place.name!r} {how} after {waiting.shown(self._limit)}", hint)

    def _timer(self, end: float) -> threading.Timer | None:
        if self._limit is None:
            return None
        timer = threading.Timer(max(0.0, end - monotonic()), self._expire)
        timer.daemon = True
        timer.start()
        return timer

    def _expire(self) -> None:
        self._late = True
        self.close()

    def _finish(self, running: RemoteExecution) -> Executed:
        threading.Thread(target=self._feed, args=(running,), daemon=True).start()
        kept: dict[bool, list[bytes]] = {False: [], True: []}
        for channel, data in running.output():
            is_error = channel == STDERR
            taker = self._ends.stderr if is_error else self._ends.stdout
            (taker or kept[is_error].append)(data)
        return Executed(self._argv, running.exit_code or 0, b"".join(kept[False]), b"".join(kept[True]))

    def _feed(self, running: RemoteExecution) -> None:
        """Give it its input; an iterable that fails ends the command."""
        stdin = self._ends.stdin
        try:
            for piece in [bytes(stdin)] if isinstance(stdin, (bytes, bytearray, memoryview)) else stdin:
                if running.over:  # an input may have no end of its own
                    return
                running.send(piece)
            running.end_input()
        except Exception as error:  # whatever the caller's iterable raises, for the caller
            self._failure = error
            running.close()
