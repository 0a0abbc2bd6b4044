"""WS …/exec: a further command in a container, with input, output, a terminal's size and the exit code.

Binary frames begin with a channel: 0 input, 1 output, 2 errors. Text frames are JSON. From the client:
`{"resize": {"rows", "cols"}}` and `{"eof": true}`. To the client: `{"taken": bytes}`, how much of its input has gone on
so far, so that it need not send more than `AHEAD_BYTES` beyond that (what stands in the way of its own pings and of
our output); `{"exit": code}` at the end, or `{"error": {"type", "message", "hint"}}`, and then the connection closes:
1000, or 4000 and the HTTP status.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, WebSocket, WebSocketDisconnect

from api.auth import Access, Reader
from api.containers import KIND
from api.output import View, view_of
from api.problems import BadRequest
from api.resources import Target, locators
from api.services import Services, Uses
from nebulous import ids
from nebulous.errors import Conflict, RateLimited, Rejected
from nebulous.models.containers import FINAL, Status
from nebulous.sessions import Session, SessionRequest
from nebulous.tasks import end

AHEAD_BYTES = 256 * 1024
HELD_BYTES = 4 * AHEAD_BYTES  # of a client that does not wait for `taken`; then it is not read any more
FRAME_COST = 100  # bytes that an empty frame counts
EXECUTIONS_AT_ONCE = 500  # through one API process; each holds connections to Redis
INPUT = 0
RUNS = frozenset({Status.RUNNING, Status.STOPPING})
LONGEST_SIDE = 10_000  # rows or columns
LONGEST_COMMAND = 64 * 1024  # characters


class Wanted:
    """What to run."""

    def __init__(
        self,
        command: Annotated[list[str] | None, Query(description="Program, then each argument: repeat it.")] = None,
        tty: Annotated[bool, Query(description="Give it a terminal; then stderr is not apart.")] = False,
        rows: Annotated[int, Query(ge=1, le=LONGEST_SIDE)] = 24,
        cols: Annotated[int, Query(ge=1, le=LONGEST_SIDE)] = 80,
    ) -> None:
        self.argv = command or []
        self.terminal = (rows, cols) if tty else None

    def request(self, key: str) -> SessionRequest:
        """The request to the worker.

        Raises:
            Rejected: There is no command, or it cannot be one.
        """
        if not self.argv or not self.argv[0]:
            raise Rejected("there is no command", "send ?command=PROGRAM&command=ARGUMENT…")
        if any("\0" in word for word in self.argv) or sum(map(len, self.argv)) > LONGEST_COMMAND:
            raise Rejected("the command has a NUL character, or is too long", "put long input on stdin")
        return SessionRequest(kind="exec", key=key, argv=self.argv, terminal=self.terminal)


def router() -> APIRouter:
    """Executions by name and by id."""
    routes = APIRouter(prefix=f"/v1/{KIND.plural}", tags=[KIND.plural])
    by_id, by_name = locators(KIND)
    for path, locate in (("/{id}/exec", by_id), ("/{namespace}/{name}/exec", by_name)):
        _add(routes, path, locate)
    return routes


def _add(routes: APIRouter, path: str, locate: Any) -> None:  # noqa: ANN401 - a dependency
    @routes.websocket(path, name="exec")
    async def execute(
        socket: WebSocket,
        uses: Uses,
        access: Reader,
        target: Annotated[Target, Depends(locate)],
        wanted: Annotated[Wanted, Depends()],
    ) -> None:
        view = running(access, target)
        request = wanted.request(str(view.rental))
        async with _counted(uses):
            await socket.accept()
            session = Session(uses.redis, ids.platform_queue(view.account), request)
            async with session:
                code = await Conversation(socket, session).run()
            if code is not None:
                with suppress(WebSocketDisconnect):
                    await socket.send_json({"exit": code})
                    await socket.close()


def running(access: Access, target: Target) -> View:
    """Where the container's command runs.

    Raises:
        Forbidden: The caller only reads. Conflict: it does not run; with what to do.
    """
    access.require(target.address.organization, "member")
    name, namespace = target.row.metadata.name, target.row.metadata.namespace
    view = view_of(target.row)
    status = str(view.status.get("status") or Status.DEFINED)
    if status in FINAL:
        raise Conflict(
            f"container {name!r} is {status}: nothing runs in it any more",
            f"run it again: nebu start {name} -n {namespace}",
        )
    if status not in RUNS or not view.rental:
        raise Conflict(
            f"container {name!r} does not run yet: it is {status}",
            f"wait for it: nebu wait {name} -n {namespace} --for running",
        )
    return view


@asynccontextmanager
async def _counted(uses: Services) -> AsyncGenerator[None]:
    if len(uses.executions) >= EXECUTIONS_AT_ONCE:
        raise RateLimited(f"{EXECUTIONS_AT_ONCE} commands are being executed through this API", "try again")
    mine = object()
    uses.executions.add(mine)
    try:
        yield
    finally:
        uses.executions.discard(mine)


class Conversation:
    """One client, one session. The socket is always read, so that pings are answered and a close is noticed."""

    def __init__(self, socket: WebSocket, session: Session) -> None:
        self._socket = socket
        self._session = session
        self._said: asyncio.Queue[bytes | dict[str, Any]] = asyncio.Queue()
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()
        self._taken = 0

    async def run(self) -> int | None:
        """Carry everything until one side ends; the exit code, or None when the client has left.

        Raises:
            NebulousError: The worker went away, or the client says what nobody understands.
        """
        tasks = [asyncio.create_task(part) for part in (self._speak(), self._forward(), self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(task for task in reversed(tasks) if task in done)
            return await ended
        except WebSocketDisconnect:
            return None
        finally:
            await end(*tasks)

    async def _speak(self) -> int | None:
        """Read what the client says; ends when it leaves."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            data = message.get("bytes")
            said = data if data is not None else _parsed(message.get("text") or "")
            self._held += len(data or b"") + FRAME_COST
            if self._held > HELD_BYTES:
                self._room.clear()
            self._said.put_nowait(said)
            await self._room.wait()

    async def _forward(self) -> int | None:
        """Pass it on, at the command's pace."""
        while True:
            said = await self._said.get()
            if isinstance(said, dict):
                await self._obey(said)
            elif said[:1] == bytes([INPUT]):
                await self._session.send(said[1:])
                self._taken += len(said) - 1
                await self._socket.send_json({"taken": self._taken})
            else:
                raise BadRequest(f"there is no channel {said[:1]!r} to write to", "input is channel 0")
            self._held -= FRAME_COST + (0 if isinstance(said, dict) else len(said))
            if self._held <= HELD_BYTES:
                self._room.set()

    async def _obey(self, said: dict[str, Any]) -> None:
        match said:
            case {"eof": True}:
                await self._session.end_input()
            case {"resize": {"rows": int(rows), "cols": int(cols)}} if _sane(rows) and _sane(cols):
                await self._session.resize(rows, cols)
            case _:
                raise BadRequest(f"not understood: {json.dumps(said)[:200]}", 'send {"resize": …} or {"eof": true}')

    async def _listen(self) -> int | None:
        """Pass the output on, at the client's pace."""
        async for chunk in self._session.chunks():
            if chunk.data:
                await self._socket.send_bytes(bytes([chunk.channel]) + chunk.data)
        return self._session.exit_code or 0


def _sane(side: int) -> bool:
    return 1 <= side <= LONGEST_SIDE


def _parsed(text: str) -> dict[str, Any]:
    try:
        said: Any = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise BadRequest(f"not understood: {text[:200]!r}", "text frames are JSON objects; input goes in binary ones")
    return cast("dict[str, Any]", said)
