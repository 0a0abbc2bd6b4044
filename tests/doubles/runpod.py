"""A RunPod of our own: REST v2 over HTTP, as our own description (`runpod_contract.py`) has it, on real containers.

Requests that the description does not allow are 422, and replies that it does not allow fail the test. Faults are put
before any call; lists may lag; every call is remembered, with what was paid.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.doubles import runpod_contract
from tests.doubles.runpod_catalog import CPUS, GPUS, rows
from tests.doubles.runpod_pods import Containers, FakePod, socket_in

NO_ROOM = "There are no longer any instances available with the requested specifications. Please refresh and try again."
KEY, USER = "rpa_TEST", "user_2abc"


@dataclass
class Fault:
    """What happens to calls that match; `after` lets the call have its effect and loses the answer."""

    call: str  # "POST /v2/pods", a regular expression
    status: int = 0  # 0: no answer at all
    detail: str = ""
    after: bool = False
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Called:
    """One call as it came."""

    method: str
    path: str
    body: Any
    at: float
    status: int


class RunpodDouble:
    """The cloud; methods are for the test's thread."""

    def __init__(
        self, docker_host: str = "", init_pid: int = 0, boot_s: float = 0.1, host_network: bool = False
    ) -> None:
        self.keys = {KEY: USER}
        self.pods: dict[str, FakePod] = {}
        self.registries: dict[str, dict[str, str]] = {}
        self.registry_bodies: list[dict[str, str]] = []
        self.calls: list[Called] = []
        self.faults: list[Fault] = []
        self.wrong: list[str] = []
        self.gone: list[FakePod] = []
        self.gpus, self.cpus = rows(GPUS), rows(CPUS)
        self.forbidden: set[str] = set()
        self.lag_s = 0.0
        self.boot_s = boot_s
        self.renews_by_itself = True  # upon changed variables
        self.graphql = True
        self.limits = ""
        self.dies_at: tuple[int, bool] | None = None  # after so many further calls; whether the last has its effect
        self.dead = False
        self._counter = 0
        self._docker = (docker_host, init_pid, host_network)
        self.url = ""

    # --- what tests do and ask ------------------------------------------------------------------

    def fail(self, call: str, status: int = 0, detail: str = "", **more: Any) -> None:
        self.faults.append(Fault(call, status, detail, **more))

    def die(self, calls: int, after: bool) -> None:
        """After so many calls nothing is answered any more, until `heal`."""
        self.dies_at, self.dead = (calls, after), False

    def heal(self) -> None:
        self.dies_at, self.dead = None, False
        self.faults.clear()

    def made(self, call: str) -> list[Called]:
        return [called for called in self.calls if re.fullmatch(call, f"{called.method} {called.path}")]

    def of(self, key: str) -> list[FakePod]:
        return [pod for pod in self.pods.values() if pod.body["name"] == key]

    @property
    def spent_usd(self) -> float:
        now = time.time()
        return sum(pod.cost * ((pod.ended or now) - pod.created) / 3600 for pod in [*self.pods.values(), *self.gone])

    def add(self, status: str = "RUNNING", lines: list[str] | None = None, **body: Any) -> FakePod:
        """A pod without a container, as somebody else made it."""
        return self.within(self._add, status, lines or [], body)

    def say(self, pod: FakePod, line: str) -> None:
        self.within(pod.write, line)

    def within(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call in the double's own thread."""

        async def called() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(20)

    def _add(self, status: str, lines: list[str], body: dict[str, Any]) -> FakePod:
        whole = {"name": "other", "image": "busybox", "gpu": {"id": "NVIDIA A40", "count": 1}, **body}
        pod = self._new(whole)
        pod.status, pod.up_since = status, time.time()
        for line in lines:
            pod.write(line)
        return pod

    # --- serving --------------------------------------------------------------------------------

    def __enter__(self) -> RunpodDouble:
        ours = socket.socket()
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        sockets = [ours]
        if self._docker[2]:
            sockets.append(socket_in(self._docker[1], bind=port))
        self.url = f"http://127.0.0.1:{port}"
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(sockets, started)))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        if kind is None:
            assert self.wrong == [], self.wrong

    async def _serve(self, sockets: list[socket.socket], started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._containers = Containers(*self._docker)
        methods = ["GET", "POST", "PATCH", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        config = uvicorn.Config(
            app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[method-assign,attr-defined]
        serving = asyncio.create_task(self._server.serve(sockets))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        started.set()
        await serving
        await self._containers.close(list(self.pods.values()))

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw else None
        method, path = request.method, request.url.path
        fault = self._fault(method, path)
        reply: Response
        if fault and not fault.after:
            reply = _lost() if not fault.status else _problem(fault.status, fault.detail, fault.headers)
        else:
            reply = await self._handle(request, body)
            if fault:
                reply = _lost() if not fault.status else _problem(fault.status, fault.detail, fault.headers)
        if self.limits:
            reply.headers["RateLimit"] = self.limits
        self.calls.append(Called(method, path, body, time.monotonic(), reply.status_code))
        return reply

    def _fault(self, method: str, path: str) -> Fault | None:
        if self.dead:
            return Fault("")
        if self.dies_at:
            left, after = self.dies_at
            self.dies_at, self.dead = (left - 1, after), left <= 1
            if self.dead:
                return Fault("", after=after)
        for fault in self.faults:
            if fault.times and re.fullmatch(fault.call, f"{method} {path}"):
                fault.times -= 1
                return fault
        return None

    async def _handle(self, request: Request, body: Any) -> Response:
        method, path = request.method, request.url.path
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        pods_own = key.removeprefix("podkey-") in self.pods
        if key not in self.keys and not pods_own:
            return self._checked(method, path, "", _problem(401, "invalid or expired API key"))
        if path == "/graphql":
            known = {"data": {"myself": {"id": self.keys[key], "pubKey": "", "networkVolumes": []}}}
            return _json(200, known) if self.graphql else _problem(404, "not found")
        template, names = _template(path)
        if f"{method} {template}" in self.forbidden:
            return self._checked(method, path, template, _problem(403, "access denied"))
        if faults := runpod_contract.wrong_request(method, template, dict(request.query_params), body):
            return self._checked(method, path, template, _problem(422, "Request validation failed.", errors=faults))
        handler = getattr(self, _NAMES.get((method, template), ""), None)
        if handler is None:
            return _problem(405, "The requested method is not allowed for this path.")
        return self._checked(method, path, template, await handler(request, body, *names))

    def _checked(self, method: str, path: str, template: str, reply: Response) -> Response:
        if template and not isinstance(reply, StreamingResponse):
            content = json.loads(bytes(reply.body)) if reply.body else None
            found = runpod_contract.wrong_reply(method, template, reply.status_code, content)
            self.wrong += [f"{method} {path} {reply.status_code}: {each}" for each in found]
        return reply

    # --- calls ----------------------------------------------------------------------------------

    async def list_pods(self, request: Request, body: Any) -> Response:
        known = [pod for pod in self.pods.values() if time.time() - pod.created >= self.lag_s]
        return _json(200, {"pods": [pod.shown() for pod in known]})

    async def create_pod(self, request: Request, body: dict[str, Any]) -> Response:
        if ("gpu" in body) == ("cpu" in body):
            return _problem(400, "exactly one of gpu or cpu is required")
        if len(body.get("env", {})) > 50:
            return _problem(400, "env must be at most 50 variables")
        if body.get("registry") and body["registry"] not in self.registries:
            return _problem(400, "invalid registry")
        if not self._has_room(body):
            return _problem(400, NO_ROOM)
        pod = self._new(body)
        self._containers.spawn(self._containers.boot(pod, self.boot_s))
        return _json(201, pod.shown())

    def _has_room(self, body: dict[str, Any]) -> bool:
        table, wanted = (self.gpus, body["gpu"]) if "gpu" in body else (self.cpus, body["cpu"])
        row = next((row for row in table if row["id"] == wanted["id"]), None)
        if row is None:
            return False
        places = body.get("dataCenterIds") or [""]
        stock = {each["id"]: each["availability"] for each in row["dataCenters"]}
        return places == [""] or any(stock.get(place, "NONE") != "NONE" for place in places)

    def _new(self, body: dict[str, Any]) -> FakePod:
        self._counter += 1
        pod = FakePod(f"pod{self._counter:07d}", body, 0.5)
        self.pods[pod.id] = pod
        return pod

    async def get_pod(self, request: Request, body: Any, pod: str) -> Response:
        return _json(200, self.pods[pod].shown()) if pod in self.pods else _problem(404, "pod not found")

    async def update_pod(self, request: Request, body: dict[str, Any], name: str) -> Response:
        if (pod := self.pods.get(name)) is None:
            return _problem(404, "pod not found")
        pod.body = {**pod.body, **body}
        if pod.status == "RUNNING" and self.renews_by_itself:
            self._containers.spawn(self._containers.renew(pod))
        return _json(200, pod.shown())

    async def delete_pod(self, request: Request, body: Any, name: str) -> Response:
        if (pod := self.pods.pop(name, None)) is None:
            return _problem(404, "pod not found")
        pod.ended = time.time()
        self.gone.append(pod)
        pod.wrote.set()
        self._containers.spawn(self._containers.halt(pod, "TERMINATED"))
        return Response(status_code=204)

    async def act(self, request: Request, body: dict[str, Any], name: str) -> Response:
        if (pod := self.pods.get(name)) is None:
            return _problem(404, "pod not found")
        action = body["action"]
        if action not in pod.shown()["actions"]:
            return _problem(409, f"{action} is not valid for a pod that is {pod.status}")
        if action == "terminate":
            return await self.delete_pod(request, body, name)
        work = self._containers.halt(pod, "EXITED") if action == "stop" else self._containers.renew(pod)
        self._containers.spawn(work)
        return _json(200, pod.shown())

    async def read_logs(self, request: Request, body: Any, name: str) -> Response:
        if (pod := self.pods.get(name)) is None:
            return _problem(404, "pod not found")
        since = request.headers.get("last-event-id") or request.query_params.get("since")
        tail = int(request.query_params.get("tail", 100))
        at = (
            next((i for i, line in enumerate(pod.log) if line[0] >= since), len(pod.log))
            if since
            else max(0, len(pod.log) - tail)
        )
        return StreamingResponse(self._stream(pod, at), media_type="text/event-stream")

    async def _stream(self, pod: FakePod, at: int) -> AsyncIterator[str]:
        yield ": hello\n\n"
        while pod.id in self.pods and not self._server.should_exit:
            wrote = pod.wrote
            while at < len(pod.log):
                known, when, line = pod.log[at]
                event = {"ts": when, "source": "container", "line": line}
                self.wrong += runpod_contract.wrong_reply("GET", "/v2/pods/{id}/logs", 200, event)
                yield f"id: {known}\ndata: {json.dumps(event)}\n\n"
                at += 1
            try:
                await asyncio.wait_for(wrote.wait(), 0.5)
            except TimeoutError:
                continue

    async def list_registries(self, request: Request, body: Any) -> Response:
        return _json(200, {"registries": list(self.registries.values())})

    async def create_registry(self, request: Request, body: dict[str, str]) -> Response:
        self._counter += 1
        made = self.registries[f"reg{self._counter}"] = {"id": f"reg{self._counter}", "name": body["name"]}
        self.registry_bodies.append(body)
        return _json(201, made)

    async def delete_registry(self, request: Request, body: Any, name: str) -> Response:
        if any(pod.body.get("registry") == name for pod in self.pods.values()):
            return _problem(400, "registry auth is in use by a pod")
        if self.registries.pop(name, None) is None:
            return _problem(400, "registry auth not found")
        return Response(status_code=204)

    async def list_gpus(self, request: Request, body: Any) -> Response:
        return _json(200, {"gpus": self.gpus})

    async def list_cpus(self, request: Request, body: Any) -> Response:
        return _json(200, {"cpus": self.cpus})


_NAMES = {
    ("GET", "/v2/pods"): "list_pods",
    ("POST", "/v2/pods"): "create_pod",
    ("GET", "/v2/pods/{id}"): "get_pod",
    ("PATCH", "/v2/pods/{id}"): "update_pod",
    ("DELETE", "/v2/pods/{id}"): "delete_pod",
    ("POST", "/v2/pods/{id}/action"): "act",
    ("GET", "/v2/pods/{id}/logs"): "read_logs",
    ("GET", "/v2/registries"): "list_registries",
    ("POST", "/v2/registries"): "create_registry",
    ("DELETE", "/v2/registries/{id}"): "delete_registry",
    ("GET", "/v2/catalog/gpus"): "list_gpus",
    ("GET", "/v2/catalog/cpus"): "list_cpus",
}


def _template(path: str) -> tuple[str, list[str]]:
    for _, template in _NAMES:
        pattern = re.escape(template).replace(re.escape("{id}"), "([^/]+)")
        if found := re.fullmatch(pattern, path):
            return template, list(found.groups())
    return path, []


def _json(status: int, body: Any) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def _problem(
    status: int, detail: str, headers: dict[str, str] | None = None, errors: list[str] | None = None
) -> Response:
    body = {"title": str(status), "status": status, "detail": detail, **({"errors": errors} if errors else {})}
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


def _lost() -> Response:
    """An answer that breaks off: more is promised than comes."""
    return Response(b"", 200, {"content-length": "1000"}, media_type="application/json")
