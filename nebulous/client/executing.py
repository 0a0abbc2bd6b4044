"""A command in a container from its start to its end, as a program has it: input in, output out, an exit code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from nebulous import waiting
from nebulous.client.wire import Place
from nebulous.errors import Ended, NotReady, Unavailable
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
        running = execute(self._api, self._place, self._argv)
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
            what = f"{self._argv[0]!r} in {self._place.name!r} still ran after {waiting.shown(self._limit)}"
            raise NotReady(what, "it was ended; give it more time") from error
        finally:
            if timer:
                timer.cancel()

    def close(self) -> None:
        """End it, whatever it does; harmless after its end."""
        with self._lock:
            self._closed, running = True, self._running
        if running:
            running.close()

    def _timer(self) -> threading.Timer | None:
        if self._limit is None:
            return None
        timer = threading.Timer(waiting.seconds(self._limit), self._expire)
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
            for piece in [stdin] if isinstance(stdin, bytes) else stdin:
                if running.over:  # an input may have no end of its own
                    return
                running.send(piece)
            running.end_input()
        except Exception as error:  # whatever the caller's iterable raises, for the caller
            self._failure = error
            running.close()
