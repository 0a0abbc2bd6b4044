"""How images get to a real Engine, from a registry that fails by script."""

from __future__ import annotations

import platform as machine
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from activities.platforms.base import Command
from activities.platforms.docker import DockerPlatform
from nebulous.errors import ImageNotFound, RateLimited, Rejected, Unavailable
from tests.activities.platforms.docker_builders import OnDocker
from tests.docker_engine import archive_of
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry

pytestmark = pytest.mark.docker

Say = Callable[[str], None]


def nothing(_: str) -> None:
    """Progress that nobody reads."""


class TestImages(OnDocker):
    @pytest.fixture
    def registry(self, engine: Dockerd) -> Iterator[Registry]:
        with Registry(engine.init_pid, machine=_architecture()) as running:
            yield running

    @pytest.fixture
    async def pulled(self, api: httpx.AsyncClient) -> AsyncIterator[Callable[[str], str]]:
        names: list[str] = []
        yield lambda name: names.append(name) or name
        for name in names:
            await api.delete(f"/images/{name}", params={"force": 1})

    async def prepare(self, platform: DockerPlatform, image: str, say: Say = nothing, **login: str) -> None:
        launch = self.launch("true", image=image)
        await platform.prepare(launch, Command(env={}, **login), say)

    async def test_a_missing_image_is_pulled_with_words_of_progress_and_then_not_again(
        self, platform: DockerPlatform, registry: Registry, pulled: Callable[[str], str]
    ):
        image = pulled(registry.add("tools/random", _some_megabytes()))
        words: list[str] = []
        await self.prepare(platform, image, words.append)
        assert words[0] == f"pulling {image}"
        assert any("MB" in each and "%" in each for each in words)
        assert "1 of 1 layers" in words[-1]
        asked = len(registry.requests)
        await self.prepare(platform, image)
        assert len(registry.requests) == asked

    async def test_an_unknown_image_is_not_found_and_the_hint_names_the_registry_login(
        self, platform: DockerPlatform, registry: Registry
    ):
        with pytest.raises(ImageNotFound) as refused:
            await self.prepare(platform, f"{registry.address}/no/such:7")
        assert f"{registry.address}/no/such:7" in refused.value.message
        assert "registry:" in (refused.value.hint or "")

    async def test_a_private_image_needs_the_right_login(
        self, platform: DockerPlatform, engine: Dockerd, pulled: Callable[[str], str]
    ):
        with Registry(engine.init_pid, login=("ada", "s3cret"), machine=_architecture()) as registry:
            image = pulled(registry.add("private/hello", archive_of({}, {"/hello": "hello"})))
            with pytest.raises(ImageNotFound) as refused:
                await self.prepare(platform, image)
            assert "registry:" in (refused.value.hint or "")
            with pytest.raises(ImageNotFound) as refused:
                await self.prepare(platform, image, registry_username="ada", registry_password="wrong")
            assert "login" in (refused.value.hint or "")
            await self.prepare(platform, image, registry_username="ada", registry_password="s3cret")

    @pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, Unavailable)])
    async def test_a_registry_in_trouble_is_worth_another_try(
        self, platform: DockerPlatform, registry: Registry, status: int, kind: type[Unavailable]
    ):
        image = registry.add("tools/hello", archive_of({}, {"/hello": "hello"}))
        registry.fail_with = status
        with pytest.raises(kind) as failure:
            await self.prepare(platform, image)
        assert type(failure.value) is kind
        assert image in failure.value.message

    async def test_a_registry_that_does_not_answer_is_unavailable(self, platform: DockerPlatform):
        with pytest.raises(Unavailable, match="could not be pulled"):
            await self.prepare(platform, "127.0.0.1:9/nobody/listens:1")

    @pytest.mark.parametrize("image", ["UPPER/case:1", "a b", "../containers", "http://x/y", "name:"])
    async def test_what_cannot_be_an_image_is_rejected(self, platform: DockerPlatform, image: str):
        with pytest.raises(Rejected) as refused:
            await self.prepare(platform, image)
        assert repr(image) in refused.value.message
        assert "NAME[:TAG]" in (refused.value.hint or "")

    async def test_no_image_at_all_is_rejected(self, platform: DockerPlatform):
        launch = self.launch("true", image=None)
        with pytest.raises(Rejected, match="needs an image"):
            await platform.prepare(launch, self.command(launch), nothing)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())


def _some_megabytes() -> bytes:
    return archive_of({}, {"/random": "".join(uuid.uuid4().hex for _ in range(100_000))})
