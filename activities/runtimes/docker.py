"""What runs in a Docker Engine: pull, create, start, stop, inspect, logs, events.

Knows nothing of offers or namespaces, so it serves the platform `docker` and, through a tunnel, an Engine on a rented
machine. Container and image are the Engine's own JSON here; `docker_config.py` gives them meaning.
"""

from __future__ import annotations

import base64
import json
import math
import posixpath
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities.platforms.base import Progress
from activities.runtimes import docker_config
from activities.runtimes.docker_config import DEFAULT_PATH, IMAGE_ADVICE
from activities.runtimes.docker_engine import Engine, filters
from nebulous.errors import Conflict, ImageNotFound, NebulousError, NotFound, RateLimited, Rejected, Unavailable

#: Copying an image for a container takes minutes where the Engine has no overlay file system.
CREATE_S = 120.0
#: How much longer than the grace a stop may take: the kill, and cutting the network.
STOP_MARGIN_S = 30.0
REMOVE_S = 120.0
RATE_LIMIT_S = 60.0
KILL_SAID_S = 0.5  # the Engine tells of a kill after it is done
SIGKILL = "9"  # as events write it
HUB = "https://index.docker.io/v1/"  # what the Engine calls the registry of images without a registry

_ABSENT = re.compile(
    r"not found|manifest unknown|does not exist|denied|unauthorized|authentication required|basic auth"
)
_WRONG_MACHINE = re.compile(r"no matching manifest|does not match the specified platform")
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied|exec format error")
_DISK_FULL = "no space left on device"
_MB = 1e6


@dataclass(frozen=True)
class Login:
    """How to log in to an image's registry."""

    username: str
    password: str

    def header(self, image: str) -> dict[str, str]:
        """The header that carries it."""
        first = image.partition("/")[0]
        registry = first if "/" in image and ("." in first or ":" in first or first == "localhost") else HUB
        login = {"username": self.username, "password": self.password, "serveraddress": registry}
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}


