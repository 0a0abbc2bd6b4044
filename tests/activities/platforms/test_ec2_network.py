"""Security groups: SSH for the workers alone, declared ports for the world, and none that nobody uses."""

from __future__ import annotations

from typing import Any

import pytest

from activities.platforms import ec2_network
from nebulous.errors import Unavailable
from nebulous.ids import TAG_INSTALL
from nebulous.models.container_fields import Port
from tests.activities.platforms.ec2_stand import HERE, INSTALL, Amazon


def opened(group: dict[str, Any]) -> set[tuple[str, int, str]]:
    return {
        (rule["IpProtocol"], rule["FromPort"], each.get("CidrIp") or each["CidrIpv6"])
        for rule in group["IpPermissions"]
        for each in [*rule["IpRanges"], *rule.get("Ipv6Ranges", [])]
    }


def named(amazon: Amazon, end: str) -> dict[str, Any]:
    (group,) = [group for group in amazon.double.groups() if group["GroupName"].endswith(end)]
    return group


async def test_ssh_is_open_to_the_workers_range_alone_and_one_group_serves_all(amazon: Amazon):
    for cloud in (amazon.cloud(), amazon.cloud()):
        for _ in range(2):
            await cloud.rent(amazon.order(), amazon.offer())
    (group,) = amazon.double.groups()
    assert group["GroupName"] == f"nebulous-{INSTALL}-ssh"
    assert opened(group) == {("tcp", 22, HERE)}
    assert {"Key": TAG_INSTALL, "Value": INSTALL} in group["Tags"]
    (rented, *_) = amazon.double.living()
    assert [each["GroupId"] for each in rented["NetworkInterfaces"][0]["Groups"]] == [group["GroupId"]]


async def test_the_world_reaches_the_declared_ports_and_one_group_serves_each_set(amazon: Amazon):
    cloud = amazon.cloud()
    ports = [Port(port=8000, protocol="http", public=True), Port(port=53, protocol="udp", public=True)]
    machine = await cloud.rent(amazon.order(ports=ports), amazon.offer())
    await cloud.rent(amazon.order(ports=ports[::-1]), amazon.offer())
    await cloud.rent(amazon.order(ports=ports[:1]), amazon.offer())
    assert len(amazon.double.groups()) == 3
    both = named(amazon, "-tcp8000-udp53")
    world = {("tcp", 8000, "0.0.0.0/0"), ("tcp", 8000, "::/0"), ("udp", 53, "0.0.0.0/0"), ("udp", 53, "::/0")}
    assert opened(both) == world
    (rented,) = [row for row in amazon.double.living() if row["InstanceId"] == machine.id]
    groups = {each["GroupName"] for each in rented["NetworkInterfaces"][0]["Groups"]}
    assert groups == {f"nebulous-{INSTALL}-ssh", f"nebulous-{INSTALL}-tcp8000-udp53"}


async def test_many_ports_have_a_name_that_fits(amazon: Amazon):
    ports = [Port(port=30_000 + 2 * number, public=True) for number in range(20)]
    await amazon.cloud().rent(amazon.order(ports=ports), amazon.offer())
    (group,) = [each for each in amazon.double.groups() if not each["GroupName"].endswith("-ssh")]
    assert len(group["GroupName"]) <= 120
    assert len(opened(group)) == 40


