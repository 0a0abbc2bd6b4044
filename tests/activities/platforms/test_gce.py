"""Renting at Google Compute Engine, through the real SDK, against a double held to Google's own description."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms import gce_machine
from activities.platforms.gce import GceCloud
from nebulous import ids
from nebulous.errors import NotFound, OutOfCapacity, Rejected, Unavailable
from nebulous.models.container_fields import Port
from nebulous.models.platforms import InstanceState
from tests.activities.platforms import gce_builders as builders
from tests.doubles.gce import Fault, Gce


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    with builders.double(monkeypatch) as cloud:
        yield cloud


@pytest.fixture
def cloud(double: Gce, tmp_path: Path) -> GceCloud:
    return builders.client(double, tmp_path)


def sent(double: Gce) -> dict[str, Any]:
    return double.called("instances.insert")[-1].body


# --- the request --------------------------------------------------------------------------------------


async def test_the_end_of_life_is_in_the_request(double: Gce, cloud: GceCloud):
    await cloud.rent(builders.order(lifetime_s=7200), builders.offer())
    body = sent(double)
    assert body["scheduling"] == {
        "provisioningModel": "STANDARD",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
        "maxRunDuration": {"seconds": "7200"},
        "instanceTerminationAction": "DELETE",
    }
    (disk,) = body["disks"]
    assert disk["boot"]
    assert disk["autoDelete"]


async def test_spot_is_deleted_when_it_is_taken_back(double: Gce, cloud: GceCloud):
    await cloud.rent(builders.order(), builders.offer(spot=True))
    scheduling = sent(double)["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "DELETE")
    assert "maxRunDuration" not in scheduling


async def test_exact_tags_are_in_the_metadata_and_labels_are_what_labels_may_be(double: Gce, cloud: GceCloud):
    order = builders.order(name="Some.Name_" + "x" * 50, owner="Agentsea")
    rented = await cloud.rent(order, builders.offer())
    body = sent(double)
    metadata = {each["key"]: each["value"] for each in body["metadata"]["items"]}
    for name, value in order.tags.items():
        assert metadata[name] == value
        assert re.fullmatch(r"[a-z0-9_-]{1,63}", body["labels"][name])
    assert body["labels"][ids.TAG_KEY] == order.launch.key
    assert body["disks"][0]["initializeParams"]["labels"] == body["labels"]
    (found,) = await cloud.find(order.launch.key)
    for instance in (rented, found):
        assert (instance.workflow, instance.life) == (order.launch.workflow, order.launch.metadata.id)


def test_labels_of_long_values_stay_apart():
    first, second = (gce_machine.label(f"container/agentsea/default/{'x' * 60}{end}") for end in "ab")
    assert first != second
    assert len(first) <= 63


async def test_nobody_gets_in_by_other_keys_and_the_machine_may_do_nothing_at_google(double: Gce, cloud: GceCloud):
    await cloud.rent(builders.order(), builders.offer())
    body = sent(double)
    metadata = {each["key"]: each["value"] for each in body["metadata"]["items"]}
    assert metadata["startup-script"] == builders.SCRIPT
    assert (metadata["block-project-ssh-keys"], metadata["enable-oslogin"]) == ("TRUE", "FALSE")
    assert "serviceAccounts" not in body
    assert set(metadata) == {"startup-script", "block-project-ssh-keys", "enable-oslogin", *TAGS}


TAGS = {ids.TAG_INSTALL, ids.TAG_WORKFLOW, ids.TAG_ID, ids.TAG_KEY}


@pytest.mark.parametrize(
    ("offered", "image", "disk"),
    [
        (("g2-standard-4", "L4", 1), "deeplearning-platform-release/.*ubuntu-2404-nvidia-580", "pd-balanced"),
        (("n1+nvidia-tesla-v100", "V100-16GB", 1), "deeplearning-platform-release/.*nvidia-580", "pd-balanced"),
        (("a4-highgpu-8g", "B200", 8), "ubuntu-os-accelerator-images/.*nvidia-580", "hyperdisk-balanced"),
        (("g4-standard-48", "RTX-PRO-6000", 1), "ubuntu-os-accelerator-images/.*nvidia-580", "hyperdisk-balanced"),
    ],
)
async def test_image_and_disk_follow_the_accelerator(
    double: Gce, cloud: GceCloud, offered: tuple[str, str, int], image: str, disk: str
):
    await cloud.rent(builders.order(), builders.offer(*offered, spot=True))
    chosen = sent(double)["disks"][0]["initializeParams"]
    assert re.fullmatch(image.replace("/", "/global/images/family/"), chosen["sourceImage"].removeprefix("projects/"))
    assert chosen["diskType"] == f"zones/us-central1-a/diskTypes/{disk}"
    assert chosen["diskSizeGb"] == "100"


async def test_a_family_that_google_has_no_more_is_passed_over(double: Gce, cloud: GceCloud):
    del double.world.images["deeplearning-platform-release", "common-cu129-ubuntu-2404-nvidia-580"]
    await cloud.rent(builders.order(), builders.offer())
    assert "ubuntu-2204" in sent(double)["disks"][0]["initializeParams"]["sourceImage"]
    double.world.images.clear()
    with pytest.raises(Unavailable, match="Google has none of the images"):
        await builders_of(double, cloud).rent(builders.order(), builders.offer())


def builders_of(double: Gce, cloud: GceCloud) -> GceCloud:
    """Another worker of the same account."""
    path = cloud._api._account.credentials
    assert path
    return builders.client(double, path.parent)


async def test_a_disk_smaller_than_the_image_is_refused_before_anything_is_asked_for(double: Gce, cloud: GceCloud):
    with pytest.raises(
        Rejected, match="a disk of 40 GiB is smaller than the image that gce boots, of 50 GiB"
    ) as refused:
        await cloud.rent(builders.order(disk_gib=40), builders.offer())
    assert refused.value.hint == "ask for disk: 70 or more"
    assert double.called("instances.insert") == []


@pytest.mark.parametrize(
    ("accelerator", "count", "resources", "kind"),
    [
        ("T4", 1, {}, "n1-standard-4"),
        ("T4", 4, {}, "n1-standard-16"),
        ("V100-16GB", 1, {"min_cpu": 7}, "n1-standard-8"),
        ("V100-16GB", 1, {"min_memory": 45}, "n1-highmem-8"),
        ("V100-16GB", 1, {"min_cpu": 10, "min_memory": 60}, "custom-10-61440"),
    ],
)
async def test_accelerators_beside_an_n1_machine_get_the_smallest_that_suffices(
    double: Gce, cloud: GceCloud, accelerator: str, count: int, resources: dict[str, float], kind: str
):
    google = {"T4": "nvidia-tesla-t4", "V100-16GB": "nvidia-tesla-v100"}[accelerator]
    with double.changing() as world:
        world.types["us-central1-a"].append("n1-highmem-8")
    order = builders.order(**({"resources": resources} if resources else {}))
    await cloud.rent(order, builders.offer(f"n1+{google}", accelerator, count))
    body = sent(double)
    assert body["machineType"] == f"zones/us-central1-a/machineTypes/{kind}"
    assert body["guestAccelerators"] == [
        {"acceleratorType": f"zones/us-central1-a/acceleratorTypes/{google}", "acceleratorCount": count}
    ]


async def test_more_than_an_n1_machine_can_carry_is_refused(cloud: GceCloud):
    order = builders.order(resources={"min_cpu": 13})
    with pytest.raises(Rejected, match="1:V100-16GB on gce have at most 12 processors and 78 GiB"):
        await cloud.rent(order, builders.offer("n1+nvidia-tesla-v100", "V100-16GB", 1))


async def test_a_boot_script_that_no_metadata_holds_is_refused(cloud: GceCloud):
    with pytest.raises(Rejected, match="more than 256 kB"):
        await cloud.rent(builders.order(user_data="x" * 300_000), builders.offer())


# --- renting once -------------------------------------------------------------------------------------


async def test_what_is_rented_is_found_under_its_key_and_in_the_list(double: Gce, cloud: GceCloud):
    order = builders.order(ports=[Port(port=8080, public=True)])
    rented = await cloud.rent(order, builders.offer())
    assert rented.state == InstanceState.READY
    assert (rented.account, rented.identity) == ("gce:test", await cloud.identity())
    assert (rented.region, rented.zone) == ("us-central1", "us-central1-a")
    assert rented.ip
    assert [(port.port, port.public_ip) for port in rented.public_ports] == [(8080, rented.ip)]
    assert await cloud.find(order.launch.key) == [rented]
    assert await cloud.owned() == [rented]
    other = builders_of(double, cloud)
    assert await other.find(order.launch.key) == [rented]
    await builders.gone(other, order.launch.key)
    assert await cloud.find(order.launch.key) == []
    assert double.inventory == []


async def test_the_same_key_rents_once_one_after_the_other_and_five_at_once(double: Gce, cloud: GceCloud):
    order, offer = builders.order(), builders.offer()
    rented = await asyncio.gather(*(cloud.rent(order, offer) for _ in range(5)))
    rented.append(await builders_of(double, cloud).rent(order, offer))
    assert len({instance.id for instance in rented}) == 1
    assert len(double.world.ever) == 1
    assert len({call.query["requestId"] for call in double.called("instances.insert")}) == 1


async def test_a_request_that_google_has_forgotten_meets_the_name(double: Gce, cloud: GceCloud):
    order = builders.order()
    first = await cloud.rent(order, builders.offer())
    double.world.requests.clear()
    again = await builders_of(double, cloud).rent(order, builders.offer())
    assert again.id == first.id
    assert double.called("instances.insert")[-1].status == 409
    assert len(double.world.ever) == 1


async def test_somebody_elses_machine_of_that_name_is_neither_adopted_nor_deleted(double: Gce, cloud: GceCloud):
    order = builders.order()
    theirs = builders.order(order.launch.key)
    await cloud.rent(theirs, builders.offer())
    double.world.requests.clear()
    (machine,) = double.world.machines.values()
    machine["metadata"]["items"] = []
    machine["labels"] = {}
    with pytest.raises(Rejected, match="somebody else's machine is called"):
        await cloud.rent(order, builders.offer())
    assert await cloud.find(order.launch.key) == []
    await cloud.delete(order.launch.key)
    assert double.inventory == [order.launch.key]


async def test_a_time_out_after_the_effect_does_not_rent_twice(double: Gce, cloud: GceCloud):
    order, offer = builders.order(), builders.offer()
    double.fail(Fault("instances.insert", None, after=True))
    with pytest.raises(Unavailable):
        await cloud.rent(order, offer)
    (found,) = await cloud.find(order.launch.key)
    rented = await builders_of(double, cloud).rent(order, offer)
    assert rented.id == found.id
    assert len(double.world.ever) == 1


async def test_no_room_is_told_by_the_operation_while_the_machine_is_seen_for_a_moment(double: Gce, cloud: GceCloud):
    double.world.insert_s = 0.3
    double.world.refusals["us-central1-a"] = builders.sold_out("us-central1-a", "g2-standard-4")
    order = builders.order()
    renting = asyncio.create_task(cloud.rent(order, builders.offer()))
    while not await cloud.find(order.launch.key):
        assert not renting.done()
    with pytest.raises(OutOfCapacity, match="does not have enough resources"):
        await renting
    assert await cloud.find(order.launch.key) == []
    again = await cloud.rent(builders.order(), builders.offer(zone="us-central1-b"))
    assert double.inventory == [again.key]


async def test_rent_returns_when_the_place_is_taken_though_the_operation_goes_on(double: Gce, cloud: GceCloud):
    double.world.insert_s = 5.0  # STAGING after half of it
    rented = await cloud.rent(builders.order(), builders.offer())
    assert rented.state == InstanceState.BOOTING
    assert [work.json["status"] for work in double.world.works.values() if "zone" in work.json] == ["RUNNING"]


async def test_a_new_machine_that_is_not_seen_yet_is_not_taken_for_gone(double: Gce, cloud: GceCloud):
    double.hidden_looks = 1
    order = builders.order()
    with pytest.raises(Unavailable, match="the machine was made and is gone"):
        await cloud.rent(order, builders.offer())
    assert (await cloud.rent(order, builders.offer())).key == order.launch.key
    assert len(double.world.ever) == 1


async def test_a_machine_type_that_the_zone_has_not_is_refused_and_proves_no_absence(double: Gce, cloud: GceCloud):
    with double.changing() as world:
        world.types["us-central1-a"].remove("g2-standard-4")
    with pytest.raises(Rejected, match="machineTypes/g2-standard-4' was not found") as refused:
        await cloud.rent(builders.order(), builders.offer())
    assert not isinstance(refused.value, NotFound)


# --- the machine's own words --------------------------------------------------------------------------


async def test_host_keys_are_read_from_the_console(double: Gce, cloud: GceCloud):
    rented = await cloud.rent(builders.order(), builders.offer())
    assert await cloud.announced(rented) == []
    (machine,) = double.world.machines.values()
    machine["_console"] = (
        "[   12.3] google_metadata_script_runner[812]: startup-script: nebulous-host-key: ssh-ed25519 AAAAC3Nza+/=\r\n"
        "x: nebulous-host-key: ssh-ed25519 AAAAC3Nza+/=\nx: nebulous-host-key: nonsense\n"
    )
    assert await cloud.announced(rented) == ["ssh-ed25519 AAAAC3Nza+/="]
    assert await cloud.announced(builders.machine("nebu-nobody")) == []


def test_every_status_that_google_has_is_known_and_a_new_one_is_shown():
    from google.cloud import compute_v1

    words = {status.name for status in compute_v1.Instance.Status} - {"UNDEFINED_STATUS"}
    assert words == set(gce_machine.STATES)
    seen = gce_machine.read(compute_v1.Instance(status="PONDERING"), "gce:test", "1", [])
    assert (seen.state, seen.message) == (
        InstanceState.UNKNOWN,
        "Google Compute Engine says 'PONDERING' of the machine",
    )


async def test_a_machine_that_is_taken_back_while_it_is_made_is_no_room(double: Gce, cloud: GceCloud):
    double.world.insert_s = 0.3
    order = builders.order()
    renting = asyncio.create_task(cloud.rent(order, builders.offer(spot=True)))
    while not double.inventory:
        await asyncio.wait([renting], timeout=0.01)
    with double.changing() as world:
        world.stop_s = 0
        world.preempt(order.launch.key)
    with pytest.raises(OutOfCapacity, match="the machine was made and is gone"):
        await renting
    assert double.inventory == []
