"""The line to an Engine: what is not there, may not be touched, breaks, or is newer than we are."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from activities.runtimes.docker import DockerRuntime
from activities.runtimes.docker_engine import Engine, negotiated
from nebulous.errors import (
    AuthFailed,
    Conflict,
    ImageNotFound,
    NebulousError,
    NoAccelerator,
    NotFound,
    Rejected,
    Unavailable,
)
from tests.doubles.engine import ScriptedEngine, broken_off, response, whole


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for a socket's path has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="nebu-") as name:
        yield Path(name)


@pytest.fixture
async def scripted(folder: Path) -> AsyncIterator[ScriptedEngine]:
    async with ScriptedEngine(folder / "engine.sock").listening() as listening:
        yield listening


@pytest.fixture
async def engine(scripted: ScriptedEngine) -> AsyncIterator[Engine]:
    opened = Engine(scripted.host)
    yield opened
    await opened.close()


def frame(text: bytes, stream: int = 1) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


class TestReach:
    async def test_an_engine_that_is_not_there_is_unavailable_and_the_hint_says_what_to_start_or_set(
        self, folder: Path
    ):
        await self.silent(f"unix://{folder}/nothing.sock")

    async def test_a_socket_that_nobody_listens_on_any_more_is_unavailable(self, folder: Path):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(folder / "stale.sock"))
        await self.silent(f"unix://{folder}/stale.sock")

    async def test_a_port_that_nobody_listens_on_is_unavailable(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        await self.silent(address)

    async def silent(self, address: str) -> None:
        engine = Engine(address)
        with pytest.raises(Unavailable) as failure:
            await engine.get("info")
        assert failure.value.message == f"Docker does not answer at {address}"
        assert "start it" in (failure.value.hint or "")
        assert "NEBU_DOCKER_HOST" in (failure.value.hint or "")
        await engine.close()

    async def test_what_is_no_address_is_said_to_be_none(self):
        with pytest.raises(Unavailable, match=r"'docker\.example' is no address"):
            await Engine("docker.example").get("info")

    async def test_the_address_comes_from_docker_host_unless_it_is_set(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path
    ):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/from-environment.sock")
        assert Engine().address.endswith("from-environment.sock")
        assert Engine("unix:///set.sock").address == "unix:///set.sock"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    async def test_a_socket_that_may_not_be_touched_is_an_auth_failure_that_says_how_to_get_in(
        self, scripted: ScriptedEngine, folder: Path
    ):
        folder.chmod(0o711)
        scripted.socket.chmod(0o600)
        program = (
            "import asyncio, os, sys\n"
            "from activities.runtimes.docker_engine import Engine\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "async def main():\n"
            "    engine = Engine(sys.argv[1])\n"
            "    try: await engine.get('info')\n"
            "    except Exception as error: print(type(error).__name__, error, error.hint, sep='|')\n"
            "    finally: await engine.close()\n"
            "asyncio.run(main())\n"
        )
        command = [sys.executable, "-c", program, scripted.host]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
        kind, message, hint = told.decode().strip().split("|")
        assert kind == "AuthFailed"
        assert scripted.host in message
        assert "group docker" in hint


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(400, Rejected), (401, AuthFailed), (403, AuthFailed), (404, NotFound), (409, Conflict), (500, Unavailable)],
    )
    async def test_a_refusal_is_named_for_what_to_do_next_and_keeps_the_engine_words(
        self, scripted: ScriptedEngine, engine: Engine, status: int, kind: type[NebulousError]
    ):
        scripted.answer = response(status, b'{"message": "its own words"}')
        with pytest.raises(NebulousError) as failure:
            await engine.post("anything")
        assert (type(failure.value), failure.value.message) == (kind, "its own words")

    async def test_an_answer_that_is_no_json_is_kept_as_words(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answer = response(502, b"<html>proxy</html>", "text/html")
        with pytest.raises(Unavailable, match="<html>proxy</html>"):
            await engine.get("info")

    async def test_a_connection_that_closes_without_an_answer_is_unavailable(
        self, scripted: ScriptedEngine, engine: Engine
    ):
        scripted.answer = b""
        with pytest.raises(Unavailable, match="the connection broke"):
            await engine.post("anything")

    async def test_garbage_is_unavailable(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answer = b"SSH-2.0-OpenSSH_9.2\r\n"
        with pytest.raises(Unavailable, match="the connection broke"):
            await engine.get("info")

    async def test_an_engine_that_came_back_newer_is_asked_again_what_it_speaks(
        self, scripted: ScriptedEngine, engine: Engine
    ):
        await engine.get("info")
        scripted.answer = b""
        with pytest.raises(Unavailable):
            await engine.post("anything")
        scripted.version = {"ApiVersion": "1.52", "MinAPIVersion": "1.44"}
        scripted.answer = response(200, b"{}")
        await engine.get("info")
        assert [line for line in scripted.requests if "info" in line] == [
            "GET /v1.41/info HTTP/1.1",
            "GET /v1.44/info HTTP/1.1",
        ]


class TestStreams:
    async def test_frames_are_joined_however_they_are_cut(self, scripted: ScriptedEngine, engine: Engine):
        stream = frame(b"out\n") + frame(b"err\n", 2) + frame(b"") + frame(b"x" * 70_000)
        scripted.answer = whole(*(stream[start : start + 5] for start in range(0, len(stream), 5)))
        text = b"".join([piece async for piece in engine.frames("containers/c/logs", {})])
        assert text == b"out\nerr\n" + b"x" * 70_000

    async def test_logs_that_break_off_are_an_error_and_no_end(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answer = broken_off(frame(b"first\n"), frame(b"second\n")[:9])
        stream = engine.frames("containers/c/logs", {})
        assert await anext(stream) == b"first\n"
        with pytest.raises(Unavailable, match="the connection broke"):
            await anext(stream)

    async def test_a_pull_that_breaks_off_is_an_error_and_no_success(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answer = broken_off(b'{"status": "Downloading"}\r\n')
        stream = engine.lines("POST", "images/create", {})
        assert await anext(stream) == {"status": "Downloading"}
        with pytest.raises(Unavailable, match="the connection broke"):
            await anext(stream)

    @pytest.mark.parametrize(
        ("words", "kind", "message", "hint"),
        [
            ("write /var/lib/docker/x: no space left on device", Unavailable, "disk is full", "docker system prune"),
            ("no matching manifest for linux/arm64/v8 in the manifest list", ImageNotFound, "no variant", "choose one"),
            ("unexpected EOF", Unavailable, "could not be pulled: unexpected EOF", "way to the registry"),
        ],
    )
    async def test_an_error_inside_a_pull_is_named_for_what_to_do_next(
        self, scripted: ScriptedEngine, engine: Engine, words: str, kind: type[NebulousError], message: str, hint: str
    ):
        scripted.answers["images/tools:1/json"] = response(404, b'{"message": "No such image"}')
        scripted.answers["images/create"] = whole(json.dumps({"error": words}).encode() + b"\r\n")
        with pytest.raises(NebulousError) as failure:
            await DockerRuntime(engine).bring("tools:1", None, print)
        assert type(failure.value) is kind
        assert message in failure.value.message
        assert hint in (failure.value.hint or "")

    async def test_a_pull_that_ends_without_the_image_is_no_success(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answers["images/tools:1/json"] = response(404, b'{"message": "No such image"}')
        scripted.answers["images/create"] = whole(b'{"status": "Downloading"}\r\n')
        with pytest.raises(Unavailable, match="ended without the image"):
            await DockerRuntime(engine).bring("tools:1", None, print)


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.52", "1.44", "1.44"), ("1.47", "1.24", "1.41"), ("1.40", "1.12", "1.40")],
)
def test_the_newest_known_version_within_what_the_engine_can_is_spoken(newest: str, oldest: str, spoken: str):
    assert negotiated({"ApiVersion": newest, "MinAPIVersion": oldest}) == spoken


CLI = "nvidia-container-cli: "
NEEDS = f"{CLI}requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version"


class TestStarts:
    """What the Engine of a machine with GPUs says, and what it means; nothing here has one."""

    @pytest.mark.parametrize(
        ("words", "meaning", "hint"),
        [
            ('could not select device driver "" with capabilities: [[gpu]]', "no driver for GPUs", "nvidia-ctk"),
            ("unknown or invalid runtime name: nvidia", "no runtime `nvidia`", "nvidia-ctk"),
            (
                f"{CLI}initialization error: nvml error: driver/library version mismatch: unknown",
                "loaded is not the one that is installed",
                "restart the machine",
            ),
            (NEEDS, "newer NVIDIA driver", "older CUDA"),
            (f"{CLI}initialization error: nvml error: driver not loaded", "is not loaded", "modprobe nvidia"),
            (
                f"{CLI}initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file",
                "is not installed",
                "nvidia-smi must work",
            ),
            (f"{CLI}device error: 3: unknown device: unknown", "not there any more", "nvidia-smi -L"),
            (f"{CLI}something new: unknown", "cannot give a container a GPU", "nvidia-ctk"),
        ],
    )
    async def test_what_the_driver_says_becomes_a_reason_and_what_to_do(
        self, scripted: ScriptedEngine, engine: Engine, words: str, meaning: str, hint: str
    ):
        prefix = "failed to create task for container: OCI runtime create failed: "
        scripted.answers["/start"] = response(500, json.dumps({"message": prefix + words}).encode())
        with pytest.raises(NoAccelerator) as failure:
            await DockerRuntime(engine).start("c0ffee", {"HostConfig": {}, "Config": {"Image": "x"}, "Path": "true"})
        assert meaning in failure.value.message
        assert words in failure.value.message
        assert hint in (failure.value.hint or "")
        assert failure.value.type == "NoAccelerator"

    async def test_what_has_nothing_to_do_with_gpus_is_not_taken_for_it(self, scripted: ScriptedEngine, engine: Engine):
        scripted.answers["/start"] = response(500, b'{"message": "no such device: loop7"}')
        with pytest.raises(Unavailable, match="loop7"):
            await DockerRuntime(engine).start("c0ffee", {"HostConfig": {}, "Config": {"Image": "x"}, "Path": "true"})
