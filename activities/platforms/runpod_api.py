"""RunPod's REST API, version 2, over one client; what each call means is decided by its callers.

Why not the `runpod` package: docs/adr/0016. The key is read anew for each call, so that a file may be replaced.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import httpx

from activities.platforms.runpod_errors import KEY_ADVICE, refusal
from activities.platforms.runpod_pace import Pace, Urgency
from nebulous.accounts import RunpodAccount
from nebulous.errors import AuthFailed, NebulousError, Unavailable

API = "https://api.runpod.io"
#: Less than any activity is given, so that an answer that never comes is found out here.
ANSWER_S, CONNECT_S = 30.0, 10.0
#: A log that says nothing for so long is asked for again: the line may be dead.
SILENT_S = 600.0
LISTS_APART_S = 1.0

Json = dict[str, Any]
T = TypeVar("T")
Translate = Callable[[int, bytes, httpx.Headers], NebulousError]


def base_url() -> str:
    """Where the API is: NEBU_RUNPOD_API, else as the `runpod` package has it."""
    return (os.environ.get("NEBU_RUNPOD_API") or os.environ.get("RUNPOD_API_BASE_URL") or API).rstrip("/")


class RunpodApi:
    """Calls with one account's key. Raises only NebulousError."""

    def __init__(self, account: RunpodAccount) -> None:
        self._account = account
        self.base = base_url()
        self.pace = Pace()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)  # a log in sight holds a connection
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._client = httpx.AsyncClient(base_url=self.base, timeout=timeout, limits=limits)

    @property
    def key(self) -> str:
        """The key as it is now.

        Raises:
            AuthFailed: There is none.
        """
        path = self._account.api_key_file
        try:
            key = path.expanduser().read_text() if path else os.environ.get("RUNPOD_API_KEY", "")
        except OSError as error:
            raise AuthFailed(f"the key of RunPod cannot be read: {error}", "see api_key_file of the account") from error
        if not key.strip():
            raise AuthFailed("there is no key for RunPod", KEY_ADVICE)
        return key.strip()

    async def call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        urgency: Urgency = Urgency.LOOK,
        body: Json | None = None,
        params: dict[str, str] | None = None,
        translate: Translate | None = None,
        before: Callable[[], None] | None = None,
    ) -> Json:
        """Call, and return the JSON of the answer; {} where it has no body.

        Raises:
            Unavailable: No answer, or none that can be read: the call may have had its effect.
            NebulousError: What `translate` makes of a refusal; else as `runpod_errors` has it. What `before`, called
                when it may go, raises.
        """
        head = {"Authorization": f"Bearer {self.key}"}
        async with self.pace.turn(urgency):
            if before:
                before()
            try:
                reply = await self._client.request(method, path, json=body, params=params, headers=head)
            except httpx.HTTPError as error:
                raise Unavailable(f"RunPod does not answer ({what}): {error or type(error).__name__}") from error
        self.pace.learn(reply.status_code, reply.headers)
        if not reply.is_success:
            if translate:
                raise translate(reply.status_code, reply.content, reply.headers)
            raise refusal(reply.status_code, reply.content, reply.headers, what)
        try:
            return reply.json() if reply.content else {}
        except ValueError as error:
            raise Unavailable(f"RunPod's answer is no JSON ({what})") from error

    @asynccontextmanager
    async def stream(self, path: str, what: str, params: dict[str, str], since: str) -> AsyncGenerator[httpx.Response]:
        """Open a stream of events, after the one with this id.

        Raises:
            NebulousError: As `call` does; errors of the stream itself are httpx's.
        """
        head = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
        head |= {"Last-Event-ID": since} if since else {}
        timeout = httpx.Timeout(SILENT_S, connect=CONNECT_S)
        async with self.pace.turn(Urgency.LOOK):
            pass
        async with self._client.stream("GET", path, params=params, headers=head, timeout=timeout) as reply:
            self.pace.learn(reply.status_code, reply.headers)
            if not reply.is_success:
                raise refusal(reply.status_code, await reply.aread(), reply.headers, what)
            yield reply

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.aclose()


class Shared(Generic[T]):
    """One answer for all who ask at about the same time; it is always asked for after its askers came."""

    def __init__(self, ask: Callable[[], Awaitable[T]], apart_s: float = LISTS_APART_S) -> None:
        """Nothing is asked yet.

        Args:
            ask: Gets it.
            apart_s: Least time between two.
        """
        self._ask = ask
        self._apart_s = apart_s
        self._last = float("-inf")
        self._next: asyncio.Task[T] | None = None
        self._answer: tuple[float, T] | None = None
        self._asking = asyncio.Lock()

    async def get(self) -> T:
        """The next answer: what was changed before this call is in it, as far as the other side knows it itself."""
        if self._next is None:
            self._next = asyncio.create_task(self._get())
        return await asyncio.shield(self._next)  # one asker who leaves takes it from nobody

    async def recent(self) -> T:
        """The last answer, if the next one would have to wait for it; for who need not see what just changed."""
        if self._answer and asyncio.get_running_loop().time() - self._answer[0] < self._apart_s:
            return self._answer[1]
        return await self.get()

    async def _get(self) -> T:
        loop = asyncio.get_running_loop()
        async with self._asking:
            await asyncio.sleep(max(0.0, self._last + self._apart_s - loop.time()))
            self._next, self._last = None, loop.time()  # who comes from here on is too late for this one
            begun, answer = self._last, await self._ask()
            self._answer = (begun, answer)
            return answer

    async def close(self) -> None:
        """Ask no more."""
        if self._next:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
