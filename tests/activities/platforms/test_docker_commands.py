"""Commands in containers of a real Engine: how they start, what they get, how they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from activities.platforms.docker import DockerPlatform
from nebulous.errors import OutOfCapacity, Rejected
from tests.activities.platforms.docker_builders import OnDocker
from tests.docker_engine import archive_of, host_programs, imported, small_system

pytestmark = pytest.mark.docker


class TestCommands(OnDocker):
    async def test_quotes_newlines_and_dollars_in_the_environment_arrive_intact(self, platform: DockerPlatform):
        value = 'it\'s "so" $HOME `x`\n\\two=2\tend '
        launch = self.launch('printf "%s" "$VALUE"', env_vars=[{"key": "VALUE", "value": value}])
        assert await self.output(platform, launch) == (0, value)

    async def test_a_string_command_replaces_the_entrypoint_and_expands_variables(
        self, platform: DockerPlatform, with_entrypoint: str
    ):
        launch = self.launch('echo "$NEBU_NAMESPACE"; exit 4', image=with_entrypoint)
        assert await self.output(platform, launch) == (4, "default\n")

    async def test_a_list_replaces_the_entrypoint_and_is_not_looked_at_by_a_shell(
        self, platform: DockerPlatform, with_entrypoint: str
    ):
        launch = self.launch(["printf", "%s", "$HOME;"], image=with_entrypoint)
        assert await self.output(platform, launch) == (0, "$HOME;")

    async def test_without_a_command_the_image_runs_its_own(self, platform: DockerPlatform, with_entrypoint: str):
        assert await self.output(platform, self.launch(None, image=with_entrypoint)) == (0, "entry own words\n")

    async def test_args_go_to_the_image_own_entrypoint(self, platform: DockerPlatform, with_entrypoint: str):
        launch = self.launch(None, args=["mine", "$HOME"], image=with_entrypoint)
        assert await self.output(platform, launch) == (0, "entry mine $HOME\n")

    async def test_a_string_command_in_an_image_without_a_shell_says_to_use_the_list(
        self, platform: DockerPlatform, without_shell: str
    ):
        launch = self.launch("true", image=without_shell)
        rented = await self.rent(platform, launch)
        with pytest.raises(Rejected) as refused:
            await platform.start(rented, launch, self.command(launch))
        assert "no /bin/sh" in refused.value.message
        assert "list form" in (refused.value.hint or "")

    async def test_a_list_command_needs_no_shell(self, platform: DockerPlatform, without_shell: str):
        assert await self.output(platform, self.launch(["/true"], image=without_shell)) == (0, "")

    async def test_a_shell_alone_ends_on_sigterm(self, platform: DockerPlatform):
        """As process 1 without an init it would ignore it, and every stop would last the whole grace."""
        launch = self.launch("echo ready; sleep 300; echo never")
        started = await self.run(platform, launch)
        await self.said(platform, started, "ready")
        begun = time.monotonic()
        stopped = await platform.stop(started, 20)
        assert time.monotonic() - begun < 10
        assert stopped.exit
        assert stopped.exit.code == 143

    async def test_more_memory_than_allowed_ends_as_out_of_memory(self, platform: DockerPlatform):
        greedy = ["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"]
        launch = self.launch(greedy, resources={"max_memory": 32 / 1024})
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        assert ended.exit
        assert (ended.exit.code, ended.exit.oom) == (137, True)

    async def test_a_kill_at_a_limit_that_the_engine_cannot_explain_counts_as_out_of_memory(
        self, platform: DockerPlatform
    ):
        """A busy Engine misses a third of them: to it, they look like this."""
        launch = self.launch("kill -9 $$", resources={"max_memory": 32 / 1024})
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        assert ended.exit
        assert (ended.exit.code, ended.exit.oom) == (137, True)

    @pytest.mark.parametrize("resources", [{"max_memory": 32 / 1024}, None])
    async def test_a_kill_that_somebody_asked_for_is_not_out_of_memory(
        self, platform: DockerPlatform, api: httpx.AsyncClient, resources: dict[str, float] | None
    ):
        launch = self.launch("echo ready; sleep 300", resources=resources)
        started = await self.run(platform, launch)
        await self.said(platform, started, "ready")
        (await api.post(f"/containers/{started.id}/kill")).raise_for_status()
        ended = await self.over(platform, launch.key)
        assert ended.exit
        assert (ended.exit.code, ended.exit.oom) == (137, False)

    async def test_limits_and_reservations_reach_the_engine(self, platform: DockerPlatform, api: httpx.AsyncClient):
        resources = {"min_cpu": 0.5, "max_cpu": 4096, "min_memory": 0.25, "max_memory": 0.5}
        launch = self.launch("true", resources=resources, shm_size=0.125, stop_grace="7s")
        rented = await self.rent(platform, launch)
        seen = (await api.get(f"/containers/{rented.id}/json")).json()
        limits, processors = seen["HostConfig"], (await api.get("/info")).json()["NCPU"]
        assert (limits["NanoCpus"], limits["CpuShares"]) == (processors * 10**9, 512)
        assert (limits["Memory"], limits["MemorySwap"], limits["MemoryReservation"]) == (2**29, 2**29, 2**28)
        assert (limits["ShmSize"], limits["RestartPolicy"]["Name"]) == (2**27, "no")
        assert seen["Config"]["StopTimeout"] == 7

    async def test_a_machine_too_small_for_the_minimum_is_out_of_capacity(self, platform: DockerPlatform):
        launch = self.launch("true", resources={"min_memory": 1e6})
        with pytest.raises(OutOfCapacity, match="min_memory is 1e\\+06"):
            await platform.prepare(launch, self.command(launch), print)

    async def test_ten_megabytes_of_log_stream_whole_and_in_small_pieces(self, platform: DockerPlatform):
        launch = self.launch("yes $(printf '%01023d' 7) | head -c 10485760; printf '%070000d' 7")
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        size, largest, end = 0, 0, b""
        async for chunk in platform.logs(ended):
            size, largest, end = size + len(chunk), max(largest, len(chunk)), (end + chunk)[-70000:]
        assert size == 10485760 + 70000
        assert largest < 1 << 20
        assert end == b"0" * 69999 + b"7"


@pytest.fixture(scope="module")
def with_entrypoint(docker_host: str) -> Iterator[str]:
    changes = ["ENV PATH=/bin:/usr/bin", 'ENTRYPOINT ["echo", "entry"]', 'CMD ["own", "words"]']
    with imported(docker_host, small_system(), *changes) as name:
        yield name


@pytest.fixture(scope="module")
def without_shell(docker_host: str) -> Iterator[str]:
    (busybox,) = host_programs("busybox")
    with imported(docker_host, archive_of({"/true": Path(busybox)})) as name:
        yield name
