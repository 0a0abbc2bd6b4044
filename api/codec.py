"""Payloads for people: what Temporal's UI and CLI ask to show clear text, as its codec server protocol says.

`POST /codec/decode` and `/codec/encode` take `{"payloads": […]}` and answer the same. Who may is the server's admin,
because this opens everything; from a browser, only pages of the UI that `NEBU_UI_ORIGIN` names (`codec_login.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from google.protobuf.json_format import MessageToDict, Parse, ParseError
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from temporalio.api.common.v1 import Payloads

from api.bodies import SLOWEST_BODY_S
from api.codec_login import PayloadReader
from api.problems import BadRequest, TooLarge
from nebulous import codec
from nebulous.settings import Settings

LARGEST = 8 * 1024 * 1024  # bytes; a single payload has at most 2 MB, and the UI asks for several at once
PREFIX = "/codec/"
ASKED_WITH = ("authorization", "authorization-extras", "content-type", "x-namespace")


def router(settings: Settings) -> APIRouter:
    """POST /codec/decode and /codec/encode."""
    routes = APIRouter(prefix=PREFIX.rstrip("/"), tags=["server"])
    encryption = codec.Encryption(codec.encryption_keys(settings))

    @routes.post("/decode", name="decrypt payloads")
    async def decode(_: PayloadReader, request: Request) -> dict[str, Any]:
        """Show what Temporal holds encrypted."""
        return _shown(await encryption.decode(await _payloads(request)))

    @routes.post("/encode", name="encrypt payloads")
    async def encode(_: PayloadReader, request: Request) -> dict[str, Any]:
        """Encrypt what somebody wants to send to a workflow."""
        return _shown(await encryption.encode(await _payloads(request)))

    return routes


def let_in(app: FastAPI, origin: str | None) -> None:
    """Allow pages of the Temporal UI to ask for this, and for nothing else."""
    if origin:
        app.add_middleware(ForUi, origin=origin.rstrip("/"))


class ForUi:
    """CORS for the codec alone: all other routes stay closed to other sites."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app, allow_origins=[origin], allow_methods=["POST"], allow_headers=ASKED_WITH, allow_credentials=True
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._open if ours else self._app)(scope, receive, send)


async def _payloads(request: Request) -> list[Any]:
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST:
                    raise TooLarge(f"these payloads have more than {LARGEST} bytes", "ask for fewer at once")
    except TimeoutError as error:
        raise BadRequest(f"the payloads did not come within {SLOWEST_BODY_S:g} s", "send them again") from error
    try:
        return list(Parse(bytes(body), Payloads()).payloads)
    except (ParseError, UnicodeDecodeError) as error:
        raise BadRequest(f"these are no payloads: {error}", 'send {"payloads": […]}, as JSON') from error


def _shown(payloads: list[Any]) -> dict[str, Any]:
    return MessageToDict(Payloads(payloads=payloads))
