"""Record the histories that `tests/workflows/test_replay.py` replays: `make histories`.

Old files are never deleted while a run recorded by such code may be open somewhere. With names only those are recorded:
`python -m tests.record_histories recovered deleted_while_pending`. What goes wrong, and what is deleted in which phase,
is in `tests/histories_of_trouble.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nebulous import __version__, ids
from nebulous.settings import Settings
from tests.histories_of_trouble import DELETIONS, FAILURES, LONG, STUMBLES, Case
from tests.nebula import Nebula, Resource, eventually, nebula, sim_labels
from worker.embedded import Engine

HISTORIES = Path(__file__).parent / "histories"


async def completed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"), ttl_after_finished="500ms")
    await life.gone()
    return life.id


async def restarted(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="1,0"), restart="OnFailure")
    await life.until("completed")
    await life.signal("delete")
    await life.gone()
    return life.id


async def failed_over(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", fail="OutOfCapacity,QuotaExceeded")
    life = await run.create(labels=script, accelerators=["1:A100"])
    await life.until("completed")
    return life.id


async def pending_then_failed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(fail="OutOfCapacity*99"), provision_timeout="1s")
    await life.until("failed")
    return life.id


async def recovered(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", preempt_after="0.2s"))

    async def back() -> bool:
        return (await life.status())["recoveries"] == 1 and (await life.status())["status"] == "running"

    await eventually(back)
    await life.signal("delete")
    await life.gone()
    return life.id


async def stopped_and_started(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("stop")
    await life.until("stopped")
    await life.signal("start")
    await life.until("running")
    await life.signal("restart")
    await eventually(lambda: _restarted(life))
    await life.handle.cancel()
    await life.gone()
    return life.id


async def _restarted(life: Resource) -> bool:
    return (await life.status())["restarts"] == 1


async def unanswered(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", unanswered="1"), timeout="300ms")
    await life.until("failed")
    return life.id


async def invalid(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(run_for="soon"))
    await life.until("invalid")
    return life.id


async def changed(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s", exit_code="7"), restart="Always")
    await life.until("restarting")
    await _apply(life, max_retries=4, timeout="1h")
    await _apply(life, restart="Never")
    await life.until("failed")
    await _apply(life, ttl_after_finished="500ms")
    await life.gone()
    return life.id


async def replaced(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    first = (await life.client.get_workflow_handle(life.id).describe()).run_id
    await _apply(life, replace=True, image="else")
    handle = life.client.get_workflow_handle(life.id, run_id=first)
    await eventually(lambda: _closed(handle))
    await life.signal("delete")
    await life.gone()
    return f"{life.id}@{first}"


async def _closed(handle: Any) -> bool:
    return (await handle.describe()).close_time is not None


async def _apply(life: Resource, *, replace: bool = False, **spec: Any) -> None:
    row = await life.row()
    request = {"spec": {**row.spec, **spec}, "metadata": {"labels": row.metadata.labels}, "replace": replace}
    await life.client.get_workflow_handle(life.id).execute_update("apply", request)


async def unhealthy(run: Nebula) -> str:
    check = {"command": "true", "interval": "100ms", "retries": 1}
    script = sim_labels(boot="0s", unhealthy_after="300ms,0s")
    life = await run.create(labels=script, restart="OnFailure", max_retries=1, health_check=check)
    await life.until("failed")
    await life.signal("delete")
    await life.gone()
    return life.id


async def kept_and_told(run: Nebula) -> str:
    script = sim_labels(boot="0s", run_for="0s", exit_code="3")
    life = await run.create(labels=script, keep_on_failure="1h", notify="http://127.0.0.1:9/nobody")

    async def told() -> bool:
        return "NotifyFailed" in await life.reasons()

    await eventually(told)
    await life.signal("stop")

    async def given_back() -> bool:
        return not (await life.row()).rentals

    await eventually(given_back)
    return life.id


async def secret(run: Nebula) -> str:
    handle = await run.client.start_workflow(
        "Secret",
        {"spec": {"sealed": "s", "digest": "d"}, "install": run.parts.install},
        id=f"secret/local/default/{ids.two_words()}",
        task_queue=ids.TASK_QUEUE,
    )
    life = Resource(run.client, handle)
    await eventually(lambda: handle.query("sealed"))
    await life.signal("delete")
    await life.gone()
    return life.id


async def platform(run: Nebula) -> str:
    return ids.platform_workflow(run.platform.account)


async def sweep(run: Nebula) -> str:
    return ids.sweep_workflow(run.platform.account)


async def install(run: Nebula) -> str:
    return ids.INSTALL_WORKFLOW


CASES: Mapping[str, Sequence[Case]] = {
    "Container": [
        completed,
        restarted,
        failed_over,
        pending_then_failed,
        recovered,
        stopped_and_started,
        unanswered,
        invalid,
        changed,
        replaced,
        unhealthy,
        kept_and_told,
        *DELETIONS,
        *FAILURES,
    ],
    "Secret": [secret],
    "Platform": [platform],
    "PlatformSweep": [sweep],
    "Install": [install],
}


def portable(text: str) -> str:
    """One event a line; without stack traces: they name files of the machine that recorded them."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(inner) for key, inner in value.items() if key != "stackTrace"}
        return [cleaned(inner) for inner in value] if isinstance(value, list) else value

    events = [json.dumps(event) for event in cleaned(json.loads(text))["events"]]
    return '{"events": [\n' + ",\n".join(events) + "\n]}\n"


async def record(folder: Path, *names: str) -> None:
    """Run the cases and save their histories: all, or those with these names."""
    await _record(folder / "usual", CASES, names)
    await _record(folder / "long", LONG, names, **{"limit.historyCount.suggestContinueAsNew": "50"})
    for number, (fault, cases) in enumerate(STUMBLES):  # what the simulated cloud does not do by itself
        os.environ["NEBU_FAULTS"] = json.dumps({"rules": [fault.rule]})
        await _record(folder / str(number), cases, names)
        del os.environ["NEBU_FAULTS"]


async def _record(
    folder: Path, kinds: Mapping[str, Sequence[Case]], names: Sequence[str], **dynamic_config: str
) -> None:
    wanted = [(kind, case) for kind, cases in kinds.items() for case in cases if not names or case.__name__ in names]
    if not wanted:
        return
    folder.mkdir()
    settings = Settings(data_dir=folder, temporal_port=0, ui_port=0, redis_port=0)
    async with Engine(settings, dynamic_config) as engine, nebula(engine.temporal_address, folder) as run:
        for kind, case in wanted:
            await _save(run, kind, case)


async def _save(run: Nebula, kind: str, case: Case) -> None:
    workflow_id, _, run_id = (await case(run)).partition("@")
    history = await run.client.get_workflow_handle(workflow_id, run_id=run_id or None).fetch_history()
    target = HISTORIES / kind / f"{case.__name__}-{__version__}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(portable(history.to_json()))
    sys.stdout.write(f"{target.relative_to(HISTORIES.parent.parent)}: {len(history.events)} events\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(record(Path(scratch), *sys.argv[1:]))
