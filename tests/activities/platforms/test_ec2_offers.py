"""What Amazon offers: zones by region, spot prices as they are now, listed ones where they may be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from activities.platforms.base import Ask
from nebulous.catalog import prices
from nebulous.errors import AuthFailed, Rejected, Unavailable
from tests.activities.platforms.ec2_stand import Amazon

A10G = Ask(accelerators=["1:A10G"])


async def test_every_zone_that_has_the_type_and_a_subnet_is_an_offer(amazon: Amazon):
    offers = await amazon.cloud(regions=["us-east-1"]).offers(A10G)
    zones = {offer.zone for offer in offers if offer.instance_type == "g5.xlarge"}
    had = amazon.double.client().describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["g5.xlarge"]}]
    )["InstanceTypeOfferings"]
    assert zones == {row["Location"] for row in had}
    assert {offer.account for offer in offers} == {"ec2:default"}
    assert {offer.settle_s for offer in offers} == {90.0}


async def test_zones_without_a_subnet_of_the_account_are_not_offered(amazon: Amazon):
    (subnet, *_) = [
        row for row in amazon.double.client().describe_subnets()["Subnets"] if row["AvailabilityZone"] == "us-east-1b"
    ]
    cloud = amazon.cloud(regions=["us-east-1"], subnets={"us-east-1": [subnet["SubnetId"]]})
    offers = await cloud.offers(A10G)
    assert {offer.zone for offer in offers} == {"us-east-1b"}
    await cloud.rent(amazon.order(), offers[0])
    assert amazon.double.made("RunInstances")[0].form["NetworkInterface.1.SubnetId"] == subnet["SubnetId"]


async def test_spot_has_the_price_of_its_zone_and_when_it_held(amazon: Amazon):
    now = datetime.now(UTC).replace(microsecond=0)
    amazon.double.spot = {
        ("g5.xlarge", "us-east-1a"): [(0.5, now - timedelta(hours=2)), (0.4, now), (0.9, now - timedelta(hours=9))],
        ("g5.xlarge", "us-west-2a"): [(0.3, now)],
        ("g5.2xlarge", "us-east-1a"): [(0.8, now)],
    }
    offers = await amazon.cloud().offers(Ask(accelerators=["1:A10G"], spot=True))
    priced = [(offer.usd_per_hour, offer.zone, offer.instance_type) for offer in offers if offer.usd_per_hour]
    assert priced == [
        (0.3, "us-west-2a", "g5.xlarge"),
        (0.4, "us-east-1a", "g5.xlarge"),
        (0.8, "us-east-1a", "g5.2xlarge"),
    ]
    assert offers[1].price_source == "EC2 spot history"
    assert datetime.fromisoformat(offers[1].price_at) == now
    assert all(offer.spot for offer in offers)


async def test_a_spot_price_is_kept_for_minutes_and_then_asked_for_again(amazon: Amazon):
    cloud, ask = amazon.cloud(regions=["us-east-1"]), Ask(accelerators=["1:A10G"], spot=True)
    amazon.double.spot = {("g5.xlarge", "us-east-1a"): [(0.4, datetime.now(UTC))]}
    for seconds, asked in ((0, 1), (179, 1), (1, 2)):
        amazon.clock.now += seconds
        await cloud.offers(ask)
        assert len(amazon.double.made("DescribeSpotPriceHistory")) == asked
    assert len(amazon.double.made("DescribeInstanceTypeOfferings")) == 1


async def test_on_demand_has_amazons_price_of_the_region_where_it_may_be_read(amazon: Amazon):
    amazon.double.listed = {"g5.xlarge": {"us-east-1": 1.006, "eu-west-1": 1.123}}
    offers = await amazon.cloud().offers(A10G)
    known = {offer.region: offer for offer in offers if offer.instance_type == "g5.xlarge"}
    assert known["us-east-1"].usd_per_hour == 1.006
    assert known["eu-west-1"].usd_per_hour == 1.123
    assert known["us-east-1"].price_source == "EC2 price list"
    assert offers[0].region == "us-east-1"
    (elsewhere, *_) = await amazon.cloud().offers(Ask(accelerators=["1:A10G"], regions=["us-west-2"]))
    bundled = prices.bundled("ec2", elsewhere.instance_type, "us-west-2")
    assert elsewhere.usd_per_hour == (bundled.usd_per_hour if bundled else None)


async def test_a_price_list_that_may_not_be_read_is_not_asked_again_for_an_hour(amazon: Amazon):
    amazon.double.denied = {"pricing:GetProducts"}
    cloud = amazon.cloud(regions=["us-east-1"])
    (best, *_) = await cloud.offers(A10G)
    bundled = prices.bundled("ec2", best.instance_type, best.region)
    assert best.usd_per_hour == (bundled.usd_per_hour if bundled else None)
    asked = len(amazon.double.made("GetProducts"))
    amazon.clock.now += 3_599
    await cloud.offers(A10G)
    assert len(amazon.double.made("GetProducts")) == asked
    amazon.clock.now += 1
    await cloud.offers(A10G)
    assert len(amazon.double.made("GetProducts")) > asked


async def test_a_price_limit_leaves_out_what_is_dearer_or_unknown(amazon: Amazon):
    amazon.double.spot = {("g5.xlarge", "us-east-1a"): [(0.4, datetime.now(UTC))]}
    ask = Ask(accelerators=["1:A10G"], spot=True, max_usd_per_hour=0.5)
    assert [offer.zone for offer in await amazon.cloud().offers(ask)] == ["us-east-1a"]


async def test_regions_of_the_ask_and_of_the_account_are_kept_to(amazon: Amazon):
    cloud = amazon.cloud(regions=["us-east-1", "eu-west-1"])
    assert {offer.region for offer in await cloud.offers(A10G)} == {"us-east-1", "eu-west-1"}
    asked = await cloud.offers(Ask(accelerators=["1:A10G"], regions=["eu-west-1"]))
    assert {offer.region for offer in asked} == {"eu-west-1"}
    amazon.double.calls.clear()


async def test_a_region_that_is_not_enabled_is_not_offered(amazon: Amazon):
    amazon.double.regions["us-west-2"] = False
    assert {offer.region for offer in await amazon.cloud().offers(A10G)} == {"us-east-1", "eu-west-1"}


async def test_a_region_that_fails_hides_no_other(amazon: Amazon):
    amazon.double.fail("DescribeSubnets", "InternalError", status=500, region="us-west-2", times=9)
    amazon.double.closed = {"eu-west-1"}
    cloud = amazon.cloud()
    assert {offer.region for offer in await cloud.offers(A10G)} == {"us-east-1"}
    amazon.double.calls.clear()
    amazon.double.faults.clear()
    assert {offer.region for offer in await cloud.offers(A10G)} == {"us-east-1", "us-west-2"}
    assert "eu-west-1" not in {call.region for call in amazon.double.calls}, "it is left alone"
    amazon.double.closed.clear()
    amazon.clock.now += 600
    assert "eu-west-1" in {offer.region for offer in await cloud.offers(A10G)}


async def test_when_every_region_fails_it_says_why(amazon: Amazon):
    amazon.double.fail("DescribeSubnets", "InternalError", status=500, times=99)
    with pytest.raises(Unavailable, match="InternalError"):
        await amazon.cloud().offers(A10G)
    amazon.double.faults.clear()
    amazon.double.revoked = True
    with pytest.raises(AuthFailed):
        await amazon.cloud().offers(A10G)


async def test_what_no_container_can_be_given_is_refused(amazon: Amazon):
    with pytest.raises(Rejected, match="TRAINIUM"):
        await amazon.cloud().offers(Ask(accelerators=["1:TRAINIUM"]))
    with pytest.raises(Rejected, match="4:A100") as refused:
        await amazon.cloud().offers(Ask(accelerators=["4:A100"]))
    assert "8:A100" in (refused.value.hint or "")


async def test_a_long_list_keeps_the_best_of_every_entry(amazon: Amazon):
    offers = await amazon.cloud().offers(Ask(accelerators=["1:T4", "1:A10G", "1:L4"]))
    assert {offer.rank for offer in offers} == {0, 1, 2}
    assert len(offers) <= 42
    assert [offer.rank for offer in offers] == sorted(offer.rank for offer in offers)
