"""`nebu api`: the REST API by itself, against the Temporal and Redis that the settings name."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.patience import BoundedProtocol
from api.services import Services
from nebulous import codec, seal, temporal, tokens
from nebulous.errors import NebulousError, Rejected, Unavailable
from nebulous.settings import Settings

KEEP_ALIVE_S = 30
GRACE_S = 2  # followed logs are cut after this; clients come back to where they were
BACKLOG = 1024
LARGEST_HEADERS = 256 * 1024  # bytes; an executed command travels in the query
LARGEST_FRAME = 1024 * 1024  # bytes, of a websocket
PING_S = 20  # keeps proxies awake
#: Seconds of silence, between two probes, and how many of these go unanswered. A client that does not take our
#: output answers no ping either, and must not be cut off for it: whether it is there, its kernel says.
PROBES = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class PortTaken(NebulousError):
    """Something else listens there."""


def command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default NEBU_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes any free one; default NEBU_PORT.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written (JSON: api) once it listens.")] = None,
) -> None:
    """Serve the REST API until SIGTERM, against NEBU_TEMPORAL_ADDRESS and NEBU_REDIS_URL."""
    settings = _settings({"host": host, "port": port})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    listener = bind(settings.host, settings.port)
    url = address_of(listener)
    if ready_file:
        draft = ready_file.with_name(f".{ready_file.name}.draft")
        draft.write_text(json.dumps({"api": url}))
        draft.replace(ready_file)
    typer.echo(f"API on {url}")
    serving = server(settings)
    with suppress(KeyboardInterrupt):  # uvicorn raises again, once it is done, what it was told to stop by
        serving.run(sockets=[listener])
    if not serving.started:
        raise Unavailable("the API did not start", "its log says why")
    temporal.leave(0)


def _without_commands(record: logging.LogRecord) -> bool:
    """Keep out uvicorn's line for every websocket: it shows the query, and with it what is executed."""
    return "WebSocket %s" not in str(record.msg)


def _settings(given: dict[str, Any]) -> Settings:
    """The settings, with the keys that they name in order.

    Raises:
        Rejected: A setting cannot be used; the message names it.
    """
    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})
        tokens.signing_key(settings)
        seal.secret_key(settings)
        codec.encryption_keys(settings)
    except (ValueError, OSError) as error:  # pydantic's ValidationError is a ValueError
        raise Rejected(f"the settings cannot be used: {error}", "see docs/settings.md") from error
    return settings


def server(settings: Settings) -> uvicorn.Server:
    """The HTTP server of the whole application."""
    return Server(configured(create_app(settings), settings))


def configured(app: FastAPI, settings: Settings, lifespan: Literal["on", "off"] = "on") -> uvicorn.Config:
    """How an application is served: with limits that hold back a flood and never a normal client."""
    logging.getLogger("uvicorn.error").addFilter(_without_commands)
    os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", str(LARGEST_HEADERS))  # read when uvicorn imports it
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.log_level.upper() == "DEBUG",
        lifespan=lifespan,
        loop="asyncio",  # whatever else a library of some platform brings along
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=LARGEST_HEADERS,
        server_header=False,
        http=BoundedProtocol,
        ws="websockets-sansio",
        ws_max_size=LARGEST_FRAME,
        ws_ping_interval=PING_S,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
    )


class Server(uvicorn.Server):
    """One that ends watches as soon as it is told to stop, so that nobody's watch holds it up."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        app: Any = self.config.app
        services: Services | None = getattr(app.state, "services", None)
        if services:
            services.changes.close()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Listen, or say in words why that cannot be.

    Raises:
        PortTaken: Another program has the port. Rejected: the address is not this machine's, or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES.items():
            if hasattr(socket, option):  # macOS has other names for some
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} on {host} is taken by another program",
                "stop it, or choose another port: --port 3001 (NEBU_PORT; 0 takes any free one)",
            ) from error
        raise Rejected(f"cannot listen on {host}:{port}: {error}", "set NEBU_HOST and NEBU_PORT") from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL under which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
    return f"http://{loopback.get(host) or (f'[{host}]' if ':' in host else host)}:{port}"
