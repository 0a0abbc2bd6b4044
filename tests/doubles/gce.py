"""A double of Google Compute Engine: the API over HTTP, held to Google's own description of it, with scripted faults.

Requests and replies are checked against the discovery document; whatever does not fit stands in `wrong`, which a test
looks at in the end. With `Guests` every machine is a real one that runs its startup script.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.doubles import gce_methods, gce_schema
from tests.doubles.gce_account import ServiceAccount
from tests.doubles.gce_methods import Refused
from tests.doubles.gce_world import Json, World

if TYPE_CHECKING:
    from tests.doubles.guests import Guests

PROJECT = "a-project"


@dataclass
class Fault:
    """What goes wrong with the next calls of a method ("*": of any), after `skip` of them went well."""

    method: str = "*"
    status: int | None = 503  # None: the connection breaks off
    reason: str = "backendError"
    message: str = "Backend Error"
    skip: int = 0
    times: int = 1
    after: bool = False  # the request takes effect all the same
    headers: dict[str, str] = field(default_factory=dict[str, str])
    told: Callable[[], object] = lambda: None  # called when it strikes
    struck: list[str] = field(default_factory=list[str])  # methods


@dataclass(frozen=True)
class Call:
    method: str
    where: dict[str, str]
    query: dict[str, str]
    body: Any
    status: int | None


class Gce:
    """The cloud; `with Gce() as cloud`."""

    def __init__(self, guests: Guests | None = None) -> None:
        self.world = World(PROJECT, guests)
        self.account = ServiceAccount(PROJECT)
        self.calls: list[Call] = []
        self.wrong: list[str] = []
        self.faults: list[Fault] = []
        self.granted: set[str] | None = None  # None: everything
        self.hidden_looks = 0  # how often a new machine is not found yet
        self.silent_zones: set[str] = set()
        self.page = 500
        self.quotas: list[Json] = [{"metric": "NVIDIA_L4_GPUS", "limit": 8.0, "usage": 3.0}]
        self.looks: dict[str, int] = {}
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Gce:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def key(self, folder: Path) -> Path:
        return self.account.write_key(folder / "key.json", self.url)

    def fail(self, *faults: Fault) -> None:
        self.faults += faults

    @property
    def inventory(self) -> list[str]:
        """Names of the machines that are there now, whatever lists show."""
        with self.lock:
            self.world.advance()
            return [name for _, name in self.world.machines]

    def called(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    @contextmanager
    def changing(self) -> Iterator[World]:
        with self.lock:
            yield self.world

    # --- answering ------------------------------------------------------------------------------------

    def answer(self, verb: str, target: str, body: bytes, authorization: str) -> tuple[int | None, Any, dict[str, str]]:
        url = urlsplit(target)
        if url.path == "/token":
            return *self.account.exchange(parse_qs(body.decode())["assertion"][0]), {}
        with self.lock:
            self.world.advance()
            name, where = self._resolved(verb, url.path)
            query = dict(parse_qsl(url.query))
            sent = json.loads(body) if body else None
            status, reply, headers = self._served(name, where, query, sent, authorization)
            self.calls.append(Call(name, where, query, sent, status))
            return status, reply, headers

    def _resolved(self, verb: str, path: str) -> tuple[str, dict[str, str]]:
        if match := re.fullmatch(r"/v3/projects/([^/]+):testIamPermissions", path):
            return "testIamPermissions", {"project": match[1]}
        found = gce_schema.resolve(verb, path.removeprefix(gce_schema.BASE))
        return (found[0].name, found[1]) if found else (f"{verb} {path}", {})

    def _served(
        self, name: str, where: dict[str, str], query: dict[str, str], sent: Any, authorization: str
    ) -> tuple[int | None, Any, dict[str, str]]:
        fault = self._fault(name)
        if fault and not fault.after:
            return fault.status, _error(fault.status or 0, fault.reason, fault.message), fault.headers
        try:
            self._let_in(name, where, authorization)
            status, reply = 200, self._done(name, where, query, sent)
        except Refused as refused:
            status, reply = refused.status, _error(refused.status, refused.reason, refused.message)
        if fault:
            return fault.status, _error(fault.status or 0, fault.reason, fault.message), fault.headers
        return status, reply, {}

    def _fault(self, name: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method in ("*", name):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.struck.append(name)
                fault.told()
                return fault
        return None

    def _let_in(self, name: str, where: dict[str, str], authorization: str) -> None:
        if not self.account.knows(authorization):
            raise Refused(401, "authError", "Invalid Credentials")
        needed = gce_methods.PERMISSIONS.get(name)
        if needed and self.granted is not None and needed not in self.granted:
            place = "/".join(f"{key}s/{value}" for key, value in where.items())
            raise Refused(403, "forbidden", f"Required '{needed}' permission for '{place}'")

    def _done(self, name: str, where: dict[str, str], query: dict[str, str], sent: Any) -> Any:
        if name == "testIamPermissions":
            asked = cast("list[str]", sent["permissions"])
            return {"permissions": [each for each in asked if self.granted is None or each in self.granted]}
        method = next((each for each in gce_schema.methods() if each.name == name), None)
        serve = gce_methods.METHODS.get(name)
        if method is None or serve is None:
            self.wrong.append(f"{name} is not served")
            raise Refused(404, "notFound", "Not Found")
        problems = [f"{name}: no parameter {each}" for each in query if each not in method.parameters]
        if method.request:
            problems += gce_schema.faults(method.request, sent)
        if problems:
            self.wrong += problems
            raise Refused(400, "invalid", problems[0])
        reply = serve(self, where, query, sent)
        self.wrong += gce_schema.faults(method.response, reply)
        return reply


def _error(status: int, reason: str, message: str) -> Json:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return {"error": {"code": status, "message": message, "errors": errors}}


def _handler(cloud: Gce) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, reply, headers = cloud.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            if status is None:
                self.close_connection = True
                return
            content = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

        def date_time_string(self, timestamp: float | None = None) -> str:
            import time

            return super().date_time_string((timestamp or time.time()) + cloud.account.clock_s)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
