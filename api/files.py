"""GET and PUT …/files?path=: copies files out of and into a container as a tar stream, never whole in memory."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect

from api.auth import Access, Reader
from api.containers import KIND
from api.output import View, view_of
from api.problems import BadRequest
from api.resources import Target, locators
from api.services import Services, Uses
from nebulous import ids
from nebulous.errors import Conflict, NebulousError, Rejected
from nebulous.sessions import Session, SessionRequest
from nebulous.tasks import end

TAR = "application/x-tar"
LONGEST_PATH = 4096
DRAIN_S = 10.0  # a client that still sends reads no answer; so long the rest is thrown away

Path = Annotated[str, Query(description="In the container; one that is not absolute begins where the command does.")]
Stat = Annotated[bool, Query(description="Only tell what is there, as JSON.")]


def router() -> APIRouter:
    """Files by the container's name and by its id."""
    routes = APIRouter(prefix=f"/v1/{KIND.plural}", tags=[KIND.plural])
    by_id, by_name = locators(KIND)
    for path, locate in (("/{id}/files", by_id), ("/{namespace}/{name}/files", by_name)):
        _add(routes, path, locate)
    return routes


def _add(routes: APIRouter, route: str, locate: Any) -> None:  # noqa: ANN401 - a dependency
    @routes.get(route, name="read files", response_class=Response)
    async def read(
        uses: Uses, access: Reader, target: Annotated[Target, Depends(locate)], path: Path = "", stat: Stat = False
    ) -> Response:
        """A tar archive of what is at the path; its first entry has the path's last name."""
        view = with_machine(access, target)
        if stat:
            return JSONResponse(json.loads(await _all(_pieces(uses, view, _request("stat", view, path)))))
        pieces = _pieces(uses, view, _request("read", view, path))
        first = await anext(pieces, b"")  # what fails, fails before the reply begins
        return StreamingResponse(_body(first, pieces), media_type=TAR)

    @routes.put(route, name="write files")
    async def write(
        request: Request,
        uses: Uses,
        access: Reader,
        target: Annotated[Target, Depends(locate)],
        path: Path = "",
    ) -> dict[str, Any]:
        """Unpack the body, a tar archive, in the folder at the path; nothing is written outside of it."""
        view = with_machine(access, target)
        async with Session(uses.redis, _queue(view), _request("write", view, path)) as session:
            received = await _upload(request, session)
        return {"path": path, "received_bytes": received}


def with_machine(access: Access, target: Target) -> View:
    """Where the container's files are.

    Raises:
        Forbidden: The caller only reads. Conflict: there is no machine (any more).
    """
    access.require(target.address.organization, "member")
    view = view_of(target.row)
    if not view.rental:
        name, status = target.row.metadata.name, view.status.get("status")
        raise Conflict(f"container {name!r} is {status}: it has no machine, and so no files", "start it first")
    return view


def _request(kind: Literal["stat", "read", "write"], view: View, path: str) -> SessionRequest:
    if not path or "\0" in path or len(path) > LONGEST_PATH:
        raise Rejected(f"{path[:60]!r} is no path", "send ?path=/where/it/is")
    return SessionRequest(kind=kind, key=str(view.rental), path=path)


def _queue(view: View) -> str:
    return ids.platform_queue(view.account)


async def _pieces(uses: Services, view: View, request: SessionRequest) -> AsyncGenerator[bytes]:
    async with Session(uses.redis, _queue(view), request) as session:
        async for chunk in session.chunks():
            if chunk.data:
                yield chunk.data


async def _all(pieces: AsyncGenerator[bytes]) -> bytes:
    async with contextlib.aclosing(pieces):
        return b"".join([piece async for piece in pieces])


async def _body(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _upload(request: Request, session: Session) -> int:
    """Send the body on, and wait until the worker has taken it all.

    Raises:
        NebulousError: It refused, at whatever point.
    """
    sending = asyncio.create_task(_send(request, session))
    answered = asyncio.create_task(_answered(session))
    try:
        await asyncio.wait({sending, answered}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
        await answered
        async with asyncio.timeout(DRAIN_S):
            return await sending  # the worker's answer may overtake the end of our own sending
    except TimeoutError as error:
        raise BadRequest("the body goes on behind the end of the archive") from error
    except NebulousError:
        await end(sending)
        await _drain(request)
        raise
    finally:
        await end(sending, answered)


async def _send(request: Request, session: Session) -> int:
    received = 0
    try:
        async for piece in request.stream():
            if piece:
                await session.send(piece)
                received += len(piece)
    except ClientDisconnect as error:
        raise BadRequest("the archive broke off") from error
    await session.end_input()
    return received


async def _answered(session: Session) -> None:
    async for _ in session.chunks():
        pass


async def _drain(request: Request) -> None:
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it was read to its end
        async with asyncio.timeout(DRAIN_S):
            async for _ in request.stream():
                pass
