"""A `nebu serve` to measure: in a folder of its own, on free ports, stopped and removed afterwards."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.served import Server, until

LIMIT_S = 60.0


@dataclass
class Install:
    """A running server, and what measuring does with it."""

    server: Server
    api: httpx.Client
    temporal: str  # host:port

    def create(self, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - as in a file
        """POST a container; returns it as it was accepted."""
        metadata = {"name": name, "namespace": fields.pop("namespace", None), "labels": fields.pop("labels", None)}
        reply = self.api.post("/v1/containers", json={"metadata": metadata, **fields})
        reply.raise_for_status()
        return reply.json()

    def row(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """GET one."""
        reply = self.api.get(f"/v1/containers/{namespace}/{name}")
        reply.raise_for_status()
        return reply.json()

    def until(self, name: str, *wanted: str) -> tuple[float, dict[str, Any]]:
        """When (`time.time()`) a look first found one of these statuses, and the row; looks as fast as it can."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            row = self.row(name)
            if row["status"]["status"] in wanted:
                return time.time(), row
            time.sleep(0.002)
        raise TimeoutError(f"{name} is not {wanted} after {LIMIT_S} s: {self.row(name)['status']}")

    def process(self, name: str) -> psutil.Process:
        """A process of the server: temporal, valkey, worker or api."""
        return psutil.Process(self.server.marks()[name]["pid"])

    def processes(self) -> list[psutil.Process]:
        """All of them, `nebu serve` itself included."""
        assert self.server.serve is not None
        serve = psutil.Process(self.server.serve.pid)
        return [serve, *serve.children(recursive=True)]


@contextmanager
def install(**env: str) -> Iterator[Install]:
    """Run a whole server for the block."""
    folder = Path(tempfile.mkdtemp(prefix="nebu-bench-"))
    server = Server(folder, {"NEBU_LOCAL_ENABLED": "false", **env})
    try:
        ready = server.up()
        headers = {"Authorization": f"Bearer {ready['token']}"}
        with httpx.Client(base_url=ready["api"], headers=headers, timeout=LIMIT_S) as api:
            until(lambda: api.get("/v1/platforms").json()["platforms"], "a platform is there")
            yield Install(server, api, ready["temporal"])
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
