"""The platform `docker` against a real Engine (`tests/docker_engine.py`): the contract, ownership, watching, GPUs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.platforms.base import Ask
from activities.platforms.docker import DockerPlatform
from nebulous.errors import AuthFailed, Conflict, OutOfCapacity, Rejected
from nebulous.models.platforms import Instance, InstanceState, Offer
from tests.activities.platforms.contract import INSTALL, PlatformContract, until
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.docker_builders import HOST, OnDocker

pytestmark = pytest.mark.docker


class TestDockerContract(OnDocker, RealExecContract, PlatformContract):
    """Every promise of `base.py`."""


class TestOwnership(OnDocker):
    async def test_a_foreign_container_with_our_name_is_a_conflict_and_is_left_alone(
        self, platform: DockerPlatform, api: httpx.AsyncClient
    ):
        launch = self.stays()
        body = {"Image": self.image, "Cmd": ["true"]}
        made = await api.post("/containers/create", params={"name": launch.key}, json=body)
        foreign = made.json()["Id"]
        try:
            with pytest.raises(Conflict) as refused:
                await self.rent(platform, launch)
            assert launch.key in (refused.value.hint or "")
            await platform.delete(launch.key)
            assert await platform.find(launch.key) == []
            assert (await api.get(f"/containers/{foreign}/json")).status_code == 200
        finally:
            await api.delete(f"/containers/{foreign}", params={"force": 1})

    async def test_a_container_of_another_life_is_not_adopted(self, platform: DockerPlatform):
        first = self.stays()
        await self.rent(platform, first)
        with pytest.raises(Conflict):
            await self.rent(platform, self.launch("true", key=first.key))

    async def test_instances_of_other_installs_are_listed_with_their_install(
        self, platform: DockerPlatform, docker_host: str, tmp_path: Path
    ):
        other = DockerPlatform(HOST, "otherinstall", docker_host, data_dir=tmp_path)
        launch = self.stays().model_copy(update={"install": "otherinstall"})
        await self.rent(other, launch)
        listed = {instance.key: instance.install for instance in await platform.owned()}
        assert listed[launch.key] == "otherinstall"
        await self.gone(other, launch.key)
        await other.close()

    async def test_a_rental_of_another_engine_is_refused_rather_than_called_gone(self, platform: DockerPlatform):
        elsewhere = Instance(key="k", id="0" * 64, account=platform.account, identity="ANOTHER:ENGINE")
        launch = self.stays()
        with pytest.raises(AuthFailed, match="ANOTHER:ENGINE"):
            await platform.start(elsewhere, launch, self.command(launch))
        with pytest.raises(AuthFailed, match="ANOTHER:ENGINE"):
            await platform.stop(elsewhere, 1)


class TestWatching(OnDocker):
    async def test_start_exit_and_removal_arrive_within_a_second(
        self, platform: DockerPlatform, api: httpx.AsyncClient
    ):
        launch = self.says_and_stays("up")
        rented = await self.rent(platform, launch)
        arrived: list[tuple[InstanceState, float]] = []

        async def listen() -> None:
            async with aclosing(platform.watch()) as changes:
                async for seen in changes:
                    if seen.key == launch.key:
                        assert (seen.life, seen.install) == (launch.metadata.id, INSTALL)
                        arrived.append((seen.state, time.monotonic()))

        async def after(act: Awaitable[Any], state: InstanceState) -> float:
            before = time.monotonic()
            await act

            async def told() -> bool:
                return any(seen is state for seen, _ in arrived)

            await until(told)
            return next(at for seen, at in arrived if seen is state) - before

        listening = asyncio.create_task(listen())
        path = f"/containers/{rented.id}"
        assert await after(api.post(f"{path}/start"), InstanceState.RUNNING) < 1
        assert await after(api.post(f"{path}/kill"), InstanceState.EXITED) < 1
        assert await after(api.delete(path), InstanceState.DELETING) < 1
        listening.cancel()

    async def test_a_listing_sees_a_second_run_of_what_it_knew_as_ended(self, platform: DockerPlatform):
        launch = self.exits(3)
        started = await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        for _ in range(2):
            assert await self.listed(platform, launch.key) == (InstanceState.EXITED, started.run)
        again = await self.start(platform, ended, launch)
        await self.over(platform, launch.key, again.run)
        assert await self.listed(platform, launch.key) == (InstanceState.EXITED, again.run)

    async def listed(self, platform: DockerPlatform, key: str) -> tuple[InstanceState, str | None]:
        (instance,) = [each for each in await platform.owned() if each.key == key]
        return instance.state, instance.run


class TestAccelerators(OnDocker):
    async def test_an_engine_without_gpus_says_so(self, platform: DockerPlatform):
        with pytest.raises(Rejected, match="this Engine has no GPU") as refused:
            await platform.offers(Ask(accelerators=["1:A100"]))
        assert "NVIDIA Container Toolkit" in (refused.value.hint or "")

    async def test_gpus_are_given_out_by_index_until_none_is_left(
        self, platform: DockerPlatform, api: httpx.AsyncClient, two_gpus: None
    ):
        offer = self.gpu_offer(platform)
        launches = [self.launch("true", resources={"max_memory": 1.0}) for _ in range(3)]
        for index, launch in enumerate(launches[:2]):
            self.rented.append(launch.key)
            (instance,) = await platform.create(launch, offer, self.command(launch))
            host = (await api.get(f"/containers/{instance.id}/json")).json()["HostConfig"]
            assert host["DeviceRequests"][0]["DeviceIDs"] == [str(index)]
            assert host["ShmSize"] == 2**29
            assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {"memlock": -1, "stack": 64 << 20}
        with pytest.raises(OutOfCapacity, match="0 of 2 A100-80GB-SXM are free"):
            await platform.create(launches[2], offer, self.command(launches[2]))
        await self.gone(platform, launches[0].key)
        self.rented.append(launches[2].key)
        await platform.create(launches[2], offer, self.command(launches[2]))

    async def test_a_driver_that_cannot_give_a_gpu_makes_the_start_fail_clearly(
        self, platform: DockerPlatform, two_gpus: None
    ):
        launch = self.launch("true")
        self.rented.append(launch.key)
        (instance,) = await platform.create(launch, self.gpu_offer(platform), self.command(launch))
        with pytest.raises(Rejected, match="Docker has no driver for GPUs"):
            await platform.start(instance, launch, self.command(launch))

    def gpu_offer(self, platform: DockerPlatform) -> Offer:
        return Offer(platform="docker", account=platform.account, accelerator="A100-80GB-SXM", accelerator_count=1)

    @pytest.fixture
    def two_gpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        smi = tmp_path / "bin" / "nvidia-smi"
        smi.parent.mkdir()
        smi.write_text("#!/bin/sh\necho NVIDIA A100-SXM4-80GB\necho NVIDIA A100-SXM4-80GB\n")
        smi.chmod(0o755)
        monkeypatch.setenv("PATH", str(smi.parent), prepend=":")
