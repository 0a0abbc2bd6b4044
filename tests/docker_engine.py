"""Fixtures for tests that need a Docker Engine; `tests/conftest.py` imports them.

The Engine is NEBU_TEST_DOCKER_HOST, else the user's own if it answers, else one that is started for the session
(`dockerd.py`). Without any the test is skipped, or fails where NEBU_TEST_REQUIRE_DOCKER=1. The image is made of this
machine's files, so that no test needs a network.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from tests.dockerd import Dockerd, answers, dockerd, why_not

USERS_OWN = "unix:///var/run/docker.sock"
APPLETS = """sh cat cut dd echo env false grep head httpd id kill ls mkdir nc printf pwd rm seq sleep stty tail
 tee timeout true wc yes"""
PATH = "/bin:/usr/bin"


@pytest.fixture(scope="session")
def engine() -> Iterator[Dockerd]:
    """The Engine of this test session."""
    given = os.environ.get("NEBU_TEST_DOCKER_HOST", "")
    own = os.environ.get("DOCKER_HOST") or USERS_OWN
    if given or answers(own):
        yield Dockerd(given or own, init_pid=os.getpid())
        return
    if reason := why_not():
        without(f"no Docker Engine answers at {own}, and {reason}")
    with dockerd() as started:
        yield started


@pytest.fixture(scope="session")
def docker_host(engine: Dockerd) -> str:
    """The Engine's address, such as unix:///…"""
    return engine.host


@pytest.fixture(scope="session")
def image(docker_host: str) -> Iterator[str]:
    """An image with a shell and the usual small programs, and such as look up names."""
    with imported(docker_host, small_system(), f"ENV PATH={PATH}") as name:
        yield name


class imported:  # noqa: N801 - reads like a context manager function
    """An image for the block: a tar archive as its only layer, and lines of a Dockerfile on top."""

    def __init__(self, docker_host: str, archive: bytes, *changes: str) -> None:
        self._client = client(docker_host)
        self._archive, self._changes = archive, list(changes)
        self._name = f"nebu-test/{uuid.uuid4().hex[:8]}:1"

    def __enter__(self) -> str:
        repo, _, tag = self._name.partition(":")
        wanted: dict[str, Any] = {"fromSrc": "-", "repo": repo, "tag": tag, "changes": self._changes}
        self._client.post("/images/create", params=wanted, content=self._archive).raise_for_status()
        return self._name

    def __exit__(self, *_: object) -> None:
        self._client.delete(f"/images/{self._name}", params={"force": 1})
        self._client.close()


def async_client(docker_host: str) -> httpx.AsyncClient:
    """A plain client of the Engine's API, to look at what the product did with other eyes."""
    if docker_host.startswith("unix://"):
        transport = httpx.AsyncHTTPTransport(uds=docker_host.removeprefix("unix://"))
        return httpx.AsyncClient(transport=transport, base_url="http://docker", timeout=60)
    return httpx.AsyncClient(base_url=docker_host.replace("tcp://", "http://"), timeout=60)


def client(docker_host: str) -> httpx.Client:
    """The same for tests that wait in place."""
    if docker_host.startswith("unix://"):
        transport = httpx.HTTPTransport(uds=docker_host.removeprefix("unix://"))
        return httpx.Client(transport=transport, base_url="http://docker", timeout=60)
    return httpx.Client(base_url=docker_host.replace("tcp://", "http://"), timeout=60)


def small_system() -> bytes:
    """busybox does everything but names: linked statically, it crashes in glibc's resolver; getent and bash are not."""
    busybox, *others = host_programs("busybox", "getent", "bash")
    files = {"/bin/busybox": Path(busybox)}
    for program in others:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files |= {path: Path(path) for path in [program, *re.findall(r"(/\S+)", listed)]}
    texts = {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    links = {f"/bin/{applet}": "busybox" for applet in APPLETS.split()}
    return archive_of(files, texts, links, folders=["/tmp", "/root", "/sbin", "/var", "/proc", "/sys", "/dev"])


def host_programs(*names: str) -> list[str]:
    """Where these programs are on this machine; skips the test where one is not."""
    found = {name: shutil.which(name) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        without(f"the test image needs {', '.join(missing)} (run: bash .ci/docker.sh)")
    return [path for path in found.values() if path]


def archive_of(
    files: dict[str, Path],
    texts: dict[str, str] | None = None,
    links: dict[str, str] | None = None,
    folders: list[str] | None = None,
) -> bytes:
    """A tar archive: programs copied from this machine, small texts, links, empty folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in folders or []:
            _add(tar, folder, None, type=tarfile.DIRTYPE, mode=0o1777 if folder == "/tmp" else 0o755)
        for path, source in files.items():
            _add(tar, path, source.resolve().read_bytes(), mode=0o755)
        for path, text in (texts or {}).items():
            _add(tar, path, text.encode())
        for path, target in (links or {}).items():
            _add(tar, path, None, type=tarfile.SYMTYPE, linkname=target)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes | None, **attributes: Any) -> None:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.mode = 0o644
    for name, value in attributes.items():
        setattr(entry, name, value)
    entry.size = len(content or b"")
    tar.addfile(entry, io.BytesIO(content) if content is not None else None)


def without(reason: str) -> NoReturn:
    """Skip a test, or fail it where all that needs an Engine is asked for."""
    if os.environ.get("NEBU_TEST_REQUIRE_DOCKER") == "1":
        pytest.fail(f"NEBU_TEST_REQUIRE_DOCKER=1, but {reason}")
    pytest.skip(reason)
