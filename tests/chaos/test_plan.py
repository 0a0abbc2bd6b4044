"""The plan of a campaign: replayable by its seed, and full of what it is for."""

from __future__ import annotations

import pytest

from tests.chaos.plan import BOUNDARIES, STORIES, VICTIMS, Expected, Step, plan
from tests.chaos.scripts import DOCKER, SIM, Script
from tests.chaos.test_campaign import LIVES

ENDLESS = Script("runs", frozenset({"running"}))
ENDING = Script("ends", frozenset({"completed"}))


def test_a_plan_is_a_pure_function_of_its_seed() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)


@pytest.mark.parametrize("seed", range(5))
def test_every_plan_has_what_a_campaign_is_for(seed: int) -> None:
    made = plan(seed, LIVES)
    assert made.lives >= 200
    assert {actor.platform for actor in made.actors} == {"sim", "docker"}
    for victim in VICTIMS:
        assert sum(blow.victim == victim and not blow.freeze_s for blow in made.blows) >= 2, victim
    assert sum(rule["fault"] == "kill" for rule in made.rules) >= 4
    races = [actor for actor in made.actors if [step.verb for step in actor.steps][:2] == ["create", "delete"]]
    assert len(races) >= 20
    assert any(actor.expected.statuses == frozenset() for actor in made.actors)


def test_every_story_and_script_comes_up_and_every_boundary_can_kill() -> None:
    made = [plan(seed, LIVES) for seed in range(40)]
    actors = [actor for each in made for actor in each.actors]
    played = {(actor.platform, step.script.name) for actor in actors for step in actor.steps if step.script}
    written = [(on.platform, script) for on in (SIM, DOCKER) for script in (*on.ending, *on.endless, on.restless)]
    assert played == {(platform, script.name) for platform, script in written}
    told = {tuple(step.verb for step in actor.steps) for actor in actors}
    assert len(told) >= len(STORIES) - 3  # some differ in their scripts only
    kills = {(rule["activity"], rule["when"]) for each in made for rule in each.rules if rule["fault"] == "kill"}
    assert kills == set(BOUNDARIES)


@pytest.mark.parametrize(
    ("steps", "statuses"),
    [
        ([Step("create", script=ENDING)], {"completed"}),
        ([Step("create", script=ENDING), Step("delete")], set()),
        ([Step("create", script=ENDING), Step("delete"), Step("create", script=ENDLESS)], {"running"}),
        ([Step("create", script=ENDLESS), Step("stop")], {"stopped"}),
        ([Step("create", script=ENDLESS), Step("stop"), Step("start")], {"running"}),
        ([Step("create", script=ENDLESS), Step("stop"), Step("start"), Step("stop")], {"stopped"}),
        ([Step("create", script=ENDLESS), Step("replace", script=ENDING), Step("stale")], {"completed"}),
        ([Step("create", script=ENDLESS), Step("cancel")], set()),
        ([Step("create", script=ENDLESS), Step("replace", script=ENDLESS), Step("stop")], {"stopped"}),
    ],
)
def test_what_is_expected_follows_from_what_was_asked(steps: list[Step], statuses: set[str]) -> None:
    told = Expected()
    for step in steps:
        told = told.after(step)
    assert told.statuses == statuses
