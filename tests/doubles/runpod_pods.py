"""The pods of the RunPod double: each a real container on the tests' Engine, run as RunPod would run it.

`args` replaces entrypoint and command where it is JSON with these, else it is split into words for the command. A
container that ends is started again, with its files; changed variables make a new one in the same pod. What it writes
is the pod's log, over all of its containers. Without an Engine a pod runs nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shlex
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.docker_engine import async_client

CLONE_NEWNET = 0x40000000
STOP_S = 10  # between SIGTERM and SIGKILL, as Docker has it
ACTIONS = {
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
}


def stamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class FakePod:
    """One pod, as a listing shows it and as it runs."""

    id: str
    body: dict[str, Any]
    cost: float
    status: str = "PROVISIONING"
    created: float = field(default_factory=time.time)
    created_at: str = field(default_factory=stamp)
    started_at: str | None = None
    up_since: float = 0.0
    ended: float | None = None
    container: str = ""
    host: str = ""
    log: list[tuple[str, str, str]] = field(default_factory=list)  # id, time, line
    wrote: asyncio.Event = field(default_factory=asyncio.Event)
    forwards: dict[int, asyncio.Server] = field(default_factory=dict)
    generation: int = 0  # of its container: who looks after an older one stops
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def shown(self) -> dict[str, Any]:
        """As RunPod's API has it, with no more than `runpod_contract.py` describes."""
        body, running = self.body, self.status == "RUNNING"
        mapped = {port: server.sockets[0].getsockname()[1] for port, server in self.forwards.items()} if running else {}
        ports = [{"private": port, "public": at, "type": "tcp", "ip": "127.0.0.1"} for port, at in mapped.items()]
        direct = {"host": "127.0.0.1", "port": mapped[22]} if 22 in mapped else None
        kind = {"gpu": body["gpu"]} if "gpu" in body else {"cpu": body["cpu"]}
        return {
            "id": self.id,
            "name": body["name"],
            "status": self.status,
            "actions": ACTIONS[self.status],
            "image": body["image"],
            "args": body.get("args", ""),
            "env": body.get("env", {}),
            "disk": body.get("disk", 20),
            "ports": body.get("ports", []),
            "registry": body.get("registry"),
            "cloud": body.get("cloud", "SECURE"),
            "dataCenterId": (body.get("dataCenterIds") or ["US-KS-2"])[0] or None,
            "ssh": {"proxy": None, "direct": direct},
            "cost": self.cost if running else 0.0,
            "runtime": {"uptime": int(time.time() - self.up_since), "ports": ports} if running else None,
            "createdAt": self.created_at,
            "startedAt": self.started_at,
            **kind,
        }

    def write(self, line: str, at: str = "") -> None:
        at = at or stamp()
        self.log.append((f"{at}/{len(self.log):012d}", at, line))
        self.wrote.set()
        self.wrote = asyncio.Event()


