"""What must hold after a campaign, each as a list of what does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from nebulous import temporal
from tests.chaos.campaign import Campaign, unlike
from tests.chaos.ledgers import rented_twice
from tests.chaos.plan import Actor

#: Events in one run's history: lives here are short, so one that grows further repeats something without end.
LONGEST_HISTORY = 600


async def statuses(campaign: Campaign) -> list[str]:
    """Every container reached the status it should have, and its command was started as often as it should."""
    runs = sum((ledger.runs() for ledger in campaign.ledgers), start=type(campaign.sim.runs())())
    problems: list[str] = []
    for actor in campaign.plan.actors:
        row = await campaign.desk.row(actor.name)
        problem = unlike(actor.expected, row) or _runs(actor, row, runs)
        if problem:
            problems.append(await _story(campaign, actor, row, problem))
    return problems


def _runs(actor: Actor, row: dict[str, Any] | None, runs: dict[str, int]) -> str:
    script = actor.expected.script
    if row is None or script is None or script.runs is None or not actor.expected.untouched:
        return ""
    real = runs.get(row["metadata"]["id"], 0)
    return "" if real == script.runs else f"its command should have been started {script.runs} times, not {real}"


async def _story(campaign: Campaign, actor: Actor, row: dict[str, Any] | None, problem: str) -> str:
    """All that helps to understand one container that is not what it should be."""
    steps = ", ".join(f"{step.verb} {step.script.name if step.script else ''}".strip() for step in actor.steps)
    lines = [f"{actor.name}: {problem}", f"  asked: {steps}; lives: {campaign.lives[actor.name]}"]
    if row:
        lines.append(f"  is: {json.dumps(row['status'])}")
        told = await campaign.desk.ask("GET", f"/default/{actor.name}/events")
        lines += [f"  {each['at']} {each['reason']}: {each['message']}" for each in told.body.get("events", [])]
        lines += [f"  attempt {each}" for each in told.body.get("attempts", [])]
    mine = [line for line in _strikes(campaign) if f"/{actor.name} " in line]
    return "\n".join([*lines, *(f"  struck: {line}" for line in mine)])


def _strikes(campaign: Campaign) -> list[str]:
    return campaign.strikes.read_text().splitlines() if campaign.strikes.exists() else []


async def leaks(campaign: Campaign) -> list[str]:
    """No instance exists that no live container owns; asked of the platforms themselves."""
    owners: dict[str, str] = {}
    for actor in campaign.plan.actors:
        row = await campaign.desk.row(actor.name)
        for rental in row["status"]["rentals"] if row else []:
            owners[rental["key"]] = row["metadata"]["id"] if row else ""
    present = [each for ledger in campaign.ledgers for each in ledger.present()]
    problems = [f"nobody owns {each} of {each.workflow}" for each in present if owners.get(each.key) != each.life]
    missing = owners.keys() - {each.key for each in present}
    return problems + [f"{key} of life {owners[key]} is rented only on paper" for key in missing]


def doubles(campaign: Campaign) -> list[str]:
    """None was rented twice for one life, by the platforms' own ledgers."""
    vanishing = {
        life
        for actor in campaign.plan.actors
        for life in campaign.lives[actor.name]
        if any(step.script and step.script.vanishes for step in actor.steps)
    }
    return [
        problem for ledger in campaign.ledgers for problem in rented_twice(ledger.tenancies(), frozenset(vanishing))
    ]


async def histories(campaign: Campaign) -> list[str]:
    """No history grew past its bound; of every run there ever was."""
    long = [(length, name) async for name, length in _lengths(campaign) if length > LONGEST_HISTORY]
    return [f"{name} has {length} events, more than {LONGEST_HISTORY}" for length, name in long]


async def longest_history(campaign: Campaign) -> str:
    """For the record."""
    length, name = max([(length, name) async for name, length in _lengths(campaign)])
    return f"{length} events ({name.partition('@')[0]})"


async def _lengths(campaign: Campaign) -> AsyncIterator[tuple[str, int]]:
    async for execution in campaign.client.list_workflows(""):
        handle = campaign.client.get_workflow_handle(execution.id, run_id=execution.run_id)
        yield f"{execution.id}@{execution.run_id}", (await handle.describe()).history_length


async def sweeps(campaign: Campaign) -> list[str]:
    """The sweep had nothing to destroy: nothing was ever without an owner, so it would have been mistaken."""
    log = campaign.server.folder / "server" / "logs" / "worker.log"
    problems = [line for line in log.read_text(errors="replace").splitlines() if "orphan" in line]
    async for execution in campaign.client.list_workflows(temporal.open_query("platform")):
        row = await temporal.row(execution)
        if row and (row.status.get("orphans") or row.status.get("alarm")):
            problems.append(f"{execution.id}: {row.status}")
    return problems
