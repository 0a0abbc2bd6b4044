"""Amazon EC2 through boto3, against moto with what moto lacks: what is rented, found, listed and given back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from activities.platforms import ec2_api
from activities.platforms.base import SEND_BY
from activities.platforms.ec2_instances import SETTLE_S
from nebulous.errors import AuthFailed, OutOfCapacity, Unavailable
from nebulous.ids import TAG_INSTALL, TAG_KEY
from nebulous.models.container_fields import Port
from nebulous.models.platforms import InstanceState
from tests.activities.platforms.ec2_stand import INSTALL, Amazon
from tests.doubles.ec2 import BEFORE, CUT, LOST
from tests.doubles.ec2_wire import Request


def launched(amazon: Amazon, key: str) -> int:
    return len(amazon.double.launched[key])


# --- one key, one machine -----------------------------------------------------------------------------


async def test_what_is_rented_carries_our_tags_and_is_found_and_listed(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    rented = await cloud.rent(order, amazon.offer())
    (found,) = await cloud.find(order.launch.key)
    (listed,) = await cloud.owned()
    for machine in (rented, found, listed):
        assert (machine.key, machine.install) == (order.launch.key, INSTALL)
        assert (machine.workflow, machine.life) == (order.launch.workflow, order.launch.metadata.id)
        assert (machine.account, machine.identity) == ("ec2:default", await cloud.identity())
        assert (machine.region, machine.zone) == ("us-east-1", "us-east-1a")
    assert rented.state == InstanceState.BOOTING
    assert found.state == InstanceState.READY
    assert found.ip
    assert found.created_at.endswith("Z")


async def test_the_same_key_rents_once_whoever_asks(amazon: Amazon):
    cloud, other, order, offer = amazon.cloud(), amazon.cloud(), amazon.order(), amazon.offer()
    first = await cloud.rent(order, offer)
    again = await other.rent(order, offer)
    assert again.id == first.id
    assert launched(amazon, order.launch.key) == 1


async def test_the_same_key_five_times_at_once_rents_once(amazon: Amazon):
    cloud, order, offer = amazon.cloud(), amazon.order(ports=[Port(port=80, public=True)]), amazon.offer()
    rented = await asyncio.gather(*(cloud.rent(order, offer) for _ in range(5)))
    assert len({machine.id for machine in rented}) == 1
    assert launched(amazon, order.launch.key) == 1


async def test_an_answer_that_is_lost_after_the_effect_rents_nothing_twice(amazon: Amazon):
    cloud, order, offer = amazon.cloud(), amazon.order(), amazon.offer()
    amazon.double.lose_answer("RunInstances")
    with pytest.raises(Unavailable):
        await cloud.rent(order, offer)
    assert len(amazon.double.made("RunInstances")) == 1, "a rent is one call"
    (machine,) = await cloud.find(order.launch.key)
    assert (await amazon.cloud().rent(order, offer)).id == machine.id
    assert launched(amazon, order.launch.key) == 1
    await cloud.delete(order.launch.key)
    assert await cloud.find(order.launch.key) == []
    assert amazon.double.living() == []


async def test_a_key_whose_request_changed_finds_what_it_rented_before(amazon: Amazon):
    """For example when the security group was made again in between."""
    cloud, order, offer = amazon.cloud(), amazon.order(), amazon.offer()
    first = await cloud.rent(order, offer)
    again = await cloud.rent(amazon.order(order.launch.key, disk_gib=200), offer)
    assert again.id == first.id
    assert launched(amazon, order.launch.key) == 1


async def test_a_key_whose_machine_was_given_back_rents_nothing_and_says_so(amazon: Amazon):
    cloud, order, offer = amazon.cloud(), amazon.order(), amazon.offer()
    await cloud.rent(order, offer)
    await cloud.delete(order.launch.key)
    with pytest.raises(OutOfCapacity, match="User initiated shutdown"):
        await cloud.rent(order, offer)
    assert launched(amazon, order.launch.key) == 1


async def test_a_sold_out_zone_leaves_nothing_and_the_next_is_had(amazon: Amazon):
    amazon.double.capacity = {"us-east-1a": 0, "us-east-1b g5.xlarge": 1}
    cloud, order = amazon.cloud(), amazon.order()
    with pytest.raises(OutOfCapacity, match=r"us-east-1a g5.xlarge is not to be had: .*InsufficientInstanceCapacity"):
        await cloud.rent(order, amazon.offer())
    assert len(amazon.double.made("RunInstances")) == 1
    assert (await cloud.rent(amazon.order(), amazon.offer("us-east-1b"))).zone == "us-east-1b"
    with pytest.raises(OutOfCapacity):
        await cloud.rent(amazon.order(), amazon.offer("us-east-1b"))


async def test_a_credential_refused_right_after_the_launch_does_not_say_that_nothing_was_rented(amazon: Amazon):
    def revoke(request: Request) -> str | None:
        amazon.double.revoked = bool(amazon.double.launched)
        return None

    amazon.double.strike = revoke
    cloud, order = amazon.cloud(), amazon.order()
    amazon.clock.now += 100_000
    assert (await cloud.rent(order, amazon.offer())).identity == "123456789012"
    with pytest.raises(AuthFailed):  # it is refused indeed
        await cloud.find(order.launch.key)
    assert launched(amazon, order.launch.key) == 1


async def test_a_changed_request_whose_machine_may_not_be_looked_at_does_not_say_that_nothing_was_rented(
    amazon: Amazon,
):
    cloud, order = amazon.cloud(), amazon.order()
    await cloud.rent(order, amazon.offer())
    amazon.double.denied = {"ec2:DescribeInstances"}
    with pytest.raises(Unavailable, match="something was rented under"):
        await cloud.rent(amazon.order(order.launch.key, disk_gib=200), amazon.offer())


async def test_a_launch_that_is_too_late_is_not_sent(amazon: Amazon):
    token = SEND_BY.set(time.time() - 1)
    try:
        with pytest.raises(Unavailable, match="too late to send"):
            await amazon.cloud().rent(amazon.order(), amazon.offer())
    finally:
        SEND_BY.reset(token)
    assert amazon.double.made("RunInstances") == []


# --- lists that are not complete yet, and ends --------------------------------------------------------


async def test_a_new_machine_that_no_list_shows_yet_is_not_gone(amazon: Amazon):
    amazon.double.invisible = 1_000
    cloud, order = amazon.cloud(), amazon.order()
    rented = await cloud.rent(order, amazon.offer())
    (found,) = await cloud.find(order.launch.key)
    assert (found.id, found.state) == (rented.id, InstanceState.BOOTING)
    assert [machine.id for machine in await cloud.owned()] == [rented.id]
    amazon.clock.now += SETTLE_S
    assert await cloud.find(order.launch.key) == []


async def test_a_machine_that_no_list_shows_yet_is_given_back(amazon: Amazon):
    amazon.double.invisible = 1_000
    cloud, order = amazon.cloud(), amazon.order()
    await cloud.rent(order, amazon.offer())
    await cloud.delete(order.launch.key)
    assert amazon.double.living() == []
    assert [machine.state for machine in await cloud.find(order.launch.key)] == [InstanceState.DELETING]
    amazon.clock.now += SETTLE_S
    assert await cloud.find(order.launch.key) == []


async def test_it_boots_runs_goes_and_is_gone(amazon: Amazon):
    amazon.double.pending, amazon.double.ending = 2, 2
    cloud, order = amazon.cloud(), amazon.order()
    await cloud.rent(order, amazon.offer())
    seen = [(await cloud.find(order.launch.key))[0].state for _ in range(3)]
    assert seen == [InstanceState.BOOTING, InstanceState.BOOTING, InstanceState.READY]
    await cloud.delete(order.launch.key)
    (going,) = await cloud.find(order.launch.key)
    assert going.state == InstanceState.DELETING
    await cloud.delete(order.launch.key)
    assert await cloud.find(order.launch.key) == []


async def test_the_spot_market_taking_it_back_is_seen_in_the_next_list(amazon: Amazon):
    amazon.double.ending = 1
    cloud, order = amazon.cloud(), amazon.order()
    machine = await cloud.rent(order, amazon.offer(spot=True))
    await cloud.owned()
    amazon.double.preempt(machine.id)
    (seen,) = await cloud.owned()
    assert seen.state == InstanceState.PREEMPTED
    assert "SpotInstanceTermination" in seen.message
    assert await cloud.owned() == []
    assert await cloud.find(order.launch.key) == []


async def test_a_machine_that_switched_itself_off_is_gone(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    machine = await cloud.rent(order, amazon.offer())
    amazon.double.power_off(machine.id)
    assert (await cloud.find(order.launch.key))[0].state == InstanceState.DELETING
    assert await cloud.find(order.launch.key) == []


async def test_a_machine_that_died_of_capacity_is_told_as_such(amazon: Amazon):
    cloud, order, offer = amazon.cloud(), amazon.order(), amazon.offer()
    machine = await cloud.rent(order, offer)
    amazon.double.fate(machine.id, "Server.InsufficientInstanceCapacity", "no capacity any more")
    with pytest.raises(OutOfCapacity, match="no capacity any more"):
        await cloud.rent(order, offer)


async def test_deleting_what_is_gone_or_never_was_is_success(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    await cloud.delete(order.launch.key)
    await cloud.rent(order, amazon.offer())
    for _ in range(2):
        await cloud.delete(order.launch.key)
    assert amazon.double.living() == []


# --- regions ------------------------------------------------------------------------------------------


async def test_after_a_restart_a_key_is_searched_for_in_every_region_once(amazon: Amazon):
    order = amazon.order()
    await amazon.cloud().rent(order, amazon.offer("us-west-2a"))
    other = amazon.cloud(regions=["us-east-1"])  # the settings changed meanwhile: what is rented is rented
    (found,) = await other.find(order.launch.key)
    assert found.region == "us-west-2"
    amazon.double.calls.clear()
    await other.delete(order.launch.key)
    assert {call.region for call in amazon.double.calls} == {"us-west-2"}
    assert amazon.double.living() == []


async def test_a_region_that_does_not_answer_proves_no_absence(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    amazon.double.fail("DescribeInstances", "InternalError", status=500, region="eu-west-1", times=4)
    with pytest.raises(Unavailable, match="eu-west-1"):
        await cloud.find(order.launch.key)
    assert await cloud.find(order.launch.key) == []


async def test_a_credential_that_is_refused_in_one_region_proves_no_absence(amazon: Amazon):
    """New keys spread from region to region; a machine there is not gone for that."""
    order = amazon.order()
    await amazon.cloud().rent(order, amazon.offer("eu-west-1a"))
    amazon.double.closed = {"eu-west-1"}
    other = amazon.cloud()
    for call in (other.find(order.launch.key), other.owned(), other.delete(order.launch.key)):
        with pytest.raises(AuthFailed):
            await call
    amazon.double.closed.clear()
    assert len(await other.find(order.launch.key)) == 1


async def test_a_region_that_an_organization_forbids_holds_up_no_proof(amazon: Amazon):
    words = "not authorized to perform: ec2:DescribeInstances with an explicit deny in a service control policy"
    amazon.double.fail("DescribeInstances", "UnauthorizedOperation", words, status=403, region="eu-west-1", times=99)
    cloud, order = amazon.cloud(), amazon.order()
    await amazon.cloud().rent(order, amazon.offer())
    assert len(await cloud.find(order.launch.key)) == 1
    assert await cloud.find("nebu-none") == []
    assert len(await cloud.owned()) == 1


async def test_a_region_where_something_was_rented_is_never_left_out_of_a_proof(amazon: Amazon):
    cloud = amazon.cloud()
    await cloud.rent(amazon.order(), amazon.offer("eu-west-1a"))
    words = "not authorized to perform: ec2:DescribeInstances with an explicit deny in a service control policy"
    amazon.double.fail("DescribeInstances", "UnauthorizedOperation", words, status=403, region="eu-west-1", times=99)
    with pytest.raises(AuthFailed):
        await cloud.find("nebu-none")


async def test_without_the_list_of_regions_a_machine_outside_of_the_settings_is_found(amazon: Amazon):
    order = amazon.order()
    await amazon.cloud().rent(order, amazon.offer("eu-west-1a"))
    amazon.double.denied = {"ec2:DescribeRegions"}
    assert len(await amazon.cloud(regions=["us-east-1"]).find(order.launch.key)) == 1


async def test_a_credential_refused_while_regions_are_listed_proves_no_absence(amazon: Amazon):
    order = amazon.order()
    await amazon.cloud().rent(order, amazon.offer("eu-west-1a"))
    amazon.double.fail("DescribeRegions", "AuthFailure", status=401)
    with pytest.raises(AuthFailed):
        await amazon.cloud(regions=["us-east-1"]).find(order.launch.key)


async def test_regions_in_use_are_listed_each_time_and_all_of_them_every_ten_minutes(amazon: Amazon):
    cloud = amazon.cloud()
    await cloud.rent(amazon.order(), amazon.offer("us-west-2a"))
    await amazon.cloud().rent(amazon.order(), amazon.offer("eu-west-1a"))  # by another worker
    assert len(await cloud.owned()) == 2

    async def asked() -> list[str]:
        amazon.double.calls.clear()
        assert len(await cloud.owned()) == 2
        return sorted(call.region for call in amazon.double.made("DescribeInstances"))

    assert await asked() == ["eu-west-1", "us-west-2"]
    amazon.clock.now += 599
    assert await asked() == ["eu-west-1", "us-west-2"]
    amazon.clock.now += 1
    assert await asked() == ["eu-west-1", "us-east-1", "us-west-2"]


async def test_a_thousand_machines_are_one_paginated_list(amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ec2_api, "ANSWER_S", 120.0)  # moto takes seconds for what takes Amazon tenths of one
    amazon.double.regions, amazon.double.page = {"us-east-1": True}, 3  # reservations
    cloud = amazon.cloud()
    await cloud.rent(amazon.order(), amazon.offer())
    behind = amazon.double.client()
    subnet = behind.describe_subnets()["Subnets"][0]["SubnetId"]
    for batch in range(10):
        tags = [{"Key": TAG_INSTALL, "Value": INSTALL}, {"Key": TAG_KEY, "Value": f"nebu-{batch}"}]
        behind.run_instances(
            ImageId="ami-1", InstanceType="g5.xlarge", MinCount=100, MaxCount=100, SubnetId=subnet,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )  # fmt: skip
    assert len(await cloud.owned()) == 1_001
    assert len(amazon.double.made("DescribeInstances")) == 4


# --- credentials that go ------------------------------------------------------------------------------


async def test_a_revoked_credential_loses_track_of_nothing(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    machine = await cloud.rent(order, amazon.offer())
    amazon.double.revoked = True
    for call in (cloud.find(order.launch.key), cloud.owned(), cloud.delete(order.launch.key), cloud.find("nebu-other")):
        with pytest.raises(AuthFailed, match="validate the provided access credentials"):
            await call
    with pytest.raises(AuthFailed):
        await cloud.rent(amazon.order(), amazon.offer())
    amazon.double.revoked = False
    assert [each.id for each in await cloud.owned()] == [machine.id]
    await cloud.delete(order.launch.key)
    assert amazon.double.living() == []


async def test_a_credential_without_a_permission_proves_nothing_either(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    await cloud.rent(order, amazon.offer())
    amazon.double.denied = {"ec2:DescribeInstances"}
    for each in (cloud, amazon.cloud()):
        with pytest.raises(AuthFailed) as refused:
            await each.find(order.launch.key)
        assert "ec2:DescribeInstances" in (refused.value.hint or "")


# --- a fault between any two calls ---------------------------------------------------------------------


class Struck:
    """Strikes one call of a story, counted from its beginning."""

    def __init__(self, number: int, how: str) -> None:
        self.number, self.how, self.count = number, how, 0

    def __call__(self, request: Request) -> str | None:
        self.count += 1
        return self.how if self.count == self.number else None


async def story(amazon: Amazon, strike: Struck, *, killed: bool) -> None:
    """A life as the workflow leads it: rent until an answer comes, then give back until absence is proved."""
    order, offer = amazon.order(ports=[Port(port=80, public=True)]), amazon.offer()
    amazon.double.strike = strike
    cloud = amazon.cloud(regions=["us-east-1"])
    for rents in (True, False):
        for _ in range(4):
            try:
                await (cloud.rent(order, offer) if rents else cloud.delete(order.launch.key))
                break
            except Unavailable:
                cloud = amazon.cloud(regions=["us-east-1"]) if killed else cloud
        else:
            raise AssertionError("one fault needs no four tries")
    while True:
        try:
            if not await cloud.find(order.launch.key):
                break
        except Unavailable:
            continue
    assert launched(amazon, order.launch.key) == 1, strike.__dict__


async def calls_of_a_story(amazon: Amazon) -> int:
    counting = Struck(0, BEFORE)
    await story(amazon, counting, killed=False)
    return counting.count


@pytest.mark.parametrize(("how", "killed"), [(BEFORE, False), (CUT, False), (LOST, False), (LOST, True)])
async def test_a_fault_at_any_call_leaves_nothing_and_rents_nothing_twice(amazon: Amazon, how: str, killed: bool):
    calls = await calls_of_a_story(amazon)
    assert calls >= 10
    for number in range(1, calls + 1):
        await sweep_groups(amazon)  # so that every story makes its own
        await story(amazon, Struck(number, how), killed=killed)
        assert amazon.double.living() == []
    assert amazon.double.volumes() == []
    await sweep_groups(amazon)
    assert amazon.double.groups() == []


async def sweep_groups(amazon: Amazon) -> None:
    amazon.double.strike = lambda request: None
    behind = amazon.double.client()
    for group in amazon.double.groups():
        behind.delete_security_group(GroupId=group["GroupId"])


# --- small things -------------------------------------------------------------------------------------


async def test_host_keys_are_read_from_the_console(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    machine = await cloud.rent(order, amazon.offer())
    assert await cloud.announced(machine) == []
    amazon.double.consoles[machine.id] = (
        "[    9.1] cloud-init[812]: nebulous-host-key: ssh-ed25519 AAAAC3Nza== root@ip-10-0-0-1\r\n"
        "nebulous-host-key: ssh-ed25519 AAAAC3Nza==\nnebulous-host-key: ssh-rsa AAAAB3=\nssh-ed25519 AAAAelse\n"
    )
    assert await cloud.announced(machine) == ["ssh-ed25519 AAAAC3Nza==", "ssh-rsa AAAAB3="]
    assert amazon.double.made("GetConsoleOutput")[0].form["Latest"] == "true"


async def test_a_console_of_an_older_kind_of_machine_is_read_too(amazon: Amazon):
    cloud = amazon.cloud()
    machine = await cloud.rent(amazon.order(), amazon.offer())
    amazon.double.consoles[machine.id] = "nebulous-host-key: ssh-ed25519 AAAA\n"
    amazon.double.fail("GetConsoleOutput", "UnsupportedOperation", "Latest is not supported")
    assert await cloud.announced(machine) == ["ssh-ed25519 AAAA"]


async def test_reads_are_patient_with_a_busy_amazon(amazon: Amazon):
    cloud = amazon.cloud()
    amazon.double.fail("DescribeInstances", "RequestLimitExceeded", status=503, times=2, region="us-east-1")
    assert await cloud.find("nebu-none") == []


async def test_a_rent_is_one_call_for_a_busy_amazon_too(amazon: Amazon):
    cloud = amazon.cloud()
    amazon.double.fail("RunInstances", "RequestLimitExceeded", status=503)
    with pytest.raises(Unavailable) as refused:
        await cloud.rent(amazon.order(), amazon.offer())
    assert type(refused.value).__name__ == "RateLimited"
    assert len(amazon.double.made("RunInstances")) == 1


async def test_a_word_for_a_state_that_was_never_seen_is_unknown(amazon: Amazon):
    from activities.platforms import ec2_instances

    row = {"InstanceId": "i-1", "State": {"Name": "hibernating"}, "Tags": [{"Key": TAG_KEY, "Value": "k"}]}
    machine = ec2_instances.instance(row, "ec2:default", "1", "us-east-1")
    assert (machine.state, machine.message) == (InstanceState.UNKNOWN, "Amazon calls it 'hibernating'")


def test_the_sdk_is_not_imported_before_it_is_used():
    code = "import sys, activities.platforms.ec2; sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
