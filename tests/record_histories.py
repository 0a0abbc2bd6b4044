"""Record the histories that `tests/workflows/test_replay.py` replays: `make histories`.

Old files are never deleted while a run recorded by such code may be open somewhere. With names only those are recorded:
`python -m tests.record_histories recovered deleted_while_pending`. What is played is in `tests/recordings`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHistory

from nebulous import __version__
from nebulous.settings import Settings
from tests.nebula import nebula
from tests.recordings import failures, lives, moments, runs, servants, trouble
from tests.recordings.case import Case, named
from worker.embedded import Engine
from worker.faults import VARIABLE

HISTORIES = Path(__file__).parent / "histories"
SHORT = {"limit.historyCount.suggestContinueAsNew": "50"}
REPLACE = "--replace"  # only while no run of such code can be open anywhere: before a release
RUNS_KEPT = 4  # of one case: those that follow are like them

CASES: dict[str, list[Case]] = {
    "Container": [
        *lives.CONTAINER,
        *named(*trouble.DELETIONS, *trouble.FAILURES),
        *named(*trouble.LONG["Container"], short=True),
        *runs.CONTAINER,
        *moments.CONTAINER,
        *failures.FAILED,
    ],
    "Secret": [*lives.SECRET, *runs.SECRET, *servants.SECRET],
    "Platform": [
        *lives.PLATFORM,
        *named(*trouble.LONG["Platform"], short=True),
        *runs.PLATFORM,
        *servants.PLATFORM,
    ],
    "PlatformSweep": [*lives.SWEEP, *runs.SWEEP, *servants.SWEEP],
    "Install": [*lives.INSTALL, *servants.INSTALL],
}
for stumble, cases in trouble.STUMBLES:
    for kind, plays in cases.items():
        CASES[kind] += [Case(each.__name__, each, (stumble.rule,)) for each in plays]


def portable(text: str) -> str:
    """One event a line, without stack traces: they name files of the machine that recorded them."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(inner) for key, inner in value.items() if key != "stackTrace"}
        return [cleaned(inner) for inner in value] if isinstance(value, list) else value

    events = ",\n".join(json.dumps(cleaned(event)) for event in json.loads(text)["events"])
    return f'{{"events": [\n{events}\n]}}\n'


async def chain(client: Client, told: str) -> list[WorkflowHistory]:
    """The history of the run that is named after an @; else of all that the latest one goes back to, oldest first."""
    workflow_id, _, one = told.partition("@")
    if one:
        return [await client.get_workflow_handle(workflow_id, run_id=one).fetch_history()]
    described = await client.get_workflow_handle(workflow_id).describe()
    found: list[WorkflowHistory] = []
    run_id = described.raw_description.workflow_execution_info.first_run_id
    while run_id:
        found.append(await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history())
        run_id = found[-1].events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return found


async def play(case: Case, address: str, folder: Path) -> list[WorkflowHistory]:
    """Let one case happen, with a worker of its own."""
    if case.faults:
        os.environ[VARIABLE] = json.dumps({"rules": case.faults})
    try:
        async with nebula(address, folder) as run:
            return await chain(run.client, await case.play(run))
    finally:
        os.environ.pop(VARIABLE, None)


def save(kind: str, path: str, histories: list[WorkflowHistory], replace: bool) -> None:
    """The first run is called as its path, those after it get a number.

    One that is there stays, unless it is to be replaced: what older code recorded is what today's has to replay.
    """
    for number, history in enumerate(histories[:RUNS_KEPT], 1):
        name = path if number == 1 else f"{path}.{number}"
        target = HISTORIES / kind / f"{name}-{__version__}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not replace:
            sys.stdout.write(f"{target.relative_to(HISTORIES.parent.parent)}: kept; {REPLACE} records it again\n")
            continue
        target.write_text(portable(history.to_json()))
        sys.stdout.write(f"{target.relative_to(HISTORIES.parent.parent)}: {len(history.events)} events\n")
        sys.stdout.flush()


async def record(folder: Path, only: set[str], replace: bool) -> None:
    """Run every case, or only some, and save the histories."""
    unknown = only - {case.name for cases in CASES.values() for case in cases}
    if unknown:
        raise SystemExit(f"no such path: {', '.join(sorted(unknown))}; they stand in tests/recordings")
    async with AsyncExitStack() as stack:
        addresses: dict[bool, str] = {}
        for short in (False, True):
            settings = Settings(data_dir=folder / str(short), temporal_port=0, ui_port=0, redis_port=0)
            engine = await stack.enter_async_context(Engine(settings, SHORT if short else None))
            addresses[short] = engine.temporal_address
        for kind, case in [(kind, case) for kind, cases in CASES.items() for case in cases]:
            if only and case.name not in only:
                continue
            save(kind, case.name, await play(case, addresses[case.short], folder / case.name), replace)


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # what fails, fails on purpose
    with tempfile.TemporaryDirectory() as scratch:
        words = set(sys.argv[1:])
        asyncio.run(record(Path(scratch), words - {REPLACE}, REPLACE in words))
