"""What the tests of the platform `docker` share: platforms on the session's Engine, and builders with its image."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.platforms.docker import DockerPlatform
from nebulous.models.containers import Launch
from tests.activities.platforms.contract import INSTALL, Renting, text_of
from tests.docker_engine import async_client

HOST = "testhost"


class OnDocker(Renting):
    """The builders, with the test image."""

    image: str

    @pytest.fixture
    def reopen(self, docker_host: str, tmp_path: Path) -> Callable[[], DockerPlatform]:
        return lambda: DockerPlatform(HOST, INSTALL, docker_host, data_dir=tmp_path)

    @pytest.fixture
    async def platform(self, reopen: Callable[[], DockerPlatform]) -> AsyncIterator[DockerPlatform]:
        opened = reopen()
        yield opened
        await opened.close()

    @pytest.fixture
    async def api(self, docker_host: str) -> AsyncIterator[httpx.AsyncClient]:
        """Other eyes on the Engine than the product's."""
        async with async_client(docker_host) as opened:
            yield opened

    @pytest.fixture(autouse=True)
    def _image(self, image: str) -> None:
        self.image = image

    def launch(self, command: str | list[str] | None, **options: Any) -> Launch:
        return super().launch(command, **{"image": self.image, **options})

    async def output(self, platform: DockerPlatform, launch: Launch) -> tuple[int, str]:
        """Run a launch to its end; its exit code and what it wrote."""
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        assert ended.exit
        return ended.exit.code, await text_of(platform, ended)
