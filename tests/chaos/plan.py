"""What a campaign does, and what should come of it: a pure function of its seed.

An actor is one name, its steps are what one person asks for it, one after the other. What should become of it is
told step by step in `Expected`, beside the steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.scripts import DOCKER, RUNNING, SIM, STOPPED, Repertoire, Script

Verb = Literal["create", "again", "delete", "cancel", "stop", "start", "restart", "change", "replace", "lose", "stale"]

LIVES_PER_SECOND = 2.4
SHARE_OF_DOCKER = 0.22
KILL_EVERY_S = 8.0
LONGEST_PAUSE_S = 1.5
VICTIMS = ("worker", "temporal", "api")
#: A frozen worker goes on after the engine gave its activities up: what it then does is a delayed duplicate.
FREEZE_S = {"worker": 7.0, "temporal": 2.0, "api": 2.0}
KILLS_AT_BOUNDARIES = 5
ACTIVITIES = (
    "choose_platforms",
    "list_offers",
    "prepare",
    "create",
    "start",
    "stop",
    "release",
    "archive_logs",
    "delete_owned",
    "notify",
    "sweep",
)
#: A sweep has no end of its own.
BOUNDARIES = [
    (activity, when)
    for activity in ACTIVITIES
    for when in ("before", "after")
    if (activity, when) != ("sweep", "after")
]


@dataclass(frozen=True)
class Step:
    """One thing asked for, `pause_s` after the one before; `until`: first wait for one of these statuses."""

    verb: Verb
    pause_s: float = 0.0
    script: Script | None = None
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What should become of a name: nothing, or one of these statuses."""

    statuses: frozenset[str] = frozenset()  # empty: it is gone
    script: Script | None = None
    untouched: bool = True  # nobody asked for anything since its creation, so counts can be told
    recoveries: int = 0

    def after(self, step: Step) -> Expected:
        """What should become of it once this was asked for, too."""
        if step.verb in ("create", "replace"):
            assert step.script
            return Expected(step.script.ends, step.script, recoveries=step.script.recoveries)
        if step.verb in ("delete", "cancel"):
            return Expected()
        if step.verb in ("again", "stale", "change"):
            return self
        script, recoveries = self.script, self.recoveries + (step.verb == "lose")
        assert script
        assert script.endless, "what ends by itself may do so before or after a stop: nobody could tell"
        word = STOPPED if step.verb == "stop" else RUNNING
        return Expected(frozenset({word}), script, untouched=False, recoveries=recoveries)


@dataclass(frozen=True)
class Actor:
    """One name and what is asked for it."""

    name: str
    platform: str
    at_s: float
    steps: tuple[Step, ...]

    @property
    def expected(self) -> Expected:
        """What should have become of it in the end."""
        told = Expected()
        for step in self.steps:
            told = told.after(step)
        return told

    @property
    def lives(self) -> int:
        """How many containers it asks for."""
        return sum(step.verb in ("create", "replace") for step in self.steps)


@dataclass(frozen=True)
class Blow:
    """One process of the server hit from outside; `freeze_s` 0 is kill -9."""

    at_s: float
    victim: str
    freeze_s: float = 0.0


@dataclass
class Plan:
    """All of a campaign."""

    seed: int
    actors: list[Actor] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)

    @property
    def lives(self) -> int:
        """How many containers are asked for."""
        return sum(actor.lives for actor in self.actors)


def plan(seed: int, lives: int, platforms: tuple[Repertoire, ...] = (SIM, DOCKER)) -> Plan:
    """Make the plan of this seed with at least so many lives."""
    rng = random.Random(seed)
    made = Plan(seed)
    length_s = lives / LIVES_PER_SECOND
    while made.lives < lives:
        docker = len(platforms) > 1 and rng.random() < SHARE_OF_DOCKER
        stage = platforms[-1] if docker else platforms[0]
        steps = _story(rng, stage)
        number = len(made.actors)
        name = f"{stage.platform}-{number:03}"
        at_s = length_s * made.lives / lives + rng.random() * LONGEST_PAUSE_S
        made.actors.append(Actor(name, stage.platform, round(at_s, 2), steps))
    made.blows = _blows(rng, length_s)
    made.rules = _rules(rng)
    return made


def _blows(rng: random.Random, length_s: float) -> list[Blow]:
    """Every victim is killed in turn, at random moments; later some are frozen instead."""
    blows: list[Blow] = []
    at_s, order = 3.0 + rng.random() * 3, list(VICTIMS)
    while at_s < length_s:
        if len(blows) % len(order) == 0:
            rng.shuffle(order)
        victim = order[len(blows) % len(order)]
        frozen = FREEZE_S[victim] if len(blows) >= 2 * len(order) and rng.random() < 0.4 else 0.0
        blows.append(Blow(round(at_s, 2), victim, frozen))
        at_s += frozen + KILL_EVERY_S * (0.5 + rng.random())
    return blows


