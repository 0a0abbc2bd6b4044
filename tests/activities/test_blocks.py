"""What is learned of a refusal, about which offers, for how long, and by whom."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.blocks import Block, Blocks
from activities.containers import ContainerActivities, LaunchRequest, shortlist
from activities.platforms.base import Ask
from activities.secrets import SecretReader
from nebulous import sessions
from nebulous.errors import AuthFailed, NebulousError, OutOfCapacity, QuotaExceeded, Rejected, Unavailable
from nebulous.models.platforms import Offer
from nebulous.settings import SimOffer
from tests.activities.platforms.sim_builders import Clock, launch, simulated
from worker.board import RedisBoard
from worker.embedded import Engine


def offer(
    zone: str = "us-east-1a", kind: str = "g5.xlarge", *, spot: bool = False, rank: int = 0, **more: str
) -> Offer:
    given = {"platform": "ec2", "account": "ec2:prod", "region": zone[:-1], "zone": zone, "instance_type": kind, **more}
    return Offer.model_validate({**given, "spot": spot, "rank": rank})


HERE, NEXT_DOOR, FAR = offer(), offer("us-east-1b"), offer("eu-west-1a")
OTHER_TYPE, SPOT, P5 = offer(kind="g6.xlarge"), offer(spot=True), offer(kind="p5.48xlarge")
ALL = [HERE, NEXT_DOOR, FAR, OTHER_TYPE, SPOT, P5]


async def left(blocks: Blocks) -> list[Offer]:
    return [each for each in await blocks.mark(ALL) if not each.blocked]


@pytest.mark.parametrize(
    ("error", "usable"),
    [
        (OutOfCapacity("sold out"), [NEXT_DOOR, FAR, OTHER_TYPE, SPOT, P5]),
        (QuotaExceeded("no", scope="us-east-1"), [FAR]),
        (QuotaExceeded("no", scope="us-east-1/g/on-demand"), [FAR, SPOT, P5]),
        (QuotaExceeded("no", scope="g5.xlarge"), [OTHER_TYPE, P5]),
        (QuotaExceeded("no", scope="p/us-east-1"), []),  # not about what was asked for: the whole account, to be sure
        (QuotaExceeded("no"), []),
        (AuthFailed("who are you"), []),
        (Rejected("never"), ALL),
        (Unavailable("later"), ALL),
    ],
)
async def test_a_refusal_blocks_what_it_is_about(error: NebulousError, usable: list[Offer]):
    blocks = Blocks("ec2:prod")
    await blocks.learn(HERE, error)
    assert await left(blocks) == usable


async def test_what_was_refused_says_why_and_until_when_and_is_asked_again_after_that():
    clock = Clock()
    blocks = Blocks("ec2:prod", clock=clock)
    await blocks.learn(HERE, OutOfCapacity("no g5 here"))
    (marked, *_) = await blocks.mark(ALL)
    assert (marked.blocked, marked.blocked_until) == ("OutOfCapacity: no g5 here", "2027-01-15T08:03:00Z")
    clock += 179
    assert HERE not in await left(blocks)
    clock += 2
    assert await left(blocks) == ALL


async def test_a_scripted_refusal_and_one_of_a_machine_of_ones_own_say_nothing_to_others():
    blocks = Blocks("ec2:prod")
    scripted = OutOfCapacity("as the label says")
    scripted.lasting = False
    await blocks.learn(HERE, scripted)
    own = offer(platform="docker", account="docker:a")
    await blocks.learn(own, OutOfCapacity("1 of 2 GPUs are free"))
    assert await left(blocks) == ALL
    assert await blocks.mark([own]) == [own]


@pytest.fixture
async def redis(session_engine: Engine):
    client = sessions.connect(session_engine.redis_url)
    yield client
    await client.aclose()


async def test_other_processes_of_the_account_learn_it_and_other_accounts_do_not(redis: Redis):
    one, other = (Blocks("ec2:shared", RedisBoard("ec2:shared", redis)) for _ in range(2))
    stranger = Blocks("ec2:stranger", RedisBoard("ec2:stranger", redis))
    await one.learn(HERE, OutOfCapacity("sold out"))
    assert HERE not in await left(other)
    assert await left(stranger) == ALL


async def test_what_is_long_over_leaves_the_board(redis: Redis):
    board = RedisBoard("ec2:tidy", redis)
    await board.post(Block("us-east-1", "QuotaExceeded: once", until=1000.0))
    await board.read()
    assert await board.read() == []


async def test_without_redis_a_process_remembers_for_itself():
    gone = sessions.connect("redis://127.0.0.1:1")
    blocks = Blocks("ec2:prod", RedisBoard("ec2:prod", gone))
    await blocks.learn(HERE, OutOfCapacity("sold out"))
    assert await left(blocks) == [NEXT_DOOR, FAR, OTHER_TYPE, SPOT, P5]
    await gone.aclose()


def test_of_many_offers_every_accelerator_asked_for_keeps_its_share_and_some_blocked_ones_are_shown():
    wanted = [offer(f"r{n:02}a") for n in range(40)]
    next_best = [offer(f"r{n:02}a", "g6.xlarge", rank=1) for n in range(40)]
    blocked = [each.model_copy(update={"blocked": "sold out"}) for each in wanted[:9]]
    kept = shortlist(blocked + wanted[9:] + next_best)
    usable = [each for each in kept if not each.blocked]
    assert usable == wanted[9:22] + next_best[:12]
    assert kept == usable + blocked[:5]
    assert shortlist(wanted[:3] + next_best[:2]) == wanted[:3] + next_best[:2]


@pytest.mark.parametrize("scope", ["ec2:prod", "us-east-1", "us-east-1a", "g5", "g", "g5.xlarge/on-demand", HERE.pool])
def test_a_scope_is_made_of_parts_of_an_offer(scope: str):
    assert HERE.within(scope)


@pytest.mark.parametrize("scope", ["", "/", "us-east", "g5/", "g5/spot", "us-west-2/g5"])
def test_a_scope_with_any_other_part_is_about_something_else(scope: str):
    assert not HERE.within(scope)


async def test_a_launch_that_listed_its_offers_before_does_not_ask_the_cloud_for_what_others_were_refused_since(
    tmp_path: Path,
):
    cloud = simulated("sim", tmp_path, [SimOffer(capacity=1)])
    (offer,) = await cloud.offers(Ask())
    blocks = Blocks(cloud.account)
    archive, secrets = cast(Any, None), SecretReader(cast(Any, None), b"")
    hands = ContainerActivities(cloud, secrets, archive, "testinstall2", blocks)
    request = LaunchRequest(launch=launch(), offer=offer, deadline=time.time() + 60)
    await blocks.learn(offer, OutOfCapacity("to somebody else"))
    with pytest.raises(ApplicationError, match="not asked for: it was refused lately") as refused:
        await ActivityEnvironment().run(hands.create, request)
    assert refused.value.type == "OutOfCapacity"
    assert await cloud.owned() == []
    again = ActivityEnvironment()
    again.info = replace(again.info, attempt=2)
    (rented,) = await again.run(hands.create, request)
    assert rented.key == request.launch.key, "a repeated request may have been granted: only the cloud knows"


def test_a_pool_is_of_one_size_in_one_place():
    one = Offer(platform="runpod", account="runpod:me", region="US-KS-2", zone="US-KS-2/COMMUNITY", accelerator_count=1)
    eight, nowhere = one.model_copy(update={"accelerator_count": 8}), Offer(platform="runpod", account="runpod:me")
    assert one.within(one.pool)
    assert not one.within(eight.pool)
    assert nowhere.within(nowhere.pool)