class DockerRuntime:
    """Containers of one Engine. Raises only NebulousError."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def info(self) -> Mapping[str, Any]:
        """The Engine's own description: ID, NCPU, MemTotal, Runtimes and more."""
        return await self.engine.get("info")

    async def bring(self, image: str, login: Login | None, progress: Progress) -> None:
        """Pull the image unless it is there, `:latest` too: the rule that Kubernetes calls IfNotPresent.

        Raises:
            ImageNotFound: No such image, none for this machine, or not ours to read.
            Unavailable: The registry does not answer, or the disk is full.
        """
        try:
            if not await self._has(image):
                await self._pull(image, login, progress)
        except NebulousError as error:
            raise error if error.hint else _pull_failure(image, error, login) from error

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Make a container, not started, and return its id.

        Raises:
            Conflict: The name is taken. Rejected: the Engine refuses the configuration.
            Unavailable: It may have been made all the same.
        """
        try:
            made = await self.engine.post("containers/create", {"name": name}, body, CREATE_S)
        except NotFound as error:
            raise ImageNotFound(f"image {body['Image']!r} is not on the Engine any more", "create it again") from error
        except Conflict:
            raise
        except NebulousError as error:
            raise _create_failure(str(body["Image"]), error) from error
        return str(made["Id"])

    async def inspect(self, container: str) -> Mapping[str, Any]:
        """Everything about a container, by id or name; `OOMKilled` also where the Engine missed it.

        Raises:
            NotFound: There is none.
        """
        seen = await self.engine.get(f"containers/{container}/json")
        if docker_config.killed_at_limit(seen) and not await self._signalled(seen):
            seen["State"]["OOMKilled"] = True
        return seen

    async def stats(self, container: str) -> Mapping[str, Any]:
        """What it uses; the Engine looks twice, which takes it a second or two."""
        return await self.engine.get(f"containers/{container}/stats", {"stream": "false"})

    async def start(self, container: str, seen: Mapping[str, Any]) -> None:
        """Start the command; a running one stays as it is.

        Raises:
            NotFound: The container or its network is gone.
            Rejected: There is no such program, or what it needs is not on this machine.
        """
        if seen["HostConfig"].get("Init"):
            await self._check_program(container, seen)  # docker-init starts, and then ends with 127
        try:
            await self.engine.post(f"containers/{container}/start", timeout_s=CREATE_S)
        except NebulousError as error:
            raise _start_failure(seen, error) from error

    async def stop(self, container: str, grace_s: float) -> None:
        """End the command: its stop signal, up to the grace, SIGKILL; nothing to do where nothing runs."""
        grace = math.ceil(max(0.0, grace_s))
        await self.engine.post(f"containers/{container}/stop", {"t": grace}, timeout_s=grace + STOP_MARGIN_S)

    async def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; the gone and the going are success."""
        try:
            await self.engine.delete(f"containers/{container}", {"force": 1, "v": 1}, REMOVE_S)
        except NotFound:
            return
        except Conflict as error:
            if "already in progress" not in error.message:
                raise

    async def list(self, *labels: str) -> list[Mapping[str, Any]]:
        """List the containers, running or not, that have all these labels (`key` or `key=value`), in one call."""
        return await self.engine.get("containers/json", {"all": 1, "filters": filters(label=list(labels))})

    def logs(self, container: str, follow: bool, tail: int | None) -> AsyncGenerator[bytes]:
        """Stream what the command wrote, over all its runs; `follow` ends with the command."""
        lines = "all" if tail is None else tail
        wanted = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": lines}
        return self.engine.frames(f"containers/{container}/logs", wanted)

    def events(self, label: str, since: float, *kinds: str) -> AsyncGenerator[dict[str, Any]]:
        """Stream events of containers with this label, those since then (unix time) first; never ends by itself."""
        wanted = {"filters": filters(type=["container"], label=[label], event=list(kinds)), "since": f"{since:.9f}"}
        return self.engine.lines("GET", "events", wanted)

    async def _has(self, image: str) -> bool:
        try:
            await self.engine.get(f"images/{image}/json")
        except NotFound:
            return False
        return True

    async def _signalled(self, seen: Mapping[str, Any]) -> bool:
        """True when somebody told the Engine to kill the container's last run."""
        since, until = (datetime.fromisoformat(seen["State"][at]).timestamp() for at in ("StartedAt", "FinishedAt"))
        wanted = filters(type=["container"], container=[str(seen["Id"])], event=["kill"])
        span = {"since": f"{since:.6f}", "until": f"{until + KILL_SAID_S:.6f}"}
        async with aclosing(self.engine.lines("GET", "events", {"filters": wanted, **span})) as kills:
            signals = [kill["Actor"]["Attributes"].get("signal") async for kill in kills]
        return SIGKILL in signals

    async def _pull(self, image: str, login: Login | None, progress: Progress) -> None:
        transfer = Transfer(image)
        progress(transfer.words())
        headers = login.header(image) if login else None
        async with aclosing(self.engine.lines("POST", "images/create", {"fromImage": image}, headers)) as lines:
            async for line in lines:
                if "error" in line:
                    raise Unavailable(str(line["error"]))
                transfer.add(line)
                progress(transfer.words())
        if not await self._has(image):
            raise Unavailable("the pull ended without the image")

    async def _check_program(self, container: str, seen: Mapping[str, Any]) -> None:
        """Refuse a program that is not in the container, before docker-init fails to find it."""
        program, config = str(seen["Path"]), seen["Config"]
        folders: list[str] = [config.get("WorkingDir") or "/"]
        if "/" not in program:
            env: list[str] = config.get("Env") or []
            paths = [variable.removeprefix("PATH=") for variable in env if variable.startswith("PATH=")]
            folders = (paths or [DEFAULT_PATH])[-1].split(":")
        for folder in folders:
            path = posixpath.join("/", folder, program)
            if await self.engine.exists(f"containers/{container}/archive", {"path": path}):
                return
        raise _no_program(seen)


