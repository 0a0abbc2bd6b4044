"""What an Engine's refusals mean for whoever asked: pure translation of its words, which have little system."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from activities.runtimes import docker_gpus
from activities.runtimes.docker_config import IMAGE_ADVICE
from nebulous.errors import (
    ImageNotFound,
    NebulousError,
    NotFound,
    PortTaken,
    RateLimited,
    Rejected,
    Unavailable,
)
from nebulous.ids import TAG_IMAGE

RATE_LIMIT_S = 5.0  # then its container is pending, with longer pauses, and says why

_ABSENT = re.compile(
    r"not found|manifest unknown|unknown blob|does not exist|denied|unauthorized|forbidden|authentication required"
    r"|basic auth"
)
#: What of the Engine's words tells people nothing, and takes the room of what does.
_NOISE = re.compile(
    r"(Head|Get) \"[^\"]*\": |pull access denied for \S+, repository does not exist or may require 'docker login': "
)
_WRONG_MACHINE = re.compile(r"no matching manifest|does not match the specified platform")
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory|permission denied")
#: In the log of a program that the kernel refused; docker-init then tries /bin/sh, and may complain of that instead.
NOT_EXECUTED = re.compile(rb"exec format error|\[FATAL tini \(\d+\)\] exec ", re.IGNORECASE)
_PORT_TAKEN = re.compile(r"port is already allocated|address already in use|failed to bind host port")
WRONG = "choose an image, or a tag of it, that has a variant for this machine"
_DISK_FULL = "no space left on device"


def named(config: Mapping[str, Any]) -> str:
    """The image of a container as the spec calls it."""
    labels: Mapping[str, str] = config.get("Labels") or {}
    return labels.get(TAG_IMAGE) or str(config.get("Image"))


def pull_failure(image: str, error: NebulousError, logged_in: bool) -> NebulousError:
    """Tell apart what waiting cannot help, what a login would, and what may pass."""
    words = _NOISE.sub("", error.message)
    if isinstance(error, Rejected):
        return Rejected(f"image {image!r}: {words}", IMAGE_ADVICE)
    if _DISK_FULL in words:
        return _disk_full(f"image {image!r} could not be pulled")
    if "toomanyrequests" in words:
        return RateLimited(f"the registry of {image!r} asks for a pause: {words}", "log in: registry:", RATE_LIMIT_S)
    if _WRONG_MACHINE.search(words):
        return ImageNotFound(f"image {image!r} has no variant for this machine: {words}", "choose one that has")
    if isinstance(error, NotFound) or _ABSENT.search(words):
        advice = "check the name and the login" if logged_in else "check the name; a private one needs registry:"
        return ImageNotFound(f"image {image!r} was not found or is not ours to read: {words}", advice)
    return Unavailable(f"image {image!r} could not be pulled: {words}", "check the Engine's way to the registry")


def create_failure(image: str, error: NebulousError) -> NebulousError:
    """What kept a container from being made."""
    if "No command specified" in error.message:
        return Rejected(f"image {image!r} has no command of its own", "set command:")
    if _DISK_FULL in error.message:
        return _disk_full("the container could not be created")
    if isinstance(error, Rejected):
        return Rejected(f"Docker refuses the container: {error.message}", "change what it names")
    return error


def start_failure(seen: Mapping[str, Any], error: NebulousError) -> NebulousError:
    """What kept the command from starting, by the Engine's words: it answers 400, 404 or 500 without much system."""
    words = error.message
    if gpu := docker_gpus.start_failure(words):
        return gpu
    if _PORT_TAKEN.search(words):
        asked: dict[str, Any] = seen["HostConfig"].get("PortBindings") or {}
        ports = ", ".join(asked)
        hint = "free it (who has it? ss -ltnp, docker ps), choose another one, or leave out `public`"
        return PortTaken(f"public port {ports} is taken on the Engine's machine: {words}", hint)
    if _DISK_FULL in words:
        return _disk_full("the command could not be started")
    if "exec:" in words and _NO_PROGRAM.search(words):
        return no_program(seen, words)
    if isinstance(error, NotFound) and "network" in words:
        return NotFound(f"{seen['Name'][1:]!r} has lost its network: {words}")
    return error


def no_program(seen: Mapping[str, Any], words: str = "") -> Rejected:
    """The program of a container is not in its image."""
    program, image = str(seen["Path"]), named(seen["Config"])
    because = f": {words}" if words else ""
    if program == "/bin/sh" and seen["Args"][:1] == ["-c"]:
        advice = 'use the list form of command: ["/program", "argument"]'
        return Rejected(f"image {image!r} has no /bin/sh to run a string command with{because}", advice)
    return Rejected(f"image {image!r} has no program {program!r}{because}", "correct command:, or the image")


def _disk_full(what: str) -> Unavailable:
    return Unavailable(f"{what}: the Engine's disk is full", "free space on it: docker system prune")
