"""Google Compute Engine fails at every point of renting and giving back: nothing is rented twice, nothing is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from activities.platforms.base import SEND_BY
from activities.platforms.gce import GceCloud
from activities.platforms.gce_doctor import PERMISSIONS
from activities.platforms.machine_cloud import Order
from nebulous.errors import AuthFailed, OutOfCapacity, Unavailable
from nebulous.models.container_fields import Port
from nebulous.models.platforms import Instance, InstanceState
from tests.activities.platforms import gce_builders as builders
from tests.doubles import gce_methods
from tests.doubles.gce import Fault, Gce

#: What happens to one call. `times` is more than the client's own tries, so that the caller hears of it.
KINDS = {
    "refused": lambda skip: Fault("*", 503, skip=skip, times=3),
    "broken": lambda skip: Fault("*", None, skip=skip, times=3),
    "broken after the effect": lambda skip: Fault("*", None, skip=skip, times=3, after=True),
    "told to wait": lambda skip: Fault("*", 403, "rateLimitExceeded", "Rate Limit Exceeded", skip=skip, times=3),
}
TRIES = 12


def order() -> Order:
    return builders.order(ports=[Port(port=8080, public=True)])


async def persist(work: Callable[[], Awaitable[object]]) -> None:
    """Again, as Temporal does, as long as a later try may do better."""
    for _ in range(TRIES):
        try:
            await work()
            return
        except Unavailable:
            continue
    raise AssertionError("it never came to an end")


async def calls_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """The calls of a whole life, and how many of them rent."""
    with builders.double(monkeypatch) as double:
        cloud, wanted = builders.client(double, tmp_path), order()
        await cloud.rent(wanted, builders.offer())
        renting = len(double.calls)
        await builders.gone(cloud, wanted.launch.key)
        return [call.method for call in double.calls], renting


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_at_any_call_of_a_life_rents_nothing_twice_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls, renting = await calls_of(tmp_path, monkeypatch)
    assert renting >= 10

    async def fail_at(fault: Fault) -> list[str]:
        with builders.double(monkeypatch) as double:
            point = f"{fault.method} {fault.skip}"
            double.fail(fault)
            cloud, wanted = builders.connected(double, tmp_path), order()
            await persist(lambda: cloud.rent(wanted, builders.offer()))
            assert double.inventory == [wanted.launch.key], f"call {point}"
            await persist(lambda: builders.gone(cloud, wanted.launch.key))
            assert double.inventory == [], f"call {point}"
            assert len(double.world.ever) == 1, f"call {point} rented twice"
            await cloud.close()
            return double.faults[0].struck

    points = [*map(KINDS[kind], range(len(calls)))]
    last = replace(KINDS[kind](0), method="instances.aggregatedList")  # how many looks precede it the clock decides
    struck = await asyncio.gather(*map(fail_at, [*points, last]))
    assert {method for each in struck for method in each} >= set(calls)


async def test_a_worker_that_dies_between_any_two_calls_is_taken_over_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls, renting = await calls_of(tmp_path, monkeypatch)

    async def die_at(point: int) -> None:
        with builders.double(monkeypatch) as double:
            first, second = builders.connected(double, tmp_path), builders.connected(double, tmp_path)
            wanted = order()
            await _until_call(double, point, lambda: _life(first, wanted))
            if point < renting:
                await persist(lambda: second.rent(wanted, builders.offer()))
                assert double.inventory == [wanted.launch.key], f"call {point}"
            await persist(lambda: builders.gone(second, wanted.launch.key))
            assert double.inventory == [], f"call {point}"
            assert len(double.world.ever) == 1, f"call {point} rented twice"
            await asyncio.gather(first.close(), second.close())

    await asyncio.gather(*map(die_at, range(1, len(calls))))


async def _life(cloud: GceCloud, wanted: Order) -> None:
    await cloud.rent(wanted, builders.offer())
    await builders.gone(cloud, wanted.launch.key)


async def _until_call(double: Gce, point: int, work: Callable[[], Awaitable[None]]) -> None:
    """Let it live until so many calls were served, and no longer: the next one does not get through."""
    dead = asyncio.Event()
    loop = asyncio.get_running_loop()
    double.fail(Fault("*", None, skip=point, told=lambda: loop.call_soon_threadsafe(dead.set)))
    dying, dies = asyncio.ensure_future(work()), asyncio.ensure_future(dead.wait())
    await asyncio.wait([dying, dies], return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    dies.cancel()
    await asyncio.gather(dying, dies, return_exceptions=True)


async def test_a_credential_that_is_revoked_in_the_middle_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud, wanted = builders.client(double, tmp_path), order()
        rented = await cloud.rent(wanted, builders.offer())
        double.account.revoked = True
        for work in (cloud.find, cloud.delete):
            with pytest.raises(AuthFailed) as refused:
                await work(wanted.launch.key)
            assert "may have been revoked" in str(refused.value.hint)
        with pytest.raises(AuthFailed):
            await cloud.owned()
        with pytest.raises(AuthFailed):
            await cloud.rent(order(), builders.offer())
        assert double.inventory == [wanted.launch.key]
        double.account.revoked = False
        assert await cloud.owned() == [rented]
        await builders.gone(cloud, wanted.launch.key)
        assert double.inventory == []


@pytest.mark.parametrize("after", ["instances.insert", "instances.get"])
async def test_a_credential_that_is_revoked_after_the_insert_leaves_it_open_whether_there_is_a_machine(
    after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud, wanted = builders.client(double, tmp_path), order()
        calls, _ = await calls_of(tmp_path, monkeypatch)
        monkeypatch.setenv(builders.ENDPOINT, double.url)
        double.fail(Fault("*", 401, "authError", "Invalid Credentials", skip=calls.index(after) + 1, times=9))
        with pytest.raises(Unavailable, match=r"may have been rented: .*Invalid Credentials"):
            await cloud.rent(wanted, builders.offer())
        assert double.inventory == [wanted.launch.key]


async def test_a_worker_that_slept_until_too_late_sends_no_insert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        SEND_BY.set(time.time())
        with pytest.raises(Unavailable, match="too late to send"):
            await cloud.rent(order(), builders.offer())
        assert double.called("firewalls.insert"), "all that comes before was done"
        assert double.called("instances.insert") == []


async def test_a_missing_permission_for_the_firewall_rents_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        double.granted = {permission for permission in await _all(cloud) if permission != "compute.firewalls.create"}
        assert await cloud.missing_permissions() == ["compute.firewalls.create"]
        with pytest.raises(AuthFailed, match=r"compute\.firewalls\.create"):
            await cloud.rent(order(), builders.offer())
        assert double.world.ever == []


async def _all(cloud: GceCloud) -> list[str]:
    assert await cloud.missing_permissions() == []
    return list(PERMISSIONS)


async def test_what_is_left_of_quotas_is_told_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        quotas = await builders.client(double, tmp_path, regions=["us-east4"]).quotas()
    assert quotas == {"us-east4 NVIDIA_L4_GPUS": 5.0, "global GPUS_ALL_REGIONS": 4.0}


async def test_without_the_resource_manager_the_doctor_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        double.fail(Fault("testIamPermissions", 403, "SERVICE_DISABLED", "Cloud Resource Manager API is disabled"))
        with pytest.raises(AuthFailed, match="Cloud Resource Manager API is disabled"):
            await builders.client(double, tmp_path).missing_permissions()


# --- watching -----------------------------------------------------------------------------------------


async def thousand(double: Gce, cloud: GceCloud) -> list[Instance]:
    """A thousand machines in ten zones, without a thousand requests."""
    await cloud.rent(builders.order(user_data="#!/bin/sh\n" + "x" * 8000), builders.offer())
    with double.changing() as world:
        ((_, template),) = world.machines.items()
        for number in range(999):
            zone = world.zones[number % 10]
            name = f"nebu-{number:012d}"
            items = [each for each in template["metadata"]["items"] if each["key"] != "nebulous-key"]
            world.machines[zone, name] = {
                **template,
                "id": str(number + 1),
                "name": name,
                "zone": template["zone"].replace("us-central1-a", zone),
                "labels": {**template["labels"], "nebulous-key": name},
                "metadata": {"items": [*items, {"key": "nebulous-key", "value": name}]},
            }
    return await cloud.owned()


async def test_a_thousand_machines_are_one_list_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        assert len({instance.key for instance in await thousand(double, cloud)}) == 1000
        before = len(double.calls)
        assert len(await cloud.owned()) == 1000
        pages = double.calls[before:]
        assert [call.method for call in pages] == ["instances.aggregatedList"] * 2
        assert pages[1].query["pageToken"]


async def test_a_preemption_is_seen_in_the_next_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        spot, other = builders.order(), builders.order()
        await cloud.rent(spot, builders.offer(spot=True))
        await cloud.rent(other, builders.offer(spot=True))
        with double.changing() as world:
            world.stop_s = 3600
            world.delete_s = 3600
            world.preempt(spot.launch.key)
        await cloud.delete(other.launch.key)
        seen = {instance.key: instance for instance in await cloud.owned()}
        assert seen[spot.launch.key].state == InstanceState.PREEMPTED
        assert seen[spot.launch.key].message == "Google took the spot machine back"
        assert seen[other.launch.key].state == InstanceState.DELETING, "we asked for its end, Google did not"
        asked = len(double.called("zoneOperations.list"))
        (found,) = await cloud.find(spot.launch.key)
        assert found.state == InstanceState.PREEMPTED
        assert len(double.called("zoneOperations.list")) == asked, "what is known is not asked again"


async def test_a_machine_that_was_powered_off_from_within_is_over_and_can_be_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud, wanted = builders.client(double, tmp_path), builders.order()
        await cloud.rent(wanted, builders.offer())
        (machine,) = double.world.machines.values()
        machine["status"] = "TERMINATED"
        (found,) = await cloud.find(wanted.launch.key)
        assert (found.state, found.message) == (
            InstanceState.PREEMPTED,
            "the machine does not run any more (TERMINATED)",
        )
        await builders.gone(cloud, wanted.launch.key)
        assert double.inventory == []


async def test_a_zone_that_does_not_answer_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud, wanted, other = builders.client(double, tmp_path), builders.order(), builders.order()
        await cloud.rent(wanted, builders.offer())
        await cloud.rent(other, builders.offer(zone="us-central1-b"))
        listed = await cloud.owned()
        double.silent_zones = {"us-central1-a", "us-east4-a"}
        assert sorted(each.key for each in await cloud.owned()) == sorted(each.key for each in listed)
        newcomer = builders.client(double, tmp_path)
        with pytest.raises(Unavailable, match="no answer about us-central1-a, us-east4-a"):
            await newcomer.owned()
        with pytest.raises(Unavailable, match="no answer about"):
            await newcomer.find(wanted.launch.key)
        assert [each.key for each in await newcomer.find(other.launch.key)] == [other.launch.key]


async def test_a_list_that_breaks_off_is_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        double.page = 1
        for _ in range(3):
            await cloud.rent(builders.order(), builders.offer())
        double.fail(Fault("instances.aggregatedList", 503, skip=1, times=1))
        assert len(await cloud.owned()) == 3, "it is read again from its beginning"
        double.fail(Fault("instances.aggregatedList", 503, times=9))
        with pytest.raises(Unavailable):
            await cloud.owned()


async def test_a_delete_that_google_refuses_for_now_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud, wanted = builders.client(double, tmp_path), builders.order()
        await cloud.rent(wanted, builders.offer())
        double.fail(Fault("instances.delete", 400, "resourceNotReady", "The resource is not ready"))
        with pytest.raises(Unavailable, match=r"cannot be deleted yet: .*not ready"):
            await cloud.delete(wanted.launch.key)
        await builders.gone(cloud, wanted.launch.key)
        await cloud.delete(wanted.launch.key)
        assert double.inventory == []


async def test_twenty_sold_out_zones_take_three_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        await cloud.rent(builders.order(), builders.offer())
        double.world.refusals["*"] = builders.sold_out("everywhere", "g2-standard-4")
        begun = asyncio.get_running_loop().time()
        for zone in [zone for zone in double.world.zones if "g2-standard-4" in double.world.types[zone]][:20]:
            with pytest.raises(OutOfCapacity):
                await cloud.rent(builders.order(), builders.offer(zone=zone))
        assert asyncio.get_running_loop().time() - begun < 3


def test_the_role_in_the_docs_is_what_the_doctor_asks_for_and_covers_every_call():
    text = (Path(__file__).parents[3] / "docs" / "clouds.md").read_text()
    role = next(block for block in text.split("```yaml\n") if "includedPermissions:" in block).partition("```")[0]
    assert tuple(yaml.safe_load(role)["includedPermissions"]) == PERMISSIONS
    assert set(gce_methods.PERMISSIONS.values()) <= set(PERMISSIONS)
