"""Errors as readers of the API meet them: one table, one shape, `{"error": {"type", "message", "hint"}}`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState
from temporalio.client import (
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from nebulous.errors import (
    AuthFailed,
    Conflict,
    Forbidden,
    NebulousError,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from nebulous.models.base import InvalidDocument

log = logging.getLogger(__name__)


class BadRequest(NebulousError):
    """The request itself cannot be read."""


class TooLarge(NebulousError):
    """The request has more bytes than anything of its kind may have."""


class NeedsNewLife(Conflict):
    """What was asked for cannot change in place; `changes` says what differs, and which of it that is."""

    def __init__(self, message: str, hint: str | None, changes: list[dict[str, Any]]) -> None:
        super().__init__(message, hint)
        self.changes = changes

    @property
    def type(self) -> str:
        """For the wire this is a conflict like any other."""
        return "Conflict"


class UnsupportedMediaType(NebulousError):
    """The body is not in a format that we read."""


#: From the most to the least special.
STATUS: dict[type[NebulousError], int] = {
    BadRequest: 400,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Rejected: 422,
    RateLimited: 429,
    QuotaExceeded: 429,
    AuthFailed: 503,  # the server's own credential, never the caller's
    Unavailable: 503,
    NebulousError: 503,
}

CLOSE = 4000  # a websocket closes with this and the HTTP status: the range that is free for applications
LONGEST_REASON = 123  # bytes: RFC 6455, 5.5
NO_WORKER = "start one: `nebu worker`, or `nebu serve` for everything"


def status_of(error: NebulousError) -> int:
    """The HTTP status of an error: that of its nearest ancestor in the table."""
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def body_of(error: NebulousError) -> dict[str, Any]:
    """The reply that says it."""
    about: dict[str, Any] = {"type": error.type, "message": error.message, "hint": error.hint}
    if isinstance(error, InvalidDocument):
        about["problems"] = [{"path": list(each.path), "message": each.message} for each in error.problems]
    if isinstance(error, NeedsNewLife):
        about["changes"] = error.changes
    return {"error": about}


def reply(error: NebulousError) -> JSONResponse:
    """An error as a response."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after or 1)))
    return JSONResponse(body_of(error), status_of(error), headers)


@contextmanager
def translated(what: str) -> Generator[None]:
    """Turn what Temporal's client raises into our errors; `what` names the thing that was looked for.

    Raises:
        NotFound, BadRequest, Unavailable: As Temporal says, with what to do.
    """
    try:
        yield
    except RPCError as error:
        raise _of_rpc(error, what) from error
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        raise Unavailable(f"no worker answered for {what} in time", NO_WORKER) from error
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError, WorkflowUpdateFailedError) as error:
        raise Unavailable(f"{what} could not answer: {error}", "see it in the Temporal UI") from error
    except RuntimeError as error:  # a lazy client that cannot connect says so with this, and nothing finer
        if "connect" not in str(error):
            raise
        raise Unavailable("Temporal does not answer", "start `nebu serve`, or check NEBU_TEMPORAL_ADDRESS") from error


def _of_rpc(error: RPCError, what: str) -> NebulousError:
    match error.status:
        case RPCStatusCode.NOT_FOUND:
            return NotFound(f"{what} does not exist")
        case RPCStatusCode.INVALID_ARGUMENT:
            return BadRequest(f"Temporal refuses this: {error.message}")
        case RPCStatusCode.RESOURCE_EXHAUSTED:
            return Unavailable("Temporal asks for a pause", "try again", retry_after=1)
        case RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED:
            return Unavailable(f"no answer about {what} in time", NO_WORKER)
        case _:
            return Unavailable(
                f"Temporal does not answer ({error.status.name}: {error.message})",
                "start `nebu serve`, or check NEBU_TEMPORAL_ADDRESS",
            )


async def _on_error(connection: HTTPConnection, error: Exception) -> Any:  # noqa: ANN401 - a websocket gets no reply
    assert isinstance(error, NebulousError)
    if isinstance(connection, WebSocket):
        return await refuse(connection, error)
    return reply(error)


async def refuse(socket: WebSocket, error: NebulousError) -> None:
    """Say an error on a websocket, which only an accepted one can carry, and close it: 4000 and the HTTP status."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # whoever asked has left
        if socket.application_state is WebSocketState.CONNECTING:
            await socket.accept()
        await socket.send_json(body_of(error))
        await socket.close(CLOSE + status_of(error), _reason(error.message))


def _reason(words: str) -> str:
    """As much as a close frame takes."""
    return words.encode()[:LONGEST_REASON].decode(errors="ignore")


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Unknown routes and methods, which the router answers by itself."""
    assert isinstance(error, HTTPException)
    name = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "BadRequest")
    message = f"there is no {request.method} {request.url.path}"
    body = {"error": {"type": name, "message": message, "hint": "GET /docs lists the routes"}}
    return JSONResponse(body, error.status_code, error.headers)


async def _on_invalid_parameters(connection: HTTPConnection, error: Exception) -> Any:  # noqa: ANN401 - a websocket gets no reply
    """A query parameter or path of the wrong type."""
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    if isinstance(connection, WebSocket):
        said = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return await refuse(connection, Rejected(said, "see docs/guide.md"))
    problems = [{"path": list(each["loc"]), "message": each["msg"]} for each in error.errors()]
    message = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    return JSONResponse(
        {"error": {"type": "Rejected", "message": message, "hint": "see GET /docs", "problems": problems}},
        422,
    )


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    """Ours, not the client's; Starlette raises it again behind this reply, so the log has the traceback."""
    log.error("defect in %s %s: %r", request.method, request.url.path, error)
    message = "the server has a defect; nothing that you sent should cause this"
    return JSONResponse({"error": {"type": "Defect", "message": message, "hint": "its log says more"}}, 500)


def install(app: FastAPI) -> None:
    """Make every error of this application leave in one shape."""
    app.add_exception_handler(NebulousError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(WebSocketRequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(Exception, _on_defect)
