"""The line to one Docker Engine: its HTTP API, asynchronous, with every failure translated.

`aiodocker` finds the Engine as Docker's own CLI does (address, contexts, TLS, ssh) and connects. The calls are made
here, because its streams (0.27) end quietly when the connection breaks, so that half a pull looks like a whole one.
What the calls mean is in `docker.py`.
"""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerContextError

from activities.runtimes.docker_line import FRAME, Line
from activities.runtimes.tunnel import Tunnel
from nebulous.errors import AuthFailed, Conflict, NebulousError, NotFound, Rejected, Unavailable

#: The newest API version that our tests ran against; a newer Engine is spoken to in this one if it still can.
KNOWN_API = (1, 41)
CONNECT_S = 5.0
CALL_S = 30.0
DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
START_IT = "start it (sudo systemctl start docker, or open Docker Desktop) or set NEBU_DOCKER_HOST"
LET_US_IN = (
    "add this user to the group docker (sudo usermod -aG docker $USER, then log in again) or set NEBU_DOCKER_HOST"
)

_BY_STATUS: dict[int, type[NebulousError]] = {
    400: Rejected,
    401: AuthFailed,
    403: AuthFailed,
    404: NotFound,
    409: Conflict,
}

Params = Mapping[str, str | int]

REMOTE = frozenset({"tcp", "http", "https", "ssh"})
FAR_AWAY = ("192.0.2.1", 9)  # reserved for documentation; nothing is sent there


@functools.cache
def own_address() -> str:
    """The address that this machine uses to reach others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        try:
            line.connect(FAR_AWAY)
            return str(line.getsockname()[0])
        except OSError:
            return "127.0.0.1"


class Engine:
    """One Engine. Raises only NebulousError, with the Engine's own words as the message."""

    def __init__(self, address: str | None = None, tunnel: Tunnel | None = None) -> None:
        """Name the Engine; nothing is connected before the first call.

        Args:
            address: unix://, tcp://, https:// or ssh://; default DOCKER_HOST, else Docker's context, else its socket.
            tunnel: To the machine that it is on, instead of an address.
        """
        # aiodocker 0.27 would let the CLI's current context win over DOCKER_HOST, which Docker's CLI does not.
        self._address = tunnel.address if tunnel else address or os.environ.get("DOCKER_HOST") or None
        self._tunnel = tunnel
        self._docker: Docker | None = None
        self._version = ""

    @property
    def address(self) -> str:
        """Where the Engine is, for people."""
        return self._tunnel.name if self._tunnel else self._address or DEFAULT_ADDRESS

    @property
    def machine(self) -> str:
        """The address of the Engine's machine, as others reach it: named by ours, or this machine's own."""
        if self._tunnel:
            return self._tunnel.host
        where = urlsplit(self.address)
        return where.hostname if where.scheme in REMOTE and where.hostname else own_address()

    @property
    def is_here(self) -> bool:
        """True for an Engine of this very machine."""
        return self._tunnel is None and urlsplit(self.address).scheme not in REMOTE

    async def get(self, path: str, params: Params | None = None) -> Any:  # noqa: ANN401 - JSON
        """Read something."""
        return await self._call("GET", path, params)

    async def exists(self, path: str, params: Params | None = None) -> bool:
        """Tell whether HEAD finds it."""
        try:
            await self._call("HEAD", path, params)
        except NotFound:
            return False
        return True

    async def post(
        self,
        path: str,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = CALL_S,
    ) -> Any:  # noqa: ANN401 - JSON
        """Change something; no content and "not modified" give None."""
        return await self._call("POST", path, params, body, timeout_s)

    async def delete(self, path: str, params: Params | None = None, timeout_s: float = CALL_S) -> None:
        """Remove something."""
        await self._call("DELETE", path, params, timeout_s=timeout_s)

    async def lines(
        self, method: str, path: str, params: Params, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Stream JSON objects until the Engine ends the stream.

        Raises:
            Unavailable: The connection broke before that.
        """
        async with self._stream(method, path, params, headers) as response:
            async for line in response.content:
                if line.strip():
                    yield json.loads(line)

    async def frames(self, path: str, params: Params, body: Mapping[str, Any] | None = None) -> AsyncGenerator[bytes]:
        """Stream what a container wrote, both outputs in their order, in pieces as large as they arrive.

        With a body it is what a program in it writes that is started by this POST.

        Raises:
            Unavailable: The connection broke before the Engine ended the stream.
        """
        async with self._stream(
            "POST" if body else "GET", path, params, body=json.dumps(body) if body else None
        ) as response:
            waiting = bytearray()
            async for piece in response.content.iter_any():
                waiting += piece
                if payload := _unframe(waiting):
                    yield payload

    async def head(self, path: str, params: Params) -> Mapping[str, str]:
        """The headers of what is there."""
        async with self._stream("HEAD", path, params) as response:
            return dict(response.headers)

    async def download(self, path: str, params: Params) -> AsyncGenerator[bytes]:
        """Stream a body as it comes.

        Raises:
            Unavailable: The connection broke before the Engine ended the stream.
        """
        async with self._stream("GET", path, params) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def upload(self, path: str, params: Params, source: AsyncIterator[bytes]) -> None:
        """Send a body as it comes, and wait until the Engine has taken it.

        Raises:
            NebulousError: What the Engine says, or what `source` raised.
        """
        body = _Body(source)
        try:
            async with self._stream("PUT", path, params, {"Content-Type": "application/x-tar"}, body.pieces()):
                pass
        except NebulousError as error:
            raise (body.failure or error) from error

    @asynccontextmanager
    async def upgraded(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Line]:
        """Hand over a connection of its own for raw bytes both ways; closed after the block."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        async with self._stream("POST", path, {}, headers, json.dumps(body)) as response:
            yield Line(response)

    async def close(self) -> None:
        """Let go of the connections."""
        docker, self._docker = self._docker, None
        if docker:
            await docker.close()

    async def _call(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float = CALL_S,
    ) -> Any:  # noqa: ANN401 - JSON
        docker = self._docker = self._docker or self._connect()
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        with self._translated():
            url = await self._url(docker, path)
            async with docker.session.request(method, url, params=params, json=body, timeout=timeout) as response:
                await _check(response)
                raw = await response.read()
                return json.loads(raw) if raw and response.content_type == "application/json" else None

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        path: str,
        params: Params,
        headers: Mapping[str, str] | None = None,
        body: str | AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Open a stream on a connection of its own: a hundred followers must not starve a delete."""
        docker = self._connect()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        kind = {"Content-Type": "application/json"} if isinstance(body, str) else {}
        try:
            with self._translated():
                url = await self._url(docker, path)
                async with docker.session.request(
                    method, url, params=params, headers={**kind, **(headers or {})}, data=body, timeout=timeout
                ) as response:
                    await _check(response)
                    yield response
        finally:
            await docker.close()

    def _connect(self) -> Docker:
        try:
            return Docker(self._address)
        except DockerContextError as error:
            raise Unavailable(
                f"Docker's context is broken: {error.message}", "repair it or set NEBU_DOCKER_HOST"
            ) from error
        except (AssertionError, ValueError) as error:  # its words for "no socket anywhere", and for a bad address
            if self._address:
                raise Unavailable(f"{self._address!r} is no address of a Docker Engine", START_IT) from error
            raise self._silent() from error

    async def _url(self, docker: Docker, path: str) -> str:
        if self._tunnel:
            await self._tunnel.ready()
        if not self._version:
            timeout = aiohttp.ClientTimeout(total=CALL_S, sock_connect=CONNECT_S)
            async with docker.session.get(f"{docker.docker_host}/version", timeout=timeout) as response:
                await _check(response)
                self._version = negotiated(await response.json())
        return f"{docker.docker_host}/v{self._version}/{path}"

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Turn what goes wrong on the line into the errors of this project."""
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):
                raise AuthFailed(f"permission denied on Docker's socket {self.address}", LET_US_IN) from error
            raise self._silent() from error
        except TimeoutError as error:
            raise self._silent("no answer in time") from error
        except (aiohttp.ClientError, OSError, json.JSONDecodeError) as error:
            raise self._silent(f"the connection broke ({error})") from error

    def _silent(self, why: str = "") -> Unavailable:
        """The error for an Engine that does not answer; forgets what was negotiated, for it may come back newer."""
        self._version = ""
        hint = f"start it there, or see why: {self._tunnel.ssh} docker info" if self._tunnel else START_IT
        return Unavailable(f"Docker does not answer at {self.address}" + (f": {why}" if why else ""), hint)


