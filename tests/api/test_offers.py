"""What could be rented now, and what creating would come to: asked of real workers, ranked as workflows rank."""

from __future__ import annotations

import time
from typing import Any

import pytest

from activities.blocks import Block
from nebulous.models.platforms import Offer
from tests.nebula import sim_labels
from worker.board import RedisBoard
from workflows.placement import ranked

RENTED = "the simulated cloud rents nothing by a dry run"


async def offers(world: Any, **query: Any) -> dict[str, Any]:
    reply = await world.desk.http.get("/v1/offers", params={"platform": world.platform, **query})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_offers_come_cheapest_first_with_price_source_age_and_place(world: Any) -> None:
    reply = await offers(world, accelerators="1:A100")
    prices = [offer["usd_per_hour"] for offer in reply["offers"]]
    assert prices == sorted(prices)
    best = reply["offers"][0]
    assert (best["platform"], best["simulated"], best["price_source"]) == ("sim", True, "simulated")
    assert best["accelerator"] == "1:A100-40GB-SXM"
    assert best["place"] == f"sim {best['region']} {best['instance_type']}"
    assert 0 <= best["price_age_s"] < 60
    assert reply["why"] == "named by the spec"
    assert (reply["out"], reply["problem"], reply["rejected"]) == ([], None, False)


async def test_what_is_wanted_most_comes_first_though_it_is_dearer(world: Any) -> None:
    reply = await offers(world, accelerators=["8:H100", "1:T4"])
    ranks = [offer["rank"] for offer in reply["offers"]]
    assert ranks == sorted(ranks)
    assert {0, 1} == set(ranks)
    again = [Offer.model_validate({**each, "accelerator": None}) for each in reply["offers"]]
    assert ranked(again) == again, "the order is the one in which a workflow tries them"


async def test_a_container_goes_to_the_first_offer(world: Any) -> None:
    best = (await offers(world, accelerators="1:L4", spot="true"))["offers"][0]
    await world.create(accelerators=["1:L4"], spot=True)
    status = (await world.until("completed"))["status"]
    assert (status["region"], status["instance_type"]) == (best["region"], best["instance_type"])


async def test_spot_region_and_price_narrow_the_offers(world: Any) -> None:
    dear = (await offers(world, accelerators="1:L4"))["offers"]
    cheap = (await offers(world, accelerators="1:L4", spot="true"))["offers"]
    assert cheap[0]["spot"]
    assert cheap[0]["usd_per_hour"] < dear[0]["usd_per_hour"]
    east = (await offers(world, accelerators="1:L4", regions="sim-east,sim-north"))["offers"]
    assert {offer["region"] for offer in east} == {"sim-east", "sim-north"}
    limit = dear[0]["usd_per_hour"]
    cheapest = (await offers(world, accelerators="1:L4", max_price=limit))["offers"]
    assert {offer["usd_per_hour"] for offer in cheapest} == {limit}


async def test_what_it_can_never_have_is_said_with_what_it_has(world: Any) -> None:
    reply = await offers(world, accelerators="3:T4")
    assert reply["offers"] == []
    assert reply["rejected"]
    assert reply["problem"].startswith("Rejected: sim has no 3:T4")
    assert "1|2|4|8 of T4" in reply["out"][0]["hint"]


async def test_what_was_refused_lately_is_out_with_why_and_until_when(world: Any) -> None:
    async def lately(scope: str) -> None:
        board = RedisBoard(world.platform, world.desk.redis)
        await board.post(Block(scope, "OutOfCapacity: no L4 there", time.time() + 100))

    every = await offers(world, accelerators="1:L4")
    best = every["offers"][0]
    await lately(best["region"])
    reply = await offers(world, accelerators="1:L4")
    assert best["region"] not in {offer["region"] for offer in reply["offers"]}
    assert reply["out"][0]["reason"] == f"{best['place']}: OutOfCapacity: no L4 there"
    assert reply["out"][0]["hint"].startswith("refused lately, so left alone until 20")
    await lately(world.platform)
    reply = await offers(world, accelerators="1:L4")
    assert (reply["offers"], reply["rejected"]) == ([], False)
    assert "OutOfCapacity" in reply["problem"]
    assert "was refused lately" in reply["problem"]
    assert len(reply["out"]) == len(every["offers"])


async def test_a_price_limit_under_every_offer_shows_the_cheapest(world: Any) -> None:
    best = (await offers(world, accelerators="1:L4"))["offers"][0]
    reply = await offers(world, accelerators="1:L4", max_price="0.01")
    assert (reply["offers"], reply["rejected"]) == ([], False), "prices move, so it would be pending"
    cheapest = f"the cheapest is ${best['usd_per_hour']:.3g} on {best['place']}"
    assert cheapest in reply["problem"]
    assert reply["out"][0]["reason"] == f"nothing for at most $0.01 an hour; {cheapest}"


