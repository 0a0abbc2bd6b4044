"""One path through a workflow: how it is played, and under which faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nebulous import temporal
from tests.nebula import Nebula, Resource, eventually

Play = Callable[[Nebula], Awaitable[str]]  # returns the workflow id; all runs of its latest chain are recorded


@dataclass(frozen=True)
class Case:
    """One path, named as its history is."""

    name: str
    play: Play
    faults: tuple[dict[str, Any], ...] = ()  # rules of worker/faults.py
    short: bool = False  # on an engine that asks for continue-as-new after 50 events


def named(*plays: Play, short: bool = False) -> list[Case]:
    """Cases that are called as their functions are."""
    return [Case(play.__name__, play, short=short) for play in plays]


def fault(activity: str, kind: str = "Unavailable", *, times: int = 1, when: str = "before") -> dict[str, Any]:
    """A rule for the fault injector."""
    return {"activity": activity, "when": when, "fault": kind, "times": times}


async def held_in(life: Resource, activity: str) -> None:
    """Wait until this activity has failed, and waits for its next try."""

    async def fails() -> bool:
        described = await life.client.get_workflow_handle(life.id).describe()
        pending = described.raw_description.pending_activities
        return any(each.activity_type.name == activity and each.HasField("last_failure") for each in pending)

    await eventually(fails, what=f"{activity} of {life.id} fails")


async def delete(life: Resource, limit_s: float = 60) -> str:
    """The end of most lives."""
    await life.signal("delete")
    await life.gone(limit_s)
    return life.id


async def released(life: Resource) -> None:
    """Wait until nothing is rented any more."""

    async def proven() -> bool:
        return not (await life.row()).rentals

    await eventually(proven, 60)


async def another_run(life: Resource, nudge: Callable[[], Awaitable[Any]]) -> None:
    """Fill the history with what changes nothing, until the workflow continues as new."""
    first = await run_of(life)

    async def continued() -> bool:
        await nudge()
        return await run_of(life) != first

    await eventually(continued)


async def run_of(life: Resource) -> str:
    """The id of the latest run."""
    return (await life.client.get_workflow_handle(life.id).describe()).run_id


async def again(life: Resource, new_id: str, **spec: Any) -> dict[str, str]:
    """A second POST under the name of this life."""
    row = await life.row()
    metadata = {**row.metadata.model_dump(), "id": new_id}
    request = {"spec": {**row.spec, **spec}, "metadata": metadata}
    handle = life.client.get_workflow_handle(life.id)
    return await handle.execute_update("create", request, rpc_timeout=temporal.RPC_TIMEOUT)