class Containers:
    """What runs behind the pods of one double; lives in the double's own event loop."""

    def __init__(self, docker_host: str, init_pid: int, host_network: bool = False) -> None:
        self._engine = async_client(docker_host or "tcp://127.0.0.1:9")
        self._real = bool(docker_host)
        self._pid = init_pid
        self._host_network = host_network
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def boot(self, pod: FakePod, boot_s: float) -> None:
        """PROVISIONING, STARTING, then a container."""
        generation = pod.generation
        await asyncio.sleep(boot_s / 2)
        if pod.generation == generation and pod.status == "PROVISIONING":
            pod.status = "STARTING"
        await asyncio.sleep(boot_s / 2)
        if pod.generation == generation and pod.status == "STARTING":
            await self.renew(pod)

    async def renew(self, pod: FakePod) -> None:
        """End its container, if any, and make one of what the pod is now."""
        pod.generation += 1
        generation = pod.generation
        async with pod.changing:
            await self._remove(pod, STOP_S)
            if pod.generation == generation:
                await self._run(pod, generation)

    async def _run(self, pod: FakePod, generation: int) -> None:
        try:
            await self._start(pod)
        except httpx.HTTPStatusError as error:
            pod.write(f"error starting container: {error.response.text}")
            pod.status = "ERROR"
            return
        pod.status = "RUNNING" if pod.generation == generation else pod.status
        pod.started_at, pod.up_since = stamp(), time.time()
        if self._real:
            self.spawn(self._look_after(pod, generation))

    async def halt(self, pod: FakePod, status: str) -> None:
        pod.generation += 1
        pod.status = status
        async with pod.changing:
            await self._remove(pod, STOP_S if status == "EXITED" else 0)
        for server in pod.forwards.values():
            server.close()
        pod.forwards.clear()

    async def close(self, pods: list[FakePod]) -> None:
        for pod in pods:
            await self.halt(pod, "TERMINATED")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.aclose()

    async def _start(self, pod: FakePod) -> None:
        if not self._real:
            return
        body, args = pod.body, pod.body.get("args", "")
        with suppress(ValueError):
            read = json.loads(args)
            args = read if isinstance(read, dict) else args
        command = {"Entrypoint": args.get("entrypoint"), "Cmd": args.get("cmd")} if isinstance(args, dict) else {}
        if isinstance(args, str) and args:
            command = {"Cmd": shlex.split(args)}
        own = {"RUNPOD_POD_ID": pod.id, "RUNPOD_API_KEY": f"podkey-{pod.id}", "RUNPOD_DC_ID": "US-KS-2"}
        made = await self._engine.post(
            "/containers/create",
            params={"name": f"{pod.id}-{pod.generation}-{uuid.uuid4().hex[:6]}"},
            json={
                "Image": body["image"],
                "Env": [f"{name}={value}" for name, value in {**own, **body.get("env", {})}.items()],
                "HostConfig": {"NetworkMode": "host"} if self._host_network else {},
                **command,
            },
        )
        made.raise_for_status()
        pod.container = made.json()["Id"]
        (await self._engine.post(f"/containers/{pod.container}/start")).raise_for_status()
        seen = (await self._engine.get(f"/containers/{pod.container}/json")).json()
        networks = seen["NetworkSettings"]["Networks"].values()
        pod.host = next((each["IPAddress"] for each in networks if each["IPAddress"]), "127.0.0.1")
        for port in body.get("ports", []):
            number, _, kind = port.partition("/")
            if kind == "tcp" and int(number) not in pod.forwards:
                pod.forwards[int(number)] = await self._forward(pod, int(number))

    async def _remove(self, pod: FakePod, grace_s: int) -> None:
        if pod.container:
            if grace_s:
                await self._engine.post(f"/containers/{pod.container}/stop", params={"t": grace_s}, timeout=60)
                await self._read(pod, pod.container)  # what it said at its end
            with suppress(httpx.HTTPError):
                await self._engine.delete(f"/containers/{pod.container}", params={"force": 1, "v": 1})
            pod.container = ""

    async def _look_after(self, pod: FakePod, generation: int) -> None:
        """Read what it writes; start it again when it ends."""
        while pod.generation == generation:
            with suppress(httpx.HTTPError):
                await self._read(pod, pod.container, follow=True, generation=generation)
            if pod.generation == generation:
                await asyncio.sleep(0.2)
                if pod.generation == generation:
                    pod.up_since = time.time()
                    await self._engine.post(f"/containers/{pod.container}/start")

    async def _read(self, pod: FakePod, container: str, follow: bool = False, generation: int = -1) -> None:
        params = {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow)}
        rest = b""
        async with self._engine.stream("GET", f"/containers/{container}/logs", params=params, timeout=None) as reply:
            if not reply.is_success:
                return
            async for data in reply.aiter_bytes():
                rest = self._take(pod, container, rest + data)

    def _take(self, pod: FakePod, container: str, data: bytes) -> bytes:
        while len(data) >= 8 and len(data) >= 8 + (size := int.from_bytes(data[4:8], "big")):
            frame, data = data[8 : 8 + size], data[8 + size :]
            at, _, text = frame.decode(errors="replace").partition(" ")
            if not pod.log or (at, container) > self._seen.get(pod.id, ("", "")) or container != self._seen[pod.id][1]:
                self._seen[pod.id] = (at, container)
                pod.write(text.removesuffix("\n"), at)
        return data

    @property
    def _seen(self) -> dict[str, tuple[str, str]]:
        return self.__dict__.setdefault("seen", {})

    async def _forward(self, pod: FakePod, port: int) -> asyncio.Server:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                line = await asyncio.to_thread(socket_in, self._pid)
                line.setblocking(False)
                await asyncio.get_running_loop().sock_connect(line, (pod.host, port))
                there_reader, there_writer = await asyncio.open_connection(sock=line)
            except OSError:
                writer.close()
                return

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                with suppress(OSError):
                    while data := await source.read(1 << 16):
                        sink.write(data)
                        await sink.drain()
                sink.close()

            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)

        return await asyncio.start_server(lambda r, w: self.spawn(carry(r, w)), "127.0.0.1", 0)


def socket_in(pid: int, bind: int | None = None) -> socket.socket:
    """A TCP socket in the network of another process: made by a thread that enters it and then ends."""
    made: list[socket.socket] = []

    def make() -> None:
        if os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/thread-self/ns/net").st_ino:
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
        line = socket.socket()
        if bind is not None:
            line.bind(("127.0.0.1", bind))
        made.append(line)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
