"""A websocket client that calls an ASGI application in its own event loop, without a port."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Knock:
    """What came of opening a websocket: JSON frames, and how it was closed."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    code: int | None = None
    reason: str = ""


async def knock(app: Any, path: str, query: str = "", headers: dict[str, str] | None = None) -> Knock:
    """Open a websocket, listen until the application is done with it, say nothing."""
    came = Knock()
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            came.frames.append(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            came.code, came.reason = message.get("code", 1000), message.get("reason") or ""

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "subprotocols": [],
        "state": {},
        "app": app,
    }
    await app(scope, incoming.get, send)
    return came
