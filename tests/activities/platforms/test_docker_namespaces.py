"""Namespaces on a real Engine: one network each, names inside it, nothing across, gone when it stays empty."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from activities.platforms.docker import DockerPlatform
from activities.runtimes import docker_networks
from activities.runtimes.docker_networks import LINGER_S
from nebulous import ids
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.models.containers import Launch
from tests.activities.platforms.contract import INSTALL
from tests.activities.platforms.docker_builders import HOST, OnDocker

pytestmark = pytest.mark.docker


class TestNamespaces(OnDocker):
    def named(self, command: str, name: str, namespace: str, owner: str = "local") -> Launch:
        launch = self.launch(command)
        launch.metadata.name, launch.metadata.namespace, launch.metadata.owner = name, namespace, owner
        return launch

    async def networks(self, api: httpx.AsyncClient) -> list[str]:
        """The namespaces that have a network, once for each network."""
        filters = json.dumps({"label": [f"{ids.TAG_INSTALL}={INSTALL}"]})
        listed = await api.get("/networks", params={"filters": filters})
        return [network["Labels"][ids.TAG_NAMESPACE] for network in listed.json()]

    async def test_containers_of_a_namespace_reach_each_other_by_name_and_others_do_not(self, platform: DockerPlatform):
        server = self.named("mkdir /www; echo served > /www/x; exec httpd -f -p 8080 -h /www", "Web.Server", "blue")
        started = await self.run(platform, server)
        assert started.ip
        ask = (
            "exec 2>/dev/null; host=$(timeout 3 getent hosts web-server | cut -d' ' -f1); echo host=$host; "
            f"timeout 2 bash -c 'exec 3<>/dev/tcp/{started.ip}/8080; "
            'printf "GET /x HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3\' | tail -n 1 | grep . || echo unreachable'
        )
        neighbour = self.named(ask, "neighbour", "blue")
        strangers = [self.named(ask, "stranger", "green"), self.named(ask, "stranger", "blue", owner="others")]
        told = await asyncio.gather(*(self.output(platform, each) for each in (neighbour, *strangers)))
        assert told[0] == (0, f"host={started.ip}\nserved\n")
        for _, text in told[1:]:
            assert text == "host=\nunreachable\n"

    async def test_a_network_goes_after_the_last_container_of_its_namespace(
        self, platform: DockerPlatform, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ):
        first, second = self.named("true", "one", "short-lived"), self.named("true", "two", "short-lived")
        await self.rent(platform, first)
        await self.output(platform, second)
        await self.gone(platform, second.key)
        assert "local/short-lived" in await self.networks(api)  # needed by one that has not even been started
        await self.gone(platform, first.key)
        await platform.owned()  # as the sweep does
        assert "local/short-lived" in await self.networks(api)  # it waits for the next
        monkeypatch.setattr(docker_networks, "monotonic", lambda: time.monotonic() + LINGER_S)
        await self.rent(platform, first)
        await platform.owned()
        assert "local/short-lived" in await self.networks(api)  # it came, so the wait begins anew
        await self.gone(platform, first.key)
        await platform.owned()
        assert "local/short-lived" in await self.networks(api)
        monkeypatch.setattr(docker_networks, "monotonic", lambda: time.monotonic() + 2 * LINGER_S)
        await platform.owned()
        assert "local/short-lived" not in await self.networks(api)

    async def test_a_worker_that_ends_removes_the_empty_networks(
        self, platform: DockerPlatform, reopen: Callable[[], DockerPlatform], api: httpx.AsyncClient
    ):
        other, lasting, passing = reopen(), self.named("true", "a", "lasting"), self.named("true", "b", "passing")
        await self.rent(other, lasting)
        await self.rent(other, passing)
        await self.gone(other, passing.key)
        await other.close()
        left = await self.networks(api)
        assert "local/lasting" in left
        assert "local/passing" not in left
        await self.gone(platform, lasting.key)

    async def test_many_at_once_share_one_network_whoever_makes_it(
        self, platform: DockerPlatform, reopen: Callable[[], DockerPlatform], api: httpx.AsyncClient
    ):
        other = reopen()
        launches = [self.named("true", f"c{number}", "crowd") for number in range(6)]
        await asyncio.gather(
            *(self.rent(each, launch) for each, launch in zip([platform, other] * 3, launches, strict=True))
        )
        assert (await self.networks(api)).count("local/crowd") == 1
        await other.close()

    async def test_coming_and_going_at_once_never_leaves_a_container_without_its_network(
        self, platform: DockerPlatform, reopen: Callable[[], DockerPlatform]
    ):
        other = reopen()
        for number in range(3):
            going, coming = self.named("true", f"g{number}", "busy"), self.named("true", f"c{number}", "busy")
            await self.rent(platform, going)
            _, rented = await asyncio.gather(self.gone(platform, going.key), self.rent(other, coming))
            await self.start(platform, rented, coming)
            await self.gone(platform, coming.key)
        await other.close()

    async def test_a_refused_container_leaves_no_network_behind(self, platform: DockerPlatform, api: httpx.AsyncClient):
        launch = self.named("true", "refused", "refusing")
        launch.spec["resources"] = {"max_memory": 0.0001}
        with pytest.raises(Rejected, match="memory"):
            await self.rent(platform, launch)
        assert "local/refusing" not in await self.networks(api)

    async def test_a_used_up_pool_is_out_of_capacity(self, docker_host: str, tmp_path: Path):
        small = DockerPlatform(HOST, INSTALL, docker_host, "10.214.7.0/24", tmp_path)
        await self.rent(small, self.named("true", "one", "first"))
        with pytest.raises(OutOfCapacity, match=r"10\.214\.7\.0/24"):
            await self.rent(small, self.named("true", "two", "second"))
        for key in self.rented:
            await self.gone(small, key)
        await small.close()

    @pytest.mark.parametrize("pool", ["nonsense", "10.0.0.0/30", "fd00::/64"])
    async def test_a_pool_that_is_none_is_refused_by_its_setting(self, docker_host: str, pool: str):
        with pytest.raises(Rejected, match="NEBU_DOCKER_SUBNETS") as refused:
            DockerPlatform(HOST, INSTALL, docker_host, pool)
        assert pool in refused.value.message
