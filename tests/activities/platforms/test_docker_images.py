"""How images get to a real Engine, from a registry that fails by script."""

from __future__ import annotations

import platform as machine
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from activities.platforms.base import Ask, Command
from activities.platforms.docker import DockerPlatform
from nebulous.errors import ImageNotFound, RateLimited, Rejected, Unavailable
from nebulous.models.platforms import Feature
from tests.activities.platforms.contract import until
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

    async def prepare(
        self, platform: DockerPlatform, image: str, say: Say = nothing, digest: str = "", **login: str
    ) -> str:
        launch = self.launch("true", image=image).model_copy(update={"image_digest": digest})
        return await platform.prepare(launch, Command(env={}, **login), say)

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

    async def removed(self, api: httpx.AsyncClient, *names: str) -> None:
        """Remove an image under all its names, and see that it is gone."""

        async def gone() -> bool:
            for name in names:
                await api.delete(f"/images/{name}", params={"force": 1})
            return {(await api.get(f"/images/{name}/json")).status_code for name in names} == {404}

        await until(gone)

    async def test_its_digest_is_told_and_brings_the_same_image_again_when_the_name_means_another(
        self, platform: DockerPlatform, registry: Registry, pulled: Callable[[str], str], api: httpx.AsyncClient
    ):
        image = pulled(registry.add("tools/moves", archive_of({}, {"/one": uuid.uuid4().hex})))
        first = await self.prepare(platform, image)
        assert first.startswith("sha256:")
        await api.delete(f"/images/{image}", params={"force": 1})
        registry.add("tools/moves", archive_of({}, {"/two": "two"}))
        pinned = pulled(f"{image.rpartition(':')[0]}@{first}")
        assert await self.prepare(platform, image, digest=first) == first
        (await api.get(f"/images/{pinned}/json")).raise_for_status()
        second = await self.prepare(platform, image)
        assert second not in ("", first)
        assert await self.prepare(platform, image, digest=first) == first
        assert await self.prepare(platform, image) == second

    async def test_a_digest_that_nobody_has_any_more_gives_way_to_what_the_name_means(
        self, platform: DockerPlatform, registry: Registry, pulled: Callable[[str], str], api: httpx.AsyncClient
    ):
        image = pulled(registry.add("tools/lost", archive_of({}, {"/one": uuid.uuid4().hex})))
        first = await self.prepare(platform, image)
        await self.removed(api, image, f"{image.rpartition(':')[0]}@{first}")
        registry.forget("tools/lost")
        registry.add("tools/lost", archive_of({}, {"/two": uuid.uuid4().hex}))
        assert await self.prepare(platform, image, digest=first) not in ("", first)

    async def test_an_image_that_never_was_in_a_registry_is_known_by_its_id(
        self, platform: DockerPlatform, api: httpx.AsyncClient
    ):
        digest = await self.prepare(platform, self.image)
        assert digest == (await api.get(f"/images/{self.image}/json")).json()["Id"]
        assert await self.prepare(platform, self.image, digest=digest) == digest

    async def test_an_offer_says_that_the_image_is_there_so_that_nobody_prepares_it(self, platform: DockerPlatform):
        (offer,) = await platform.offers(Ask(image=self.image))
        assert Feature.PULL_FIRST not in offer.features
        assert offer.image_digest == await self.prepare(platform, self.image)
        (again,) = await platform.offers(Ask(image=self.image, image_digest=offer.image_digest))
        assert again == offer

    @pytest.mark.parametrize("image", ["no/such:7", "Not An Image", ""])
    async def test_an_offer_leaves_to_prepare_what_is_to_be_said_of_an_image(
        self, platform: DockerPlatform, image: str
    ):
        (offer,) = await platform.offers(Ask(image=image))
        assert Feature.PULL_FIRST in offer.features
        (offer,) = await platform.offers(Ask(image=image, image_digest=f"sha256:{'0' * 64}"))
        assert Feature.PULL_FIRST in offer.features

    async def test_an_image_for_another_architecture_says_so_when_it_has_failed(
        self, platform: DockerPlatform, engine: Dockerd, pulled: Callable[[str], str], tmp_path: Path
    ):
        """The Engine takes it, because an emulator may run it; this one has none for such a program."""
        program = tmp_path / "program"
        program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(100))
        with Registry(engine.init_pid, machine="riscv64") as registry:
            image = pulled(registry.add("tools/foreign", archive_of({"/bin/program": program})))
            await self.prepare(platform, image)
        launch = self.launch(["/bin/program"], image=image)
        await self.run(platform, launch)
        ended = (await self.over(platform, launch.key)).exit
        assert ended
        assert ended.code != 0
        assert f"image {image!r} is made for riscv64" in ended.wrong_machine
        assert "variant for this machine" in ended.wrong_machine

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

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_registry_that_refuses_is_told_apart_from_one_in_trouble(
        self, platform: DockerPlatform, registry: Registry, status: int
    ):
        image = registry.add("tools/hello", archive_of({}, {"/hello": "hello"}))
        registry.fail_with = status
        with pytest.raises(ImageNotFound, match="not ours to read") as refused:
            await self.prepare(platform, image)
        assert image in refused.value.message
        assert "registry:" in (refused.value.hint or "")

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