async def test_ports_in_a_row_are_one_rule(amazon: Amazon):
    """Amazon allows sixty rules."""
    ports = [Port(port=number, public=True) for number in [*range(30_000, 30_100), 80]]
    await amazon.cloud().rent(amazon.order(ports=ports), amazon.offer())
    group = named(amazon, "-tcp80-tcp30000to30099")
    rules = {(rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissions"]}
    assert rules == {(80, 80), (30_000, 30_099)}


async def test_a_worker_that_moved_is_let_in_from_where_it_is_and_nowhere_else(amazon: Amazon):
    cloud = amazon.cloud()
    machine = await cloud.rent(amazon.order(), amazon.offer())
    group = named(amazon, "-ssh")["GroupId"]
    amazon.double.client().authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": "192.0.2.0/24", "Description": "nebulous worker another"}],
            }
        ],
    )
    moved = amazon.cloud("198.51.100.9")
    for _ in range(2):
        await moved.admit(machine)
        assert opened(named(amazon, "-ssh")) == {("tcp", 22, "198.51.100.9/32"), ("tcp", 22, "192.0.2.0/24")}
    await cloud.admit(machine)
    assert opened(named(amazon, "-ssh")) == {("tcp", 22, HERE), ("tcp", 22, "192.0.2.0/24")}


async def test_a_range_of_the_newer_protocol_is_let_in_too(amazon: Amazon):
    await amazon.cloud("2001:db8::/56").rent(amazon.order(), amazon.offer())
    assert opened(named(amazon, "-ssh")) == {("tcp", 22, "2001:db8::/56")}


async def test_groups_that_no_machine_uses_are_taken_away_and_the_others_stay(amazon: Amazon):
    cloud = amazon.cloud()
    await cloud.rent(amazon.order(), amazon.offer())
    going = amazon.order(ports=[Port(port=80, public=True)])
    await cloud.rent(going, amazon.offer())
    await cloud.delete(going.launch.key)
    await cloud.owned()
    assert len(amazon.double.groups()) == 2, "what was just handed out may be in a request under way"
    amazon.clock.now += ec2_network.KEPT_S
    await cloud.owned()
    (left,) = amazon.double.groups()
    assert left["GroupName"].endswith("-ssh"), "a machine uses it"
    await cloud.rent(amazon.order(ports=[Port(port=80, public=True)]), amazon.offer())
    assert len(amazon.double.groups()) == 2


async def test_groups_of_others_are_never_touched(amazon: Amazon):
    client = amazon.double.client()
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": TAG_INSTALL, "Value": "another"}]}]
    vpc = client.describe_vpcs()["Vpcs"][0]["VpcId"]
    client.create_security_group(GroupName="nebulous-another-ssh", Description="-", VpcId=vpc, TagSpecifications=tags)
    client.create_security_group(GroupName="theirs", Description="-", VpcId=vpc)
    await amazon.cloud().owned()
    assert len(amazon.double.groups()) == 2


async def test_a_group_that_was_taken_away_meanwhile_is_made_again(amazon: Amazon):
    cloud = amazon.cloud()
    await cloud.rent(amazon.order(), amazon.offer())
    group = named(amazon, "-ssh")["GroupId"]
    amazon.double.fail("RunInstances", "InvalidGroup.NotFound", f"The security group '{group}' does not exist")
    order = amazon.order()
    machine = await cloud.rent(order, amazon.offer())
    assert amazon.double.launched[order.launch.key] == [machine.id]


async def test_a_group_whose_maker_got_no_further_is_opened_by_the_next(amazon: Amazon):
    amazon.double.fail("AuthorizeSecurityGroupIngress", "InternalError", status=500)
    cloud, order = amazon.cloud(), amazon.order()
    with pytest.raises(Unavailable):
        await cloud.rent(order, amazon.offer())
    assert opened(named(amazon, "-ssh")) == set()
    await cloud.rent(order, amazon.offer())
    assert opened(named(amazon, "-ssh")) == {("tcp", 22, HERE)}


async def test_a_group_of_our_name_that_is_not_ours_is_said_to_be_in_the_way(amazon: Amazon):
    client = amazon.double.client()
    vpc = client.describe_vpcs()["Vpcs"][0]["VpcId"]
    client.create_security_group(GroupName=f"nebulous-{INSTALL}-ssh", Description="-", VpcId=vpc)
    with pytest.raises(Unavailable) as refused:
        await amazon.cloud().rent(amazon.order(), amazon.offer())
    assert "delete it" in (refused.value.hint or "")
    assert amazon.double.living() == []