async def test_without_a_name_what_is_simulated_or_not_there_is_out_and_says_why(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nebulous.sessions.TAKEN_WITHIN_S", 0.5)  # `sim` is not asked, and nobody else is there
    reply = (await world.desk.http.get("/v1/offers", params={"accelerators": "1:A100"})).json()
    out = {each["platform"]: each for each in reply["out"]}
    assert reply["offers"] == []
    assert out["sim"]["reason"] == "simulated, so used only when named"
    assert out["sim"]["hint"] == "name it: platform sim"
    assert out["ec2"]["reason"] == "simulated, so used only when named"
    assert "--simulate runpod" in out["runpod"]["hint"]
    assert "no worker answers on queue 'platform-docker:testhost'" in out["docker"]["reason"]
    assert reply["problem"].startswith("Unavailable: no worker answers")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"accelerators": "A100"}, "COUNT:NAME"),
        ({"accelerators": "1:L40SS"}, "L40S"),
        ({"platform": "dokcer"}, "did you mean 'docker'"),
        ({"platform": "gce"}, "not configured"),
        ({"max_price": "-1"}, "greater than 0"),
        ({"max_price": "much"}, "max_price"),
    ],
)
async def test_what_cannot_be_asked_is_refused_as_create_refuses_it(
    desk: Any, query: dict[str, str], word: str
) -> None:
    reply = await desk.http.get("/v1/offers", params=query)
    assert reply.status_code == 422, reply.text
    assert word in reply.text


async def test_a_dry_run_says_where_it_would_go_and_creates_nothing(world: Any) -> None:
    http = world.desk.http
    body = {"image": "x", "platform": world.platform, "accelerators": ["1:A100"], "metadata": {"name": "foo"}}
    reply = await http.post("/v1/containers?dry_run=true", json=body)
    assert reply.status_code == 200, reply.text
    foreseen = reply.json()
    assert foreseen["outcome"] == "new"
    assert foreseen["resource"]["metadata"]["name"] == "foo"
    assert foreseen["offers"][0]["accelerator"] == "1:A100-40GB-SXM"
    assert (await http.get("/v1/containers/default/foo")).status_code == 404, RENTED
    assert (await http.get("/v1/containers")).json()["containers"] == [], RENTED


async def test_a_dry_run_foresees_what_a_name_that_exists_means(world: Any) -> None:
    async def outcome(**fields: Any) -> Any:
        body = {"image": "alpine", "platform": world.platform, "metadata": {"name": "foo"}, **fields}
        reply = await world.desk.http.post("/v1/containers?dry_run=true", json=body)
        return reply.json()["outcome"] if reply.status_code == 200 else reply.json()["error"]

    labels = sim_labels(boot="0s")
    await world.create("foo", labels)
    await world.until("running")
    assert await outcome() == "same"
    refused = await outcome(image="other")
    assert refused["type"] == "Conflict"
    assert "another spec and is running" in refused["message"]
    await world.desk.http.post("/v1/containers/default/foo/stop")
    await world.until("stopped")
    assert await outcome(image="other") in {"new", "next"}
    real = await world.desk.create("foo", platform=world.platform, image="other")
    assert real.status_code in {200, 202}, "creating comes to what was foreseen"


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"imgae": "x"}, 422, "did you mean 'image'"),
        ({"platform": "gce"}, 422, "not configured"),
        ({"env_vars": [{"key": "A", "secret_name": "nope"}]}, 422, "there is no secret 'nope'"),
        ({"volumes": [{"source": "s3://a/b", "dest": "/c"}]}, 422, "not available on docker"),
    ],
)
async def test_a_dry_run_gives_the_error_that_create_would(
    desk: Any, fields: dict[str, Any], code: int, word: str
) -> None:
    body = {"image": "alpine", "platform": "docker", "metadata": {"name": "foo"}, **fields}
    said = [await desk.http.post(f"/v1/containers{query}", json=body) for query in ("", "?dry_run=true")]
    assert [reply.status_code for reply in said] == [code, code]
    assert said[0].json() == said[1].json()
    assert word in said[1].text


async def test_a_viewer_may_look_at_offers_but_not_create_even_dry(desk: Any) -> None:
    viewer = desk.token("viewer")
    body = {"image": "x", "platform": "docker", "metadata": {"name": "foo"}}
    assert (await desk.http.post("/v1/containers?dry_run=true", json=body, headers=viewer)).status_code == 403
    assert (await desk.http.get("/v1/offers?platform=gce", headers=viewer)).status_code == 422
    assert (await desk.http.get("/v1/offers", headers={"Authorization": "Bearer x"})).status_code == 401


async def test_a_dry_run_of_a_secret_stores_nothing(desk: Any) -> None:
    reply = await desk.http.post("/v1/secrets?dry_run=true", json={"metadata": {"name": "t"}, "value": "x"})
    assert reply.json()["outcome"] == "new"
    assert "offers" not in reply.json()
    assert (await desk.http.get("/v1/secrets/default/t")).status_code == 404
