"""A command in a container from its start to its end, as a program has it: input in, output out, an exit code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

from nebulous import waiting
from nebulous.client.wire import READ_TIMEOUT, Place
from nebulous.errors import CommandFailed, NotReady, Unavailable, Unreachable
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


@dataclass(frozen=True)
class Ends:
    """Where its input comes from, and where its output goes."""

    stdin: bytes | Iterable[bytes] = b""
    stdout: Taker | None = None
    stderr: Taker | None = None


def checked(done: Executed, where: str) -> Executed:
    """The same, if its exit code is 0.

    Raises:
        CommandFailed: It is another.
    """
    if done.exit_code == 0:
        return done
    last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    said = f": {last}" if last else ""
    message = f"{done.command[0]!r} in {where!r} ended with exit code {done.exit_code}{said}"
    raise CommandFailed(message, None, done.exit_code, done.stdout, done.stderr)


class Execution:
    """One command; call it to run it. `close`, from any thread, ends the command.

    Its time runs from when this is made.
    """

    def __init__(
        self, api: Connected, place: Place, command: str | Sequence[str], ends: Ends, limit: Limit = None
    ) -> None:
        """A text is a line for the container's shell, a sequence a program and its arguments."""
        if isinstance(ends.stdin, str):
            raise _no_text()
        self._argv = [*SHELL, command] if isinstance(command, str) else [*command]
        self._api, self._place = api, place
        self._ends, self._limit = ends, limit
        self._end = monotonic() + waiting.seconds(limit)
        self._lock = threading.Lock()
        self._running: RemoteExecution | None = None
        self._closed = self._late = False
        self._failure: Exception | None = None

    def __call__(self) -> Executed:
        """Run it to its end.

        Raises:
            NotReady: It still ran after the limit, and was ended.
            Unreachable: The server does not answer.
            Unavailable: The connection broke, and the command was ended with it.
            NebulousError: What the server refuses. Whatever reading the input raises.
        """
        running = execute(self._api, self._place, self._argv, open_within=self.patience())
        with self._lock:
            self._running = running
            if self._closed:
                running.close()
        timer = self._timer()
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

    def patience(self) -> float:
        """How many seconds the server may take to answer."""
        return min(READ_TIMEOUT.total_seconds(), max(0.0, self._end - monotonic()))

    def check_time(self, error: Unreachable) -> None:
        """See that there is time left, though the server did not answer.

        Raises:
            NotReady: There is none.
        """
        if monotonic() >= self._end:
            raise self._late_for("had not begun", "the server does not answer; try later") from error

    def close(self) -> None:
        """End it, whatever it does; harmless after its end."""
        with self._lock:
            self._closed, running = True, self._running
        if running:
            running.close()

    def _late_for(self, how: str, hint: str) -> NotReady:
        return NotReady(f"{self._argv[0]!r} in {self._place.name!r} {how} after {waiting.shown(self._limit)}", hint)

    def _timer(self) -> threading.Timer | None:
        if self._limit is None:
            return None
        timer = threading.Timer(max(0.0, self._end - monotonic()), self._expire)
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
                if isinstance(piece, str):
                    raise _no_text()
                running.send(piece)
            running.end_input()
        except Exception as error:  # whatever the caller's iterable raises, for the caller
            self._failure = error
            running.close()


def _no_text() -> TypeError:
    return TypeError("stdin is bytes, or an iterable of bytes, and no str: encode it")
