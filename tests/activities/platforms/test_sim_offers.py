from __future__ import annotations

from pathlib import Path

import pytest

from activities.platforms.base import Ask
from nebulous.errors import OutOfCapacity, Rejected
from nebulous.settings import SimOffer
from tests.activities.platforms.sim_builders import offer_of, simulated

# --- what it offers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cloud", "wanted", "got"),
    [
        ("runpod", "4:A100", ("A100-80GB", 4)),
        ("ec2", "1:L40s", ("L40S", 1)),
        ("ec2", "8:H100", ("H100-SXM", 8)),
        ("runpod", "8:B200", ("B200", 8)),
        ("gce", "1:A100", ("A100", 1)),
        ("sim", "1:A100", ("A100", 1)),
    ],
)
async def test_what_the_examples_ask_for_is_offered(tmp_path: Path, cloud: str, wanted: str, got: tuple[str, int]):
    offers = await simulated(cloud, tmp_path).offers(Ask(accelerators=[wanted]))
    assert len(offers) > 2
    for offer in offers:
        assert str(offer.accelerator).startswith(got[0])
        assert offer.accelerator_count == got[1]
        assert offer.simulated
        assert offer.price_source == "simulated"
        assert offer.usd_per_hour is not None
        assert 0.1 < offer.usd_per_hour / offer.accelerator_count < 12
        assert offer.region
        assert offer.instance_type
        assert offer.platform == cloud


async def test_the_impossible_example_is_rejected_and_says_where_it_is(tmp_path: Path):
    with pytest.raises(Rejected) as refused:
        await simulated("gce", tmp_path).offers(Ask(accelerators=["1:A40"]))
    assert "gce has no A40" in refused.value.message
    assert "runpod" in str(refused.value.hint)


@pytest.mark.parametrize("cloud", ["sim", "runpod", "ec2", "gce"])
async def test_a_container_without_accelerators_gets_a_plain_machine(tmp_path: Path, cloud: str):
    offers = await simulated(cloud, tmp_path).offers(Ask())
    assert {(offer.accelerator, offer.accelerator_count) for offer in offers} == {(None, 0)}
    assert len({offer.region for offer in offers}) > 2


async def test_offers_follow_the_entries_as_written_then_the_price(tmp_path: Path):
    offers = await simulated("ec2", tmp_path).offers(Ask(accelerators=["8:H100", "1:T4"]))
    ranks = [offer.rank for offer in offers]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1}
    for rank, accelerator in ((0, "H100-SXM"), (1, "T4")):
        ranked = [offer for offer in offers if offer.rank == rank]
        assert {offer.accelerator for offer in ranked} == {accelerator}
        prices = [offer.usd_per_hour or 0 for offer in ranked]
        assert prices == sorted(prices)


async def test_one_impossible_entry_of_several_is_left_out(tmp_path: Path):
    offers = await simulated("gce", tmp_path).offers(Ask(accelerators=["1:A40", "1:L4"]))
    assert {(offer.accelerator, offer.rank) for offer in offers} == {("L4", 1)}


async def test_regions_are_honoured_and_unknown_ones_rejected(tmp_path: Path):
    cloud = simulated("ec2", tmp_path)
    offers = await cloud.offers(Ask(accelerators=["8:H100"], regions=["US-EAST-2"]))
    assert {offer.region for offer in offers} == {"us-east-2"}
    with pytest.raises(Rejected) as refused:
        await cloud.offers(Ask(accelerators=["8:H100"], regions=["mars-1"]))
    assert "mars-1" in refused.value.message
    assert "us-east-2" in str(refused.value.hint)


async def test_spot_is_cheaper_and_marked(tmp_path: Path):
    cloud = simulated("ec2", tmp_path)
    plain = await offer_of(cloud, "1:L4")
    (spot, *_) = await cloud.offers(Ask(accelerators=["1:L4"], spot=True))
    assert (spot.spot, plain.spot) == (True, False)
    assert (spot.usd_per_hour or 0) < (plain.usd_per_hour or 0)


async def test_what_is_not_sold_as_spot_is_rejected_then(tmp_path: Path):
    with pytest.raises(Rejected) as refused:
        await simulated("sim", tmp_path, [SimOffer()]).offers(Ask(spot=True))
    assert refused.value.hint == "leave out spot"


async def test_unknown_prices_come_last_and_a_limit_leaves_them_out(tmp_path: Path):
    shelf = [
        SimOffer(region="a", usd_per_hour=None),
        SimOffer(region="b", usd_per_hour=2),
        SimOffer(region="c", usd_per_hour=1),
    ]
    cloud = simulated("sim", tmp_path, shelf)
    assert [offer.region for offer in await cloud.offers(Ask())] == ["c", "b", "a"]
    assert [offer.region for offer in await cloud.offers(Ask(max_usd_per_hour=1.5))] == ["c"]
    with pytest.raises(OutOfCapacity, match=r"at most \$0.5 an hour; the cheapest is \$1.00 on sim c sim.small"):
        await cloud.offers(Ask(max_usd_per_hour=0.5))


async def test_settings_list_what_is_offered_with_any_spelling_and_never_a_larger_count(tmp_path: Path):
    shelf = [SimOffer(platform="ec2", instance_type="odd", accelerator="h100-80gb", count=3, usd_per_hour=9)]
    cloud = simulated("ec2", tmp_path, shelf)
    assert (await offer_of(cloud, "3:H100")).instance_type == "odd"
    with pytest.raises(Rejected) as refused:
        await cloud.offers(Ask(accelerators=["2:H100"]))
    assert refused.value.hint == "it has 3:H100-SXM"
    assert await simulated("sim", tmp_path, shelf).offers(Ask()), "a list for ec2 leaves sim its own world"


async def test_an_empty_list_offers_nothing(tmp_path: Path):
    with pytest.raises(Rejected):
        await simulated("sim", tmp_path, []).offers(Ask())


async def test_a_simulated_cloud_heeds_sizes_and_markets_as_the_real_one_does(tmp_path: Path):
    ec2 = simulated("ec2", tmp_path)
    large = await ec2.offers(Ask(min_cpu=16, min_memory=100))
    assert {offer.instance_type for offer in large} <= {"c7i.16xlarge", "m7i.8xlarge", "r7i.4xlarge"}
    assert all(offer.usd_per_hour for offer in large)
    larger = await ec2.offers(Ask(accelerators=["1:A10G"], min_memory=200))
    assert {offer.instance_type for offer in larger} == {"g5.16xlarge"}
    with pytest.raises(Rejected, match="gce does not rent 1:H100 on demand, only as spot"):
        await simulated("gce", tmp_path).offers(Ask(accelerators=["1:H100"]))
