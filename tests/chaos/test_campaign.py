"""The campaign: hundreds of container lives on a server whose processes are killed, and proof that nothing was lost.

`make chaos SEED=… LIVES=…` runs it alone; CI runs it with a seed of its own each time, and prints it.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import proofs
from tests.chaos.campaign import Campaign
from tests.chaos.plan import VICTIMS, plan
from tests.chaos.scripts import DOCKER, SIM
from tests.served import Server

LIVES = 210
FAULTS_AT_LEAST = 4  # lives for each: about one a life are drawn


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


async def test_whatever_is_killed_every_container_ends_as_it_should_and_nothing_is_left_or_rented_twice(
    server: Server, docker_host: str, image: str, record_property: Any
) -> None:
    seed = int(os.environ.get("NEBU_CHAOS_SEED") or secrets.randbelow(1_000_000))
    asked = plan(seed, int(os.environ.get("NEBU_CHAOS_LIVES") or LIVES), (SIM, DOCKER))
    campaign, began = Campaign(server, asked, docker_host, image), time.monotonic()
    again = f"make chaos SEED={seed} LIVES={asked.lives}"
    try:
        await campaign.run()
        problems = [*await proofs.statuses(campaign), *await proofs.leaks(campaign), *proofs.doubles(campaign)]
        await campaign.clear()
        problems += await proofs.leaks(campaign)
        problems += await proofs.histories(campaign)
        problems += await proofs.sweeps(campaign)
        story = (
            f"seed {seed}: {asked.lives} lives under {len(asked.actors)} names in {time.monotonic() - began:.0f} s; "
            f"{len(campaign.blows)} blows: {', '.join(campaign.blows)}; "
            f"{campaign.struck().total()} faults at {len(campaign.struck())} kinds of boundaries; "
            f"longest history {await proofs.longest_history(campaign)}; again: {again}"
        )
    except BaseException as error:
        error.add_note(f"chaos seed {seed}; again: {again}; blows: {campaign.blows}")
        raise
    finally:
        await campaign.close()
    print(story)
    record_property("chaos", story)
    assert not problems, "\n".join([story, *problems])
    survived = [victim for victim in VICTIMS if f"{victim} killed" not in campaign.blows]
    assert not survived, f"nobody killed {survived}, so this proves nothing of it: {story}"
    assert campaign.ear.heard, f"nobody was told of an outcome: {story}"
    assert campaign.struck().total() >= asked.lives / FAULTS_AT_LEAST, f"hardly a call failed: {story}"
