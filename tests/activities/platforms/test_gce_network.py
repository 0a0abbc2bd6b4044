"""Who reaches machines of Google Compute Engine: workers to SSH, the world to public ports, nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nebulous.errors import AuthFailed, OutOfCapacity, Unavailable
from nebulous.models.container_fields import Port
from tests.activities.platforms import gce_builders as builders
from tests.doubles.gce import Gce

HERE = f"{builders.HERE}/32"
PORTS = [Port(port=8080, public=True), Port(port=5353, protocol="udp", public=True)]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    with builders.double(monkeypatch) as cloud:
        yield cloud


def doors(double: Gce) -> dict[str, dict[str, Any]]:
    """The rules by what they open, such as `tcp 22`."""
    opened = {}
    for rule in double.world.rules.values():
        (allowed,) = rule["allowed"]
        (port,) = allowed["ports"]
        opened[f"{allowed['IPProtocol']} {port}"] = rule
    return opened


async def test_ssh_is_open_to_the_worker_and_public_ports_to_the_world(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    await cloud.rent(builders.order(ports=PORTS), builders.offer())
    rules = doors(double)
    assert set(rules) == {"tcp 22", "tcp 8080", "udp 5353"}
    assert rules["tcp 22"]["sourceRanges"] == [HERE]
    assert rules["tcp 8080"]["sourceRanges"] == ["0.0.0.0/0"]
    (machine,) = double.world.machines.values()
    assert machine["tags"]["items"] == [rule["name"] for rule in rules.values()]
    for rule in rules.values():
        assert rule["targetTags"] == [rule["name"]]
        assert rule["network"] == "global/networks/default"
        assert rule["description"].startswith(f"Nebulous, install {builders.INSTALL}: lets ")
    await cloud.rent(builders.order(), builders.offer())
    assert machine["tags"]["items"][:1] == list(double.world.machines.values())[1]["tags"]["items"]
    assert len(double.called("firewalls.insert")) == 3


async def test_many_that_rent_at_once_make_each_rule_once(double: Gce, tmp_path: Path):
    cloud, other = builders.client(double, tmp_path), builders.client(double, tmp_path, "198.51.100.8")
    orders = [builders.order(ports=PORTS) for _ in range(6)]
    await asyncio.gather(
        *((cloud, other)[number % 2].rent(each, builders.offer()) for number, each in enumerate(orders))
    )
    assert set(doors(double)) == {"tcp 22", "tcp 8080", "udp 5353"}
    assert sorted(doors(double)["tcp 22"]["sourceRanges"]) == [HERE, "198.51.100.8/32"]


async def test_a_range_that_is_set_is_let_in_as_it_is(double: Gce, tmp_path: Path):
    await builders.client(double, tmp_path, "203.0.113.0/24").rent(builders.order(), builders.offer())
    assert doors(double)["tcp 22"]["sourceRanges"] == ["203.0.113.0/24"]


async def test_a_worker_that_moved_lets_itself_in_and_old_ranges_go_in_the_end(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    rented = await cloud.rent(builders.order(), builders.offer())
    await cloud.admit(rented)
    assert double.called("firewalls.patch") == [], "it is let in already"
    for last in range(1, 7):
        await builders.client(double, tmp_path, f"192.0.2.{last}").admit(rented)
    ranges = doors(double)["tcp 22"]["sourceRanges"]
    assert ranges == ["192.0.2.6/32", "192.0.2.5/32", "192.0.2.4/32", "192.0.2.3/32"]


async def test_a_worker_that_cannot_tell_its_address_rents_nothing(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path, "")
    with pytest.raises(Unavailable, match="does not tell this worker's address") as refused:
        await cloud.rent(builders.order(), builders.offer())
    assert "set ssh_from" in str(refused.value.hint)
    assert double.world.ever == []


async def test_rules_go_with_the_last_machine_that_needs_them(double: Gce, tmp_path: Path):
    cloud, sweep = builders.client(double, tmp_path), builders.client(double, tmp_path)
    plain, public = builders.order(), builders.order(ports=PORTS)
    foreign = builders.client(double, tmp_path, install="anotherinstall")
    await foreign.rent(builders.order(), builders.offer())
    await cloud.rent(plain, builders.offer())
    await cloud.rent(public, builders.offer())
    await sweep.owned()
    assert len(double.world.rules) == 4
    await builders.gone(cloud, public.launch.key)
    await sweep.owned()
    assert len(double.world.rules) == 2, "both SSH rules are in use"
    await builders.gone(cloud, plain.launch.key)
    await sweep.owned()
    (left,) = double.world.rules.values()
    assert "anotherinstall" in left["description"]


async def test_rules_are_not_looked_at_while_nothing_goes(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    await cloud.rent(builders.order(), builders.offer())
    await cloud.owned()
    before = len(double.calls)
    await cloud.owned()
    assert [call.method for call in double.calls[before:]] == ["instances.aggregatedList"]


async def test_a_rule_that_is_tidied_while_its_machine_is_made_is_made_again(double: Gce, tmp_path: Path):
    cloud, sweep = builders.client(double, tmp_path), builders.client(double, tmp_path)
    before = builders.order(ports=PORTS)
    await cloud.rent(before, builders.offer())
    await builders.gone(cloud, before.launch.key)
    double.world.insert_s = 0.5
    renting = asyncio.create_task(cloud.rent(builders.order(ports=PORTS), builders.offer()))
    double.world.rules.clear()
    await renting
    assert set(doors(double)) == {"tcp 22", "tcp 8080", "udp 5353"}
    await sweep.owned()
    assert len(double.world.rules) == 3


async def test_what_cannot_be_tidied_hides_no_machine(double: Gce, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cloud, sweep = builders.client(double, tmp_path), builders.client(double, tmp_path)
    wanted = builders.order()
    await cloud.rent(wanted, builders.offer())
    await builders.gone(cloud, wanted.launch.key)
    double.granted = {"compute.instances.list", "compute.firewalls.list", "compute.projects.get"}
    assert await sweep.owned() == []
    assert "are not tidied: Required 'compute.firewalls.delete' permission" in caplog.text


async def test_a_network_without_subnets_of_its_own_gets_the_one_of_the_region(double: Gce, tmp_path: Path):
    link = "https://www.googleapis.com/compute/v1/projects/a-project/regions/us-central1/subnetworks/lab-1"
    double.world.networks["lab"] = {"autoCreateSubnetworks": False, "subnetworks": [link]}
    cloud = builders.client(double, tmp_path, network="lab")
    await cloud.rent(builders.order(), builders.offer())
    (interface,) = double.called("instances.insert")[0].body["networkInterfaces"]
    assert interface["network"] == "global/networks/lab"
    assert interface["subnetwork"] == "projects/a-project/regions/us-central1/subnetworks/lab-1"
    assert interface["accessConfigs"] == [{"name": "external", "type": "ONE_TO_ONE_NAT"}]
    with pytest.raises(OutOfCapacity, match="the network 'lab' has no subnet in us-east4"):
        await cloud.rent(builders.order(), builders.offer(zone="us-east4-a"))


async def test_a_network_that_there_is_not_stops_the_account(double: Gce, tmp_path: Path):
    with pytest.raises(AuthFailed, match="has no network 'nowhere'") as refused:
        await builders.client(double, tmp_path, network="nowhere").rent(builders.order(), builders.offer())
    assert refused.value.hint == "set network for gce:test to one that it has"