class _Body:
    """A request's body that remembers why it could not be read to its end."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self.failure: NebulousError | None = None

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            async for piece in self._source:
                yield piece
        except NebulousError as error:
            self.failure = error
            raise OSError(error.message) from error  # breaks the request off, so that no half passes for a whole


def negotiated(version: Mapping[str, Any]) -> str:
    """The API version to speak: the newest that we know, within what the Engine can.

    Engine 29 dropped everything below 1.44, and then its oldest is nearest to what we know.
    """
    newest, oldest = (
        tuple(map(int, str(version.get(field) or "1.24").split("."))) for field in ("ApiVersion", "MinAPIVersion")
    )
    return ".".join(map(str, max(oldest, min(newest, KNOWN_API))))


def part(seen: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside an answer; the Engine writes null for an empty one."""
    return seen.get(name) or {}


def filters(**wanted: list[str]) -> str:
    """The value of the parameter `filters`."""
    return json.dumps(wanted)


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise the error that a refusal stands for; a 5xx is trouble in the Engine, and may pass."""
    if response.status < 400:
        return
    text = await response.text()
    try:
        text = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        text = text.strip() or f"HTTP {response.status}"
    raise _BY_STATUS.get(response.status, Unavailable)(text)


def _unframe(waiting: bytearray) -> bytes:
    """Take all whole frames off the front and return what they carry."""
    payload, position = bytearray(), 0
    while len(waiting) - position >= FRAME.size:
        _, length = FRAME.unpack_from(waiting, position)
        end = position + FRAME.size + length
        if len(waiting) < end:
            break
        payload += waiting[position + FRAME.size : end]
        position = end
    del waiting[:position]
    return bytes(payload)