@dataclass
class Transfer:
    """A pull in progress, summed over the image's layers."""

    image: str
    layers: set[str] = field(default_factory=set[str])
    done: set[str] = field(default_factory=set[str])
    loaded: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])  # bytes: so far, in all

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line of the Engine's progress."""
        layer, status, detail = line.get("id"), line.get("status", ""), line.get("progressDetail")
        if not layer or detail is None:  # a sentence about the image, not about a layer
            return
        self.layers.add(layer)
        if status == "Downloading" and detail.get("total"):
            self.loaded[layer] = (detail["current"], detail["total"])
        elif status in {"Download complete", "Extracting"} and layer in self.loaded:
            total = self.loaded[layer][1]
            self.loaded[layer] = (total, total)
        elif status in {"Pull complete", "Already exists"}:
            self.done.add(layer)

    def words(self) -> str:
        """For `describe`: `pulling python:3.12: 3 of 8 layers, 120 of 410 MB, 29 %`."""
        words = f"pulling {self.image}"
        if self.layers:
            words += f": {len(self.done)} of {len(self.layers)} layers"
        current, total = (sum(sizes) for sizes in zip(*self.loaded.values(), strict=True)) if self.loaded else (0, 0)
        if total:
            words += f", {current / _MB:.0f} of {total / _MB:.0f} MB, {100 * current // total} %"
        return words


def _pull_failure(image: str, error: NebulousError, login: Login | None) -> NebulousError:
    """Tell apart what waiting cannot help, what a login would, and what may pass."""
    words = error.message
    if isinstance(error, Rejected):
        return Rejected(f"image {image!r}: {words}", IMAGE_ADVICE)
    if _DISK_FULL in words:
        return _disk_full(f"image {image!r} could not be pulled")
    if "toomanyrequests" in words:
        return RateLimited(f"the registry of {image!r} asks for a pause: {words}", "log in: registry:", RATE_LIMIT_S)
    if _WRONG_MACHINE.search(words):
        return ImageNotFound(f"image {image!r} has no variant for this machine: {words}", "choose one that has")
    if isinstance(error, NotFound) or _ABSENT.search(words):
        advice = "check the name and the login" if login else "check the name; a private one needs registry:"
        return ImageNotFound(f"image {image!r} was not found or is not ours to read: {words}", advice)
    return Unavailable(f"image {image!r} could not be pulled: {words}", "check the Engine's way to the registry")


def _create_failure(image: str, error: NebulousError) -> NebulousError:
    if "No command specified" in error.message:
        return Rejected(f"image {image!r} has no command of its own", "set command:")
    if _DISK_FULL in error.message:
        return _disk_full("the container could not be created")
    if isinstance(error, Rejected):
        return Rejected(f"Docker refuses the container: {error.message}", "change what it names")
    return error


def _start_failure(seen: Mapping[str, Any], error: NebulousError) -> NebulousError:
    """What kept the command from starting, by the Engine's words: it answers 400, 404 or 500 without much system."""
    words = error.message
    if "could not select device driver" in words or "nvidia-container-cli" in words:
        return Rejected(f"this Engine cannot give a container a GPU: {words}", "install the NVIDIA Container Toolkit")
    if _DISK_FULL in words:
        return _disk_full("the command could not be started")
    if "exec:" in words and _NO_PROGRAM.search(words):
        return _no_program(seen, words)
    if isinstance(error, NotFound) and "network" in words:
        return NotFound(f"{seen['Name'][1:]!r} has lost its network: {words}")
    return error


def _no_program(seen: Mapping[str, Any], words: str = "") -> Rejected:
    program, image = str(seen["Path"]), seen["Config"]["Image"]
    because = f": {words}" if words else ""
    if program == "/bin/sh" and seen["Args"][:1] == ["-c"]:
        advice = 'use the list form of command: ["/program", "argument"]'
        return Rejected(f"image {image!r} has no /bin/sh to run a string command with{because}", advice)
    return Rejected(f"image {image!r} has no program {program!r}{because}", "correct command:, or the image")


def _disk_full(what: str) -> Unavailable:
    return Unavailable(f"{what}: the Engine's disk is full", "free space on it: docker system prune")
