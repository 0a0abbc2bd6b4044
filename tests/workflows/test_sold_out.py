"""What one container was refused another one knows; when that is all there is, it says so and when it tries again."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

from activities.blocks import Block
from activities.platforms.base import Ask
from tests.nebula import Nebula, eventually, sim_labels
from tests.nebula import nebula as running
from worker.board import RedisBoard
from worker.embedded import Engine

GONE = {"accelerator": "L4", "count": 1, "instance_type": "sim.l4", "capacity": 0}
SHELF: list[dict[str, Any]] = [
    {**GONE, "region": "near", "usd_per_hour": 1},
    {**GONE, "region": "far", "usd_per_hour": 3, "capacity": 5},
    {**GONE, "region": "moon", "accelerator": "T4", "instance_type": "sim.t4", "usd_per_hour": 1},
]


def nebula(engine: Engine, folder: Path):
    return running(engine.temporal_address, folder, redis_url=engine.redis_url, sim={"offers": SHELF})


async def outcomes(life: Any) -> list[tuple[str, str]]:
    return [(each["place"], each["outcome"]) for each in (await life.history())["attempts"]]


async def test_the_next_container_does_not_ask_for_what_is_known_to_be_sold_out(
    session_engine: Engine, tmp_path: Path
) -> None:
    async with nebula(session_engine, tmp_path) as here:
        first = await here.create(accelerators=["1:L4"])
        await first.until("running", "created")
        assert await outcomes(first) == [("sim near sim.l4", "OutOfCapacity"), ("sim far sim.l4", "rented")]
        second = await here.create(accelerators=["1:L4"])
        await second.until("running", "created")
        assert await outcomes(second) == [("sim far sim.l4", "rented")]
        events = {each["reason"]: each["message"] for each in (await second.history())["events"]}
        assert events["Placing"].startswith("1 offer, best sim far")
        assert events["LeftOut"].startswith("sim near sim.l4 was refused lately (OutOfCapacity: ")
        await end(here)


async def test_when_all_is_sold_out_it_waits_until_the_first_may_be_tried_again(
    session_engine: Engine, tmp_path: Path
) -> None:
    async with nebula(session_engine, tmp_path) as here:
        first = await here.create(accelerators=["1:T4"])
        await first.until("pending")
        second = await here.create(accelerators=["1:T4"])
        status = await second.until("pending")
        assert status["reason"] == "NoCapacity"
        assert status["message"].startswith("sim moon sim.t4 was refused lately")
        assert await outcomes(second) == [], "nothing was asked for"
        (offer,) = await here.parts.blocks(here.platform).mark(await here.platform.offers(Ask(accelerators=["1:T4"])))
        waits = datetime.fromisoformat(status["next_try_at"]) - datetime.fromisoformat(offer.blocked_until)
        assert abs(waits.total_seconds()) < 1
        await end(here)


async def test_it_is_tried_again_once_that_time_is_over(session_engine: Engine, tmp_path: Path) -> None:
    async with nebula(session_engine, tmp_path) as here:
        account = here.platform.account
        assert here.parts.redis
        block = Block(account, "QuotaExceeded: no more machines", time.time() + 2)
        await RedisBoard(account, here.parts.redis).post(block)
        life = await here.create(labels=sim_labels(boot="0s"), accelerators=["1:L4"])
        waiting = await life.until("pending")
        assert "refused lately (QuotaExceeded: no more machines)" in waiting["message"]
        await life.until("running", limit_s=30)
        assert await outcomes(life) == [("sim near sim.l4", "OutOfCapacity"), ("sim far sim.l4", "rented")]
        await end(here)


async def end(here: Nebula) -> None:
    for life in here.lives:
        await life.signal("delete")

    async def nothing_left() -> bool:
        return not await here.owned()

    await eventually(nothing_left)