def _rules(rng: random.Random) -> list[dict[str, Any]]:
    """What goes wrong at the boundaries of activities; see `worker/faults.py`."""

    def rule(
        activity: str, when: str, fault: str = "Unavailable", probability: float = 0.0, **more: Any
    ) -> dict[str, Any]:
        return {"activity": activity, "when": when, "fault": fault, "probability": probability, **more}

    picked = rng.sample(BOUNDARIES, KILLS_AT_BOUNDARIES)
    return [
        *(rule(activity, when, "kill", 0.015, times=1) for activity, when in picked),
        rule("create", "before", "OutOfCapacity", 0.04),
        rule("create", "after", probability=0.10),
        rule("create", "twice", probability=0.10, pause_s=0.3),
        rule("start", "before", "AuthFailed", 0.02),
        rule("sweep", "before", probability=0.3),
        rule("*", "before", probability=0.03),
        rule("*", "before", "RateLimited", 0.02),
        rule("*", "after", probability=0.04),
        rule("*", "twice", probability=0.05, pause_s=0.5),
    ]


# --- stories --------------------------------------------------------------------------------------------


def _story(rng: random.Random, stage: Repertoire) -> tuple[Step, ...]:
    teller = rng.choices([tell for tell, _ in STORIES], [weight for _, weight in STORIES])[0]
    return tuple(teller(_Pen(rng, stage)))


class _Pen:
    """Writes steps; every choice is the seed's."""

    def __init__(self, rng: random.Random, stage: Repertoire) -> None:
        self.rng, self.stage = rng, stage

    def pause(self) -> float:
        """Often none at all: races are the point."""
        return 0.0 if self.rng.random() < 0.4 else round(self.rng.random() * LONGEST_PAUSE_S, 2)

    def create(self, *, ending: bool | None = None) -> Step:
        ends = self.rng.random() < 0.7 if ending is None else ending
        return Step("create", self.pause(), self.rng.choice(self.stage.ending if ends else self.stage.endless))

    def ask(self, verb: Verb, *until: str) -> Step:
        return Step(verb, self.pause(), until=until)

    def perhaps(self, *until: str) -> tuple[str, ...]:
        """Wait for it, or do not."""
        return until if self.rng.random() < 0.5 else ()


def _alone(pen: _Pen) -> list[Step]:
    return [pen.create(ending=True)]


def _running(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False)]


def _restless(pen: _Pen) -> list[Step]:
    return [Step("create", 0, pen.stage.restless)]


def _twice_created(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False), pen.ask("again")]


def _deleted(pen: _Pen) -> list[Step]:
    return [pen.create(), pen.ask("delete")]


def _cancelled(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False), pen.ask("cancel")]


def _reborn(pen: _Pen) -> list[Step]:
    return [pen.create(), pen.ask("delete"), pen.create(), *([pen.ask("stale")] if pen.rng.random() < 0.5 else [])]


def _reborn_often(pen: _Pen) -> list[Step]:
    return [pen.create(), pen.ask("delete"), pen.create(), pen.ask("delete"), pen.create()]


def _stopped(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False), pen.ask("stop", *pen.perhaps(RUNNING))]


def _started_again(pen: _Pen) -> list[Step]:
    return [*_stopped(pen), pen.ask("start", *pen.perhaps(STOPPED))]


def _undecided(pen: _Pen) -> list[Step]:
    return [*_started_again(pen), pen.ask("stop", *pen.perhaps(RUNNING))]


def _restarted(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False), pen.ask("restart", *pen.perhaps(RUNNING))]


def _stopped_between(pen: _Pen) -> list[Step]:
    return [*_stopped(pen), pen.ask("delete"), pen.create(), pen.ask("stale")]


def _changed(pen: _Pen) -> list[Step]:
    return [pen.create(ending=False), pen.ask("change"), *([pen.ask("stop")] if pen.rng.random() < 0.5 else [])]


def _replaced(pen: _Pen) -> list[Step]:
    script = pen.rng.choice(pen.stage.ending)
    return [pen.create(ending=False), Step("replace", pen.pause(), script)]


def _replaced_then_deleted(pen: _Pen) -> list[Step]:
    return [*_replaced(pen), pen.ask("delete"), pen.create()]


def _stopped_while_another_follows(pen: _Pen) -> list[Step]:
    """The stop meets the change of lives, wherever that is just then; so does a start."""
    script = pen.rng.choice(pen.stage.endless)
    if pen.rng.random() < 0.5:
        begun = [pen.create(ending=False), Step("replace", pen.pause(), script)]
    else:
        begun = [pen.create(), pen.ask("delete"), Step("create", pen.pause(), script)]
    return [*begun, pen.ask("stop"), *([pen.ask("start")] if pen.rng.random() < 0.4 else [])]


def _lost(pen: _Pen) -> list[Step]:
    if pen.stage.platform != "docker":
        return _restarted(pen)
    return [pen.create(ending=False), pen.ask("lose", RUNNING)]


STORIES: tuple[tuple[Callable[[_Pen], list[Step]], int], ...] = (
    (_alone, 30),
    (_running, 4),
    (_restless, 1),
    (_twice_created, 4),
    (_deleted, 9),
    (_cancelled, 2),
    (_reborn, 10),
    (_reborn_often, 7),
    (_stopped, 6),
    (_started_again, 6),
    (_undecided, 5),
    (_restarted, 4),
    (_stopped_between, 5),
    (_changed, 5),
    (_replaced, 5),
    (_replaced_then_deleted, 4),
    (_stopped_while_another_follows, 9),
    (_lost, 5),
)
