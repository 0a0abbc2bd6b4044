"""What runs in a Docker Engine: pull, create, start, stop, inspect, logs, events.

Knows nothing of offers or namespaces, so it serves the platform `docker` and, through a tunnel, an Engine on a rented
machine. Container and image are the Engine's own JSON here; `docker_config.py` gives them meaning.
"""

from __future__ import annotations

import base64
import json
import math
import posixpath
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities.platforms.base import Progress
from activities.runtimes import docker_config, docker_failures
from activities.runtimes.docker_config import DEFAULT_PATH, Image
from activities.runtimes.docker_engine import Engine, filters
from activities.runtimes.docker_failures import named
from nebulous.errors import Conflict, ImageNotFound, NebulousError, NotFound, Rejected, Unavailable

#: Copying an image for a container takes minutes where the Engine has no overlay file system.
CREATE_S = 120.0
#: How much longer than the grace a stop may take: the kill, and cutting the network.
STOP_MARGIN_S = 30.0
REMOVE_S = 120.0
KILL_SAID_S = 0.5  # the Engine tells of a kill after it is done
LAST_LINES = 5
SIGKILL = "9"  # as events write it
HUB = "https://index.docker.io/v1/"  # what the Engine calls the registry of images without a registry

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

    async def bring(self, image: str, login: Login | None, progress: Progress, digest: str = "") -> Image:
        """Pull the image unless it is there, `:latest` too: the rule that Kubernetes calls IfNotPresent.

        With a digest it is that very image, if the Engine or the registry still has it, and else what the name means.

        Raises:
            ImageNotFound: No such image, none for this machine, or not ours to read.
            Unavailable: The registry does not answer, or the disk is full.
        """
        try:
            if pinned := await self.known(image, digest) if digest else None:
                return pinned
            if digest and (again := await self._pinned(image, digest, login, progress)):
                return again
            if found := await self.known(image):
                return found
            await self._pull(image, login, progress)
            if found := await self.known(image):
                return found
            raise Unavailable("the pull ended without the image")
        except NebulousError as error:
            raise error if error.hint else docker_failures.pull_failure(image, error, login is not None) from error

    async def known(self, image: str, digest: str = "") -> Image | None:
        """The image as the Engine has it: of that digest, or else what its name means now; None when it has not."""
        names = [f"{docker_config.repository_of(image)}@{digest}", digest] if digest else [image]
        for name in names:
            with suppress(NotFound):
                return Image.of(image, await self.engine.get(f"images/{name}/json"), digest)
        return None

    async def _pinned(self, image: str, digest: str, login: Login | None, progress: Progress) -> Image | None:
        """Pull by digest; None when the registry has it no more, or never had."""
        try:
            await self._pull(f"{docker_config.repository_of(image)}@{digest}", login, progress)
        except NebulousError as error:
            failure = error if error.hint else docker_failures.pull_failure(image, error, login is not None)
            if isinstance(failure, Rejected):
                return None
            raise failure from error
        return await self.known(image, digest)

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Make a container, not started, and return its id.

        Raises:
            Conflict: The name is taken. Rejected: the Engine refuses the configuration.
            Unavailable: It may have been made all the same.
        """
        try:
            made = await self.engine.post("containers/create", {"name": name}, body, CREATE_S)
        except NotFound as error:
            raise ImageNotFound(f"image {named(body)!r} is not on the Engine any more", "create it again") from error
        except Conflict:
            raise
        except NebulousError as error:
            raise docker_failures.create_failure(named(body), error) from error
        return str(made["Id"])

    async def inspect(self, container: str) -> Mapping[str, Any]:
        """Everything about a container, by id or name; `OOMKilled` also where the Engine missed it.

        Beside it stands why a program cannot run on such a machine at all, which only its log tells.

        Raises:
            NotFound: There is none.
        """
        seen = await self.engine.get(f"containers/{container}/json")
        if docker_config.killed_at_limit(seen) and not await self._signalled(seen):
            seen["State"]["OOMKilled"] = True
        architecture = docker_config.failed_abroad(seen)
        if architecture and await self._could_not_execute(container):
            what = f"image {named(seen['Config'])!r} is made for {architecture}, and this machine cannot run that"
            words = f"{what}: {docker_failures.WRONG}"
            seen["State"][docker_config.WRONG_MACHINE] = words
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
            raise docker_failures.start_failure(seen, error) from error

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

    async def _signalled(self, seen: Mapping[str, Any]) -> bool:
        """True when somebody told the Engine to kill the container's last run."""
        since, until = (datetime.fromisoformat(seen["State"][at]).timestamp() for at in ("StartedAt", "FinishedAt"))
        wanted = filters(type=["container"], container=[str(seen["Id"])], event=["kill"])
        span = {"since": f"{since:.6f}", "until": f"{until + KILL_SAID_S:.6f}"}
        async with aclosing(self.engine.lines("GET", "events", {"filters": wanted, **span})) as kills:
            signals = [kill["Actor"]["Attributes"].get("signal") async for kill in kills]
        return SIGKILL in signals

    async def _could_not_execute(self, container: str) -> bool:
        """True when the kernel refused the program; whoever started it says so in the log, and nowhere else."""
        try:
            text = b"".join([piece async for piece in self.logs(container, follow=False, tail=LAST_LINES)])
        except NotFound:
            return False
        return bool(docker_failures.NOT_EXECUTED.search(text))

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
        raise docker_failures.no_program(seen)


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
