"""Containers that are stopped, one in each phase before the outcome, and the latest deletion that there can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.recordings.case import Case, delete, fault, held_in, released

Moment = Callable[[Resource], Awaitable[Any]]
AT_ONCE = {"boot": "0s"}
ENDS = {"boot": "0s", "run_for": "0s"}


@dataclass(frozen=True)
class Hold:
    """How a container is brought into a phase, and held there for long enough."""

    script: dict[str, str]
    moment: Moment
    spec: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()


def shown(*statuses: str) -> Moment:
    """The moment at which a status is shown."""
    return lambda life: life.until(*statuses)


def failing(activity: str) -> Moment:
    """The moment at which an activity has failed once."""
    return lambda life: held_in(life, activity)


async def _restarting(life: Resource) -> None:
    async def waits_long() -> bool:
        return (await life.status())["restarts"] == 2 and (await life.status())["status"] == "restarting"

    await eventually(waits_long)


HOLDS: dict[str, Hold] = {
    "placing": Hold(AT_ONCE, failing("list_offers"), faults=(fault("list_offers", times=3),)),
    "renting": Hold(AT_ONCE, failing("create"), faults=(fault("create"),)),
    "replacing": Hold(
        AT_ONCE, failing("release"), faults=(fault("create", "Conflict", when="after"), fault("release", times=4))
    ),
    "pending": Hold({"fail": "OutOfCapacity*99"}, shown("pending")),
    "booting": Hold({"boot": "1m"}, failing("start")),
    "restarting": Hold({**ENDS, "exit_code": "1"}, _restarting, {"restart": "Always"}),
    "recovering": Hold(
        {**AT_ONCE, "preempt_after": "200ms"}, failing("archive_logs"), faults=(fault("archive_logs", times=2),)
    ),
}
#: Nobody asked for its end, until the last moment.
CLOSE = Hold(ENDS, failing("delete_owned"), {"ttl_after_finished": "100ms"}, (fault("delete_owned", times=3),))


def _started(hold: Hold) -> Case:
    async def play(run: Nebula) -> str:
        life = await run.create(labels=sim_labels(**hold.script), **hold.spec)
        await hold.moment(life)
        await life.signal("start")
        await life.gone(60)
        return life.id

    return Case("expired_then_started_while_close", play, hold.faults)


async def _stopped_while_it_ends(run: Nebula) -> str:
    """Its time is over, and the machine would be kept for a look at it."""
    life = await run.create(labels=sim_labels(**AT_ONCE), timeout="200ms", keep_on_failure="1h")
    await held_in(life, "stop")
    await life.signal("stop")
    await life.until("failed")
    await released(life)
    return await delete(life)


def _deleted(hold: Hold) -> Case:
    async def play(run: Nebula) -> str:
        life = await run.create(labels=sim_labels(**hold.script), **hold.spec)
        await hold.moment(life)
        return await delete(life)

    return Case("expired_then_deleted_while_close", play, hold.faults)


def _stopped(phase: str, hold: Hold) -> Case:
    async def play(run: Nebula) -> str:
        life = await run.create(labels=sim_labels(**hold.script), **hold.spec)
        await hold.moment(life)
        await life.signal("stop")
        await life.until("stopped", limit_s=60)
        await released(life)
        return await delete(life)

    return Case(f"stopped_while_{phase}", play, hold.faults)


CONTAINER = [
    _deleted(CLOSE),
    _started(CLOSE),
    Case("stopped_while_it_ends", _stopped_while_it_ends, (fault("stop", times=2),)),
    *(_stopped(phase, hold) for phase, hold in HOLDS.items()),
]
