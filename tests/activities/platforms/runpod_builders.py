"""What the tests of RunPod share: a double with containers on the session's Engine, and an image with sshd."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.runpod import RunpodPlatform
from nebulous.accounts import RunpodAccount
from nebulous.models.containers import Launch
from tests.activities.platforms.contract import INSTALL, Renting
from tests.activities.platforms.runpod_bare import SECRET_KEY
from tests.docker_engine import PATH, archive_of, host_programs, imported, small_system
from tests.dockerd import Dockerd
from tests.doubles.runpod import KEY, RunpodDouble

PASSWD = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n"
    "nobody:x:65534:65534::/:/bin/false\n"
}


def with_sshd() -> bytes:
    """The small system, and this machine's OpenSSH server with all that it loads."""
    (sshd,) = host_programs("sshd")
    listed = subprocess.run(["ldd", sshd], capture_output=True, text=True, check=True).stdout
    files = {path: Path(path) for path in ["/usr/sbin/sshd", *re.findall(r"(/\S+)", listed)]}
    return joined(small_system(), archive_of(files, PASSWD, {"/bin/date": "busybox"}, ["/run"]))


def joined(*archives: bytes) -> bytes:
    """One archive; of what is in several the last counts, for an Engine takes no name twice."""
    entries = {entry.name: (source, entry) for each in archives for source in [_tar(each)] for entry in source}
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as into:
        for source, entry in entries.values():
            into.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
    return whole.getvalue()


def _tar(archive: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(archive))


@pytest.fixture(scope="session")
def ssh_image(docker_host: str) -> Iterator[str]:
    with imported(docker_host, with_sshd(), f"ENV PATH={PATH}") as name:
        yield name


class OnRunpod(Renting):
    """The builders, on pods."""

    image: str
    patience_s = 40.0

    @pytest.fixture
    def double(self, engine: Dockerd, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunpodDouble]:
        with RunpodDouble(engine.host, engine.init_pid) as double:
            monkeypatch.setenv("NEBU_RUNPOD_API", double.url)
            monkeypatch.setenv("RUNPOD_API_KEY", KEY)
            yield double

    @pytest.fixture
    def reopen(self, double: RunpodDouble, tmp_path: Path) -> Callable[[], RunpodPlatform]:
        return lambda: RunpodPlatform("test", INSTALL, RunpodAccount(), SECRET_KEY, tmp_path)

    @pytest.fixture
    async def platform(self, reopen: Callable[[], RunpodPlatform]) -> AsyncIterator[RunpodPlatform]:
        opened = reopen()
        opened._list._apart_s = 0.05
        yield opened
        await opened.close()

    @pytest.fixture(autouse=True)
    def _image(self, image: str) -> None:
        self.image = image

    def launch(self, command: str | list[str] | None, **options: Any) -> Launch:
        return super().launch(command, **{"image": self.image, **options})
