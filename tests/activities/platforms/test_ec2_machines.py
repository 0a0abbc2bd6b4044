"""Rented machines at Amazon: the contract, with boto3 on one side and guests on the other, and one life end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from activities.platforms.ec2 import Ec2Cloud
from activities.platforms.machines import MachinePlatform
from activities.platforms.origin import Origin
from nebulous.accounts import Ec2Account
from nebulous.errors import OutOfCapacity
from nebulous.models.platforms import InstanceState
from tests.activities.platforms.contract import INSTALL, PlatformContract, text_of, until
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.ec2_stand import HERE
from tests.activities.platforms.machine_builders import SECRET_KEY, OnMachines
from tests.docker_engine import without
from tests.doubles.ec2 import Ec2Double
from tests.doubles.guests import Guests, why_not

pytestmark = pytest.mark.docker


class OnEc2(OnMachines):
    """The builders, on guests that boto3 rented."""

    @pytest.fixture
    def world(self, ec2: Ec2Double, docker_host: str, tmp_path: Path) -> Iterator[Ec2Double]:
        if reason := why_not():
            without(reason)
        ec2.regions = {"us-east-1": True}
        with Guests(docker_host, tmp_path / "guests", ec2.switched_off) as guests:
            ec2.guests = guests
            yield ec2

    @pytest.fixture
    def reopen(self, world: Ec2Double, tmp_path: Path) -> Callable[[], MachinePlatform]:
        def opened() -> MachinePlatform:
            cloud = Ec2Cloud("test", INSTALL, Ec2Account(), Origin(HERE, "http://127.0.0.1:9/"))
            return MachinePlatform(cloud, INSTALL, SECRET_KEY, tmp_path / "data", "10.213.0.0/16")

        return opened

    @pytest.fixture
    async def platform(self, reopen: Callable[[], MachinePlatform]) -> AsyncIterator[MachinePlatform]:
        opened = reopen()
        yield opened
        await opened.close()


class TestEc2Contract(OnEc2, RealExecContract, PlatformContract):
    """Every promise of a platform, but that a key whose machine was given back rents again."""

    async def test_a_deleted_key_can_rent_again(self, platform: MachinePlatform, world: Ec2Double):
        """It cannot: Amazon goes on answering with the dead machine, so that a late retry of a create rents nothing.

        No key is used again, because the number of the try is in it (`workflows.container_life.next_key`).
        """
        launch = self.stays()
        await self.run(platform, launch)
        await self.gone(platform, launch.key)
        with pytest.raises(OutOfCapacity, match="User initiated shutdown"):
            await self.rent(platform, launch)
        assert len(world.launched[launch.key]) == 1
        assert world.living() == []


class TestEc2Life(OnEc2):
    """boto3, EC2's API, SSH, Docker, exit code."""

    async def test_a_command_runs_on_a_machine_of_amazons_and_leaves_nothing(
        self, platform: MachinePlatform, world: Ec2Double
    ):
        launch = self.says_and_exits("hello from a machine", 7)
        started = await self.run(platform, launch)
        ended = await self.over(platform, launch.key, started.run)
        assert ended.exit
        assert ended.exit.code == 7
        assert "hello from a machine" in await text_of(platform, ended)
        (rented,) = world.living()
        assert ended.ip == world.machines[rented["InstanceId"]].address
        await self.gone(platform, launch.key)
        assert world.living() == []
        assert world.volumes() == []
        assert not world.machines[rented["InstanceId"]].alive

    async def test_a_machine_that_switches_itself_off_is_gone_at_amazon_too(
        self, platform: MachinePlatform, world: Ec2Double
    ):
        launch = self.stays()
        await self.run(platform, launch)
        (rented,) = world.living()
        world.machines[rented["InstanceId"]].run("shutdown -h now")

        async def gone() -> bool:
            return not await platform.find(launch.key)

        await until(gone, self.patience_s)
        assert world.living() == []

    async def test_a_reclaim_by_the_spot_market_is_seen(self, platform: MachinePlatform, world: Ec2Double):
        world.ending = 100
        launch = self.stays()
        await self.run(platform, launch)
        (rented,) = world.living()
        world.preempt(rented["InstanceId"])
        (seen,) = [each for each in await platform.owned() if each.key == launch.key]
        assert seen.state == InstanceState.PREEMPTED
        world.ending = 0
