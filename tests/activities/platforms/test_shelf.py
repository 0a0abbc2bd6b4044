"""What of a cloud's shelf fits an ask, in which order, and the words when nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.platforms import shelf
from activities.platforms.base import Ask
from activities.platforms.shelf import Goods, Wanted
from nebulous import catalog
from nebulous.catalog.prices import Price
from nebulous.errors import NebulousError, OutOfCapacity, Rejected

SETTLE_S = 90.0
T = TypeVar("T")


def refused(platform: str, ask: Ask, regions: list[str] | None = None) -> Rejected:
    with pytest.raises(Rejected) as caught:
        shelf.wanted(platform, ask, regions or [])
    return caught.value


def told(work: Callable[[], T]) -> T | NebulousError:
    """What it gives, or the error that it raises."""
    try:
        return work()
    except NebulousError as error:
        return error


def goods(found: list[Wanted], usd: float | None = 1.0) -> list[Goods]:
    price = None if usd is None else Price(usd, "test", "2026-11-24T00:00:00Z")
    return [Goods(each, region, f"{region}a", price) for each in found for region in each.shape.regions]


def types(found: list[Wanted]) -> list[str]:
    return [each.shape.type for each in found]


# --- what fits ------------------------------------------------------------------------------------------


def test_four_a100_on_ec2_are_refused_with_the_nearest_and_who_has_them():
    error = refused("ec2", Ask(accelerators=["4:A100"]))
    assert "ec2 has no 4:A100" in error.message
    assert error.hint == "nearest on ec2: 8:A100; 4:A100 is on gce, runpod"


def test_one_a40_on_gce_is_refused_with_who_has_it():
    error = refused("gce", Ask(accelerators=["1:A40"]))
    assert (error.message, error.hint) == ("accelerators[0]: gce has no A40", "1:A40 is on runpod")


@pytest.mark.parametrize(
    ("platform", "ask", "best"),
    [
        ("ec2", Ask(), {"t3.medium", "c7i.large", "m7i.large", "r7i.large"}),
        ("ec2", Ask(min_memory=16), {"t3.xlarge", "c7i.2xlarge", "m7i.xlarge", "r7i.large"}),
        ("ec2", Ask(min_cpu=16, min_memory=100), {"c7i.16xlarge", "m7i.8xlarge", "r7i.4xlarge"}),
        ("ec2", Ask(min_cpu=0.5, min_memory=0.5), {"t3.medium", "c7i.large", "m7i.large", "r7i.large"}),
        ("gce", Ask(), {"e2-medium", "e2-standard-2", "e2-highmem-2", "n2-standard-2", "n2-highmem-2"}),
        ("gce", Ask(min_cpu=5), {"e2-standard-8", "e2-highmem-8", "n2-standard-8", "n2-highmem-8"}),
        ("runpod", Ask(), set[str]()),  # it tells its own
    ],
)
def test_without_accelerators_the_smallest_of_each_family_that_suffices(platform: str, ask: Ask, best: set[str]):
    assert set(types(shelf.wanted(platform, ask, []))) == best


def test_nobody_gets_another_processor_unasked_and_who_asks_does():
    assert {each.shape.cpu for each in shelf.wanted("ec2", Ask(), [])} == {"x86_64"}
    assert set(types(shelf.wanted("ec2", Ask(), [], cpu="arm64"))) == {
        "t4g.medium",
        "c7g.large",
        "m7g.large",
        "r7g.large",
    }


def test_processors_and_memory_narrow_machines_with_accelerators_too():
    every = types(shelf.wanted("ec2", Ask(accelerators=["1:A10G"]), []))
    assert "g5.xlarge" in every
    larger = shelf.wanted("ec2", Ask(accelerators=["1:A10G"], min_cpu=9, min_memory=100), [])
    assert set(types(larger)) == {"g5.8xlarge", "g5.16xlarge"}
    error = refused("ec2", Ask(accelerators=["1:A10G"], min_memory=1000))
    assert error.message == "ec2 has no 1:A10G with 1000 GiB"
    assert error.hint == "the largest is g5.16xlarge: 64 processors, 256 GiB"


def test_sizes_that_are_only_typical_leave_nothing_out():
    assert shelf.wanted("runpod", Ask(accelerators=["1:A40"], min_memory=500), [])


def test_a_machine_that_is_too_large_is_refused_with_the_largest():
    error = refused("gce", Ask(min_cpu=500))
    assert error.message == "gce has no machine with 500 processors and 4 GiB"
    assert error.hint == "the largest is n2-highmem-128: 128 processors, 864 GiB"


@pytest.mark.parametrize(
    ("ask", "message", "hint"),
    [
        (
            Ask(accelerators=["1:H100"]),
            "gce does not rent 1:H100 on demand, only as spot and by flex-start",
            "ask with spot: true",
        ),
        (
            Ask(accelerators=["4:GB200"], spot=True),
            "gce does not rent 4:GB200 as spot, only by reservation",
            "nebulous cannot rent it so",
        ),
    ],
)
def test_a_market_that_is_not_sold_is_refused_with_those_that_are(ask: Ask, message: str, hint: str):
    error = refused("gce", ask)
    assert (error.message, error.hint) == (message, hint)


def test_one_entry_that_is_sold_is_enough():
    found = shelf.wanted("gce", Ask(accelerators=["1:H100", "1:L4"]), [])
    assert {each.rank for each in found} == {1}


# --- where ----------------------------------------------------------------------------------------------


def test_regions_are_those_of_the_ask_and_of_the_account_in_any_case():
    found = shelf.wanted("ec2", Ask(accelerators=["1:L4"], regions=["US-EAST-1", "eu-west-2"]), ["us-east-1"])
    assert {each.shape.regions for each in found} == {("us-east-1",)}


@pytest.mark.parametrize(
    ("ask", "account", "message", "hint"),
    [
        (["us-esat-1"], [], "ec2 has no region 'us-esat-1'", "did you mean 'us-east-1'?"),
        (["mars"], [], "ec2 has no region 'mars'", "this is rented in ap-northeast-1, eu-west-1, us-east-1, us-west-2"),
        (
            ["eu-west-3"],
            [],
            "ec2 does not rent 8:V100 in eu-west-3",
            "it does in ap-northeast-1, eu-west-1, us-east-1, us-west-2",
        ),
        (
            ["us-east-1"],
            ["eu-west-3"],
            "the account is limited to eu-west-3, where ec2 does not rent 8:V100",
            "ec2 rents it in ap-northeast-1, eu-west-1, us-east-1, us-west-2",
        ),
        (["us-east-1"], ["us-west-2"], "ec2 does not rent 8:V100 in us-east-1", "it does in us-west-2"),
    ],
)
def test_a_region_without_it_is_refused_with_those_that_have_it(
    ask: list[str], account: list[str], message: str, hint: str
):
    error = refused("ec2", Ask(accelerators=["8:V100"], regions=ask), account)
    assert (error.message, error.hint) == (message, hint)


# --- at what price --------------------------------------------------------------------------------------


def test_a_limit_under_every_price_says_what_the_cheapest_costs_and_is_no_rejection():
    found = shelf.wanted("ec2", Ask(accelerators=["1:L4"], regions=["us-east-1"]), [])
    ask = Ask(accelerators=["1:L4"], max_usd_per_hour=0.5)
    with pytest.raises(OutOfCapacity) as caught:
        shelf.offers("ec2", "ec2:x", ask, goods(found, 2.1), SETTLE_S)
    assert caught.value.message == (
        "nothing for at most $0.5 an hour; the cheapest is $2.10 on ec2 us-east-1a g6.xlarge"
    )
    assert caught.value.hint == "raise max_usd_per_hour, or ask with spot: true"


def test_an_unknown_price_is_never_within_a_limit_and_never_zero():
    found = shelf.wanted("ec2", Ask(accelerators=["1:L4"]), [])
    with pytest.raises(OutOfCapacity, match="at a known price for at most"):
        shelf.offers("ec2", "ec2:x", Ask(max_usd_per_hour=9), goods(found, None), SETTLE_S)
    assert {offer.usd_per_hour for offer in shelf.offers("ec2", "ec2:x", Ask(), goods(found, None), SETTLE_S)} == {None}


def test_nothing_there_is_no_error():
    assert shelf.offers("ec2", "ec2:x", Ask(max_usd_per_hour=1), [], SETTLE_S) == []


ENTRIES = st.lists(
    st.sampled_from(["1:L4", "8:A100", "1:H100", "4:A100", "1:A40", "2:T4", "8:H100", "1:nonsense"]), max_size=3
)
ASKS = st.builds(
    Ask,
    accelerators=ENTRIES,
    spot=st.booleans(),
    regions=st.lists(st.sampled_from(["us-east-1", "US-CENTRAL1", "us-west-2", "nowhere"]), max_size=2),
    max_usd_per_hour=st.sampled_from([None, 0.5, 2.0, 90.0]),
    min_cpu=st.sampled_from([None, 0.5, 8.0, 1000.0]),
    min_memory=st.sampled_from([None, 3.0, 200.0]),
)
PRICES = st.lists(st.sampled_from([None, 0.4, 1.0, 1.0, 2.5, 80.0]), min_size=1, max_size=7)


@given(platform=st.sampled_from(["ec2", "gce", "runpod"]), ask=ASKS, prices=PRICES)
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_offers_satisfy_it_best_first_or_the_words_say_why(
    platform: str, ask: Ask, prices: list[float | None]
):
    found = told(lambda: shelf.wanted(platform, ask, []))
    if isinstance(found, NebulousError):
        assert isinstance(found, Rejected)
        assert found.message
        assert found.hint
        return
    for each in found:
        assert ("spot" if ask.spot else "od") in each.shape.market
        assert each.shape.regions
        assert {r.lower() for r in each.shape.regions} <= {r.lower() for r in ask.regions or each.shape.regions}
        if ask.accelerators:
            count, members = catalog.resolve(ask.accelerators[each.rank], platform)
            assert (each.shape.count, each.shape.accelerator in members) == (count, True)
    there = [
        Goods(each, each.shape.regions[0], price=None if usd is None else Price(usd, "test", ""))
        for at, each in enumerate(found)
        for usd in (prices[at % len(prices)],)
    ]
    offers = told(lambda: shelf.offers(platform, "x", ask, reversed(there), SETTLE_S))
    if isinstance(offers, NebulousError):
        assert isinstance(offers, OutOfCapacity)
        assert ask.max_usd_per_hour is not None
        assert all(each.price is None or each.price.usd_per_hour > ask.max_usd_per_hour for each in there)
        assert offers.hint
        return
    order = [(offer.rank, offer.usd_per_hour is None, offer.usd_per_hour or 0.0) for offer in offers]
    assert order == sorted(order)
    if ask.max_usd_per_hour is None:
        assert len(offers) == len(there)
    else:
        assert all(offer.usd_per_hour is not None and offer.usd_per_hour <= ask.max_usd_per_hour for offer in offers)


def test_among_equal_prices_the_usual_member_and_the_smaller_machine_come_first():
    found = shelf.wanted("ec2", Ask(accelerators=["8:A100"], regions=["us-east-1"]), [])
    offers = shelf.offers("ec2", "x", Ask(), reversed(goods(found, 30.0)), SETTLE_S)
    assert [offer.instance_type for offer in offers] == ["p4d.24xlarge", "p4de.24xlarge"]


def test_equal_offers_stay_in_the_order_in_which_the_cloud_gave_them():
    (found,) = shelf.wanted("runpod", Ask(accelerators=["2:A40"]), ["US-KS-2", "EU-SE-1"])
    price = Price(0.88, "test", "")
    given = [Goods(found, region, price=price) for region in ("US-KS-2", "EU-SE-1")]
    for order in (given, given[::-1]):
        offers = shelf.offers("runpod", "x", Ask(), order, SETTLE_S)
        assert [offer.region for offer in offers] == [each.region for each in order]
