"""An HTTP server that says what a test tells it to, in the shapes of the REST API, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What to answer; `cut` breaks the connection in the middle of a body that promised more."""

    status: int = 200
    body: Any = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def refusal(status: int, type_: str, message: str, hint: str | None = None, **more: Any) -> Reply:
    return Reply(status, {"error": {"type": type_, "message": message, "hint": hint, **more}})


def hang_up() -> Reply:
    """The connection ends without a word."""
    return Reply(0)


def events(*parts: tuple[int | None, str, Any] | str, cut: bool = False) -> Reply:
    """Server-sent events: (id, event, data) or a comment."""
    text = "".join(
        f": {part}\n\n"
        if isinstance(part, str)
        else (f"id: {part[0]}\n" if part[0] is not None else "") + f"event: {part[1]}\ndata: {json.dumps(part[2])}\n\n"
        for part in parts
    )
    return Reply(200, text.encode(), [("Content-Type", "text/event-stream")], cut)


class Server:
    """Answers each route with its replies in turn; the last one stays. What was not told is 404."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self._replies: dict[tuple[str, str], list[Reply | Callable[[Asked], Reply]]] = defaultdict(list)

    def on(self, method: str, path: str, *replies: Any) -> None:
        """Answer with these; what is no Reply is the JSON of a 200."""
        made = [reply if isinstance(reply, Reply) or callable(reply) else Reply(200, reply) for reply in replies]
        self._replies[(method, path)] = made

    def requests(self, method: str, path: str | None = None) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method and path in (None, asked.path)]

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        replies = self._replies[(asked.method, asked.path)]
        if not replies:
            return refusal(404, "NotFound", f"{asked.path.rpartition('/')[2]} does not exist")
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply(asked) if callable(reply) else reply


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        sent = self._body()
        body = json.loads(sent) if sent and "json" in self.headers.get("Content-Type", "") else sent or None
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.double.answer(Asked(self.command, parts.path, parse_qs(parts.query), headers, body))
        if not reply.status:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers or [("Content-Type", "application/json")]:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.raw) + reply.cut))
        self.end_headers()
        self.wfile.write(reply.raw)
        self.close_connection = reply.cut

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_DELETE = do_PUT = _serve  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def rest_server() -> Iterator[Server]:
    """A server on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        handler.double = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield handler.double
        finally:
            http.shutdown()
            thread.join()


NOW = 1_800_000_000


def container(name: str = "foo", namespace: str = "default", status: str = "running", **more: Any) -> dict[str, Any]:
    """A container as the API shows it; `status_` fields by `more`, spec fields by `spec`."""
    spec = more.pop("spec", {})
    life = more.pop("id", f"id{name:x<10}"[:12])
    labels, owner_ref = more.pop("labels", None), more.pop("owner_ref", None)
    fields = {
        "image": "",
        "command": "echo hello",
        "platform": "",
        "env_vars": None,
        "volumes": None,
        "accelerators": None,
        "resources": None,
        "queue": None,
        "restart": "Never",
        "timeout": None,
        **spec,
    }
    return {
        "kind": "Container",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "owner": "local",
            "owner_id": "local",
            "id": life,
            "labels": labels,
            "owner_ref": owner_ref,
            "resource_version": "1",
            "created_by": "admin",
            "created_at": NOW - 90,
            "updated_at": NOW - 90,
        },
        **fields,
        "env": fields["env_vars"],
        "argv": None,
        "status": {
            "status": status,
            "reason": "",
            "message": "",
            "platform": "local",
            "account": "local:1a2b3c4d",
            "region": "",
            "instance_type": "",
            "instance_id": None,
            "simulated": False,
            "accelerator": None,
            "cost_per_hr": None,
            "price_source": "",
            "ready": False,
            "ip": None,
            "exit_code": None,
            "attempt": 1,
            "restarts": 0,
            "recoveries": 0,
            "started_at": None,
            "finished_at": None,
            "next_try_at": None,
            "conditions": [],
            "public_ports": None,
            "tailnet_url": None,
            **more,
        },
    }
