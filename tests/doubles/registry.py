"""An image registry that speaks the distribution protocol (v2) and fails by script.

with Registry(network_of=pid) as registry:   # listens on 127.0.0.1 in that process's network namespace
    name = registry.add("tools/hello", archive_bytes)
    registry.fail_with = 429
    registry.hold()                          # stops in the middle of every blob until registry.go_on()
"""

from __future__ import annotations

import base64
import ctypes
import gzip
import hashlib
import json
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

CLONE_NEWNET = 0x40000000
CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


class Registry:
    def __init__(self, network_of: int, login: tuple[str, str] | None = None, machine: str = "amd64") -> None:
        self.fail_with: int | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self.requests: list[str] = []
        self._machine = machine
        self._login = login and base64.b64encode(":".join(login).encode()).decode()
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = _socket_in(network_of)
        self._server.server_address = self._server.socket.getsockname()
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hold(self) -> None:
        self._flowing.clear()

    def go_on(self) -> None:
        self._flowing.set()

    def forget(self, name: str, tag: str = "1") -> None:
        """Lose an image with all its blobs: an Engine may still know the manifest, and go on from there."""
        manifest = json.loads(self._blobs.pop(self._manifests.pop(f"{name}:{tag}")))
        for blob in [manifest["config"], *manifest["layers"]]:
            self._blobs.pop(blob["digest"], None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, archive: bytes, tag: str = "1") -> str:
        """Hold an image of one layer; returns the reference to pull it by."""
        packed = gzip.compress(archive, 1)
        config = {
            "architecture": self._machine,
            "os": "linux",
            "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(archive)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._hold("application/vnd.docker.container.image.v1+json", json.dumps(config).encode()),
            "layers": [self._hold("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
        }
        self._manifests[f"{name}:{tag}"] = self._hold(MANIFEST, json.dumps(manifest).encode())["digest"]
        return f"{self.address}/{name}:{tag}"

    def add_list(self, name: str, archive: bytes, tag: str = "1") -> str:
        """Hold an image as a list of variants for machines, with one for this registry's."""
        self.add(name, archive, tag)
        variant = self._manifests[f"{name}:{tag}"]
        of = {"architecture": self._machine, "os": "linux"}
        listed = {"mediaType": MANIFEST, "size": len(self._blobs[variant]), "digest": variant, "platform": of}
        content = {"schemaVersion": 2, "mediaType": LIST, "manifests": [listed]}
        self._manifests[f"{name}:{tag}"] = str(self._hold(LIST, json.dumps(content).encode())["digest"])
        return f"{self.address}/{name}:{tag}"

    def _hold(self, media_type: str, content: bytes) -> dict[str, object]:
        self._blobs[_digest(content)] = content
        return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}

    def _answer(self, path: str, authorization: str) -> tuple[int, str, bytes]:
        self.requests.append(path)
        if self.fail_with:
            code = CODES.get(self.fail_with, "UNKNOWN")
            return self.fail_with, "application/json", _error(code, "scripted failure")
        if self._login and authorization != f"Basic {self._login}":
            return 401, "application/json", _error("UNAUTHORIZED", "authentication required")
        if path == "/v2/":
            return 200, "application/json", b"{}"
        name, _, reference = path.removeprefix("/v2/").rpartition("/")
        if name.endswith("/manifests"):
            digest = self._manifests.get(f"{name.removesuffix('/manifests')}:{reference}", reference)
            if digest in self._blobs:
                return 200, json.loads(self._blobs[digest])["mediaType"], self._blobs[digest]
            return 404, "application/json", _error("MANIFEST_UNKNOWN", "manifest unknown")
        if reference not in self._blobs:
            return 404, "application/json", _error("BLOB_UNKNOWN", "blob unknown to registry")
        return 200, "application/octet-stream", self._blobs[reference]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, media_type, body = registry._answer(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", _digest(body))
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.end_headers()
                if self.command == "GET":
                    half = len(body) // 2 if "/blobs/" in self.path else 0
                    self.wfile.write(body[:half])
                    self.wfile.flush()
                    if half:
                        registry._flowing.wait(60)
                    self.wfile.write(body[half:])

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler


def _socket_in(pid: int) -> socket.socket:
    """A TCP socket on a loopback of another network: made by a thread that enters it and then ends."""
    made: list[socket.socket] = []

    def make() -> None:
        if os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/thread-self/ns/net").st_ino:
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        made.append(listening)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
