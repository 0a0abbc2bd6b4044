"""What Google Compute Engine offers: the catalog's shapes in the zones that Google lists them for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.platforms.base import Ask
from nebulous.errors import NebulousError, OutOfCapacity, Rejected
from tests.activities.platforms import gce_builders as builders
from tests.doubles.gce import Fault, Gce


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    with builders.double(monkeypatch) as cloud:
        yield cloud


async def test_offers_are_zones_that_google_lists_the_type_for(double: Gce, tmp_path: Path):
    double.world.types["us-central1-b"].remove("a2-highgpu-4g")
    offers = await builders.client(double, tmp_path).offers(Ask(accelerators=["4:A100"]))
    places = {(offer.instance_type, offer.zone) for offer in offers}
    assert ("a2-highgpu-4g", "us-central1-a") in places
    assert ("a2-highgpu-4g", "us-central1-b") not in places
    assert ("a2-ultragpu-4g", "us-central1-b") in places
    assert {offer.instance_type for offer in offers} == {"a2-highgpu-4g", "a2-ultragpu-4g"}
    assert {(offer.platform, offer.account, offer.settle_s) for offer in offers} == {("gce", "gce:test", 60.0)}
    assert {offer.region == offer.zone[:-2] for offer in offers} == {True}


async def test_accelerators_beside_n1_machines_are_offered_where_google_has_them(double: Gce, tmp_path: Path):
    double.world.accelerators["us-central1-a"].remove("nvidia-tesla-t4")
    offers = await builders.client(double, tmp_path).offers(Ask(accelerators=["2:T4"]))
    zones = {offer.zone for offer in offers}
    assert {offer.instance_type for offer in offers} == {"n1+nvidia-tesla-t4"}
    assert "us-central1-b" in zones
    assert "us-central1-a" not in zones


async def test_only_regions_that_are_asked_for_and_those_of_the_account(double: Gce, tmp_path: Path):
    ask = Ask(accelerators=["1:L4"], regions=["us-central1", "us-east4"])
    cloud, limited = builders.client(double, tmp_path), builders.client(double, tmp_path, regions=["us-east4"])
    assert {offer.region for offer in await cloud.offers(ask)} == {"us-central1", "us-east4"}
    assert {offer.region for offer in await limited.offers(ask)} == {"us-east4"}
    assert {offer.region for offer in await limited.offers(Ask(accelerators=["1:L4"]))} == {"us-east4"}


async def test_what_is_not_sold_on_demand_is_offered_as_spot_only(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    spot = await cloud.offers(Ask(accelerators=["8:B200"], spot=True))
    assert {(offer.instance_type, offer.spot) for offer in spot} == {("a4-highgpu-8g", True)}
    with pytest.raises(Rejected, match="gce does not rent 8:B200 on demand"):
        await cloud.offers(Ask(accelerators=["8:B200"]))


async def test_prices_are_the_bundled_ones_and_a_limit_shows_the_cheapest(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    prices = [offer.usd_per_hour for offer in await cloud.offers(Ask(accelerators=["1:A100"]))]
    known = [price for price in prices if price is not None]
    assert known
    assert prices == sorted(known) + [None] * (len(prices) - len(known)), "what nobody knows comes last"
    limited = await cloud.offers(Ask(accelerators=["1:A100"], max_usd_per_hour=known[0]))
    assert {offer.usd_per_hour for offer in limited} == {known[0]}
    with pytest.raises(OutOfCapacity, match=rf"the cheapest is \${known[0]:.2f} on gce .*a2-highgpu-1g"):
        await cloud.offers(Ask(accelerators=["1:A100"], max_usd_per_hour=known[0] / 2))


async def test_without_accelerators_small_machines_are_offered(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    first, *_ = await cloud.offers(Ask(regions=["us-central1"]))
    assert (first.instance_type, first.accelerator, first.accelerator_count) == ("e2-medium", None, 0)
    await cloud.rent(builders.order(disk_gib=30), first)
    body = double.called("instances.insert")[0].body
    assert "ubuntu-2404-lts-amd64" in body["disks"][0]["initializeParams"]["sourceImage"]
    assert "onHostMaintenance" not in body["scheduling"], "it may be moved"


async def test_zones_are_asked_for_once_a_day(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    double.page = 7
    first = await cloud.offers(Ask(accelerators=["1:L4", "1:T4"]))
    before = len(double.calls)
    assert await cloud.offers(Ask(accelerators=["1:L4", "1:T4"])) == first
    assert len(double.calls) == before
    assert len({offer.zone for offer in first if offer.rank == 0}) > 7, "all pages are read"


async def test_a_list_that_fails_is_asked_for_again_and_never_kept(double: Gce, tmp_path: Path):
    cloud = builders.client(double, tmp_path)
    double.fail(Fault("machineTypes.aggregatedList", 503, times=3))
    with pytest.raises(NebulousError):
        await cloud.offers(Ask(accelerators=["1:L4"]))
    assert await cloud.offers(Ask(accelerators=["1:L4"]))
