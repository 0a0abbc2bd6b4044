"""What RunPod has, at which price and where; and the ports of a pod."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from activities.platforms.base import Ask, Command
from activities.platforms.runpod import RunpodPlatform
from activities.platforms.runpod_pod import Pod
from nebulous.accounts import RunpodAccount
from nebulous.errors import (
    Rejected,
)
from tests.activities.platforms.contract import INSTALL
from tests.activities.platforms.runpod_bare import (  # noqa: F401 - some are fixtures
    A40,
    LOGIN,
    SECRET_KEY,
    double,
    launch,
    platform,
    reopen,
)
from tests.doubles.runpod import RunpodDouble

# ruff: noqa: F811 - fixtures are arguments


class TestOffers:
    async def test_each_data_centre_that_has_it_is_an_offer_and_scarce_ones_come_last(self, platform: RunpodPlatform):
        offers = await platform.offers(Ask(accelerators=["2:A40"]))
        assert [(each.region, each.usd_per_hour) for each in offers] == [("US-KS-2", 0.88), ("EU-SE-1", 0.88)]
        assert {each.price_source for each in offers} == {"RunPod catalog"}
        assert all(each.price_at for each in offers)
        assert {each.settle_s for each in offers} == {90.0}

    async def test_a_family_is_ordered_by_price(self, platform: RunpodPlatform):
        offers = await platform.offers(Ask(accelerators=["4:A100"]))
        assert [(each.accelerator, each.usd_per_hour) for each in offers] == [
            ("A100-80GB-PCIE", 4.76),
            ("A100-80GB-SXM", 5.56),
        ]
        assert [
            each.accelerator for each in await platform.offers(Ask(accelerators=["4:A100"], max_usd_per_hour=5))
        ] == ["A100-80GB-PCIE"]

    async def test_what_is_sold_out_is_no_offer(self, platform: RunpodPlatform):
        assert await platform.offers(Ask(accelerators=["1:L40S"])) == []

    async def test_only_in_these_regions(self, platform: RunpodPlatform):
        offers = await platform.offers(Ask(accelerators=["1:A40"], regions=["EU-SE-1"]))
        assert [each.region for each in offers] == ["EU-SE-1"]

    async def test_regions_are_the_same_in_small_letters(self, double: RunpodDouble, tmp_path: Path):
        account = RunpodAccount(regions=["eu-SE-1", "us-KS-2"])
        platform = RunpodPlatform("x", INSTALL, account, SECRET_KEY, tmp_path)
        offers = await platform.offers(Ask(accelerators=["1:A40"], regions=["eu-se-1"]))
        assert [each.region for each in offers] == ["EU-SE-1"], "named as RunPod does"
        await platform.close()

    async def test_an_account_that_is_limited_says_so(self, double: RunpodDouble, tmp_path: Path):
        account = RunpodAccount(regions=["EU-SE-1"], cloud="ANY")
        platform = RunpodPlatform("x", INSTALL, account, SECRET_KEY, tmp_path)
        offers = await platform.offers(Ask(accelerators=["1:A40"]))
        assert [(each.region, each.zone, each.usd_per_hour) for each in offers] == [
            ("EU-SE-1", "EU-SE-1/COMMUNITY", 0.352),
            ("EU-SE-1", "", 0.44),
        ]
        with pytest.raises(Rejected, match="EU-SE-1 only"):
            await platform.offers(Ask(accelerators=["1:A40"], regions=["US-KS-2"]))
        what = launch()
        (rented,) = await platform.create(what, offers[0], Command({}))
        assert double.pods[rented.id].body["cloud"] == "COMMUNITY"
        await platform.close()

    async def test_spot_is_refused_with_the_reason(self, platform: RunpodPlatform):
        with pytest.raises(Rejected, match="no spot"):
            await platform.offers(Ask(accelerators=["1:A40"], spot=True))

    async def test_without_accelerators_the_fewest_processors_that_suffice(
        self, double: RunpodDouble, platform: RunpodPlatform
    ):
        smallest = (await platform.offers(Ask()))[0]
        assert (smallest.instance_type, smallest.usd_per_hour) == ("cpu3c:2", 0.06)
        larger = await platform.offers(Ask(min_cpu=3, min_memory=12))
        assert [(each.instance_type, each.usd_per_hour) for each in larger] == [
            ("cpu5g:4", 0.2),
            ("cpu3c:8", 0.24),
            ("cpu3c:8", 0.24),
        ]
        with pytest.raises(Rejected, match="of this size"):
            await platform.offers(Ask(min_cpu=1000))
        what = launch()
        (rented,) = await platform.create(what, larger[0], Command({}))
        assert double.pods[rented.id].body["cpu"] == {"id": "cpu5g", "vcpuCount": 4}

    async def test_the_catalog_is_asked_once_a_minute(self, double: RunpodDouble, platform: RunpodPlatform):
        for _ in range(5):
            await asyncio.gather(*(platform.offers(Ask(accelerators=["1:A40"])) for _ in range(20)))
        assert len(double.made("GET /v2/catalog/gpus")) == 1

    async def test_public_ports_are_told_with_their_address(self, double: RunpodDouble, platform: RunpodPlatform):
        ports = [{"port": 8000, "protocol": "http", "public": True}, {"port": 9000, "public": True}, {"port": 9001}]
        what = launch(ports=ports)
        (rented,) = await platform.create(what, A40, Command({}))
        assert double.pods[rented.id].body["ports"] == ["22/tcp", "8000/http", "9000/tcp"]
        raw = {
            **double.pods[rented.id].shown(),
            "runtime": {
                "uptime": 1,
                "ports": [
                    {"private": 22, "public": 40022, "type": "tcp", "ip": "203.0.113.9"},
                    {"private": 8000, "public": 60001, "type": "http", "ip": "100.65.1.2"},
                    {"private": 9000, "public": 40900, "type": "tcp", "ip": "203.0.113.9"},
                ],
            },
        }
        shown = Pod.of(raw).instance("a", "i", None)
        assert shown.ip == "203.0.113.9"
        assert [(each.public_ip, each.port, each.protocol) for each in shown.public_ports] == [
            ("203.0.113.9", 40900, "tcp"),
            (f"{rented.id}-8000.proxy.runpod.net", 443, "http"),
        ]
