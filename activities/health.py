"""Health checks: asks the commands of one platform account whether they are ready, and signals what changes.

It also has those watched that are to be stopped once they are idle (`idle.py`).

It runs beside the sweep and lives on what the sweep reads anyway: each listing names the running commands, and the
row of a container says whether and how it is checked, and what its workflow was told last. So nothing here matters
after a crash: the next prober begins where the row is. A check costs nothing in Temporal; only a change is signalled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from temporalio.client import Client
from temporalio.service import RPCError

from activities.idle import Attached, watch
from activities.platforms.base import Measures, Platform, Probes, Verdict
from activities.secrets import SecretReader
from nebulous import temporal
from nebulous.errors import NebulousError
from nebulous.models.container_fields import HealthCheck
from nebulous.models.containers import FINAL, ContainerSpec, Launch, Status
from nebulous.models.platforms import Instance, InstanceState, Observation
from nebulous.models.resources import Row
from nebulous.tasks import end

log = logging.getLogger(__name__)

CHECKS_AT_ONCE = 100
LOOK_AGAIN_S, SLOWEST_LOOK_S = 0.1, 2.0  # until the workflow knows what the listing showed
TROUBLE_PAUSE_S = 1.0

#: What is looked after: a rental and a run of its command.
Watched = tuple[str, str | None]


@dataclass
class Tally:
    """Counts the answers to one check and tells when to say something new. Pure."""

    check: HealthCheck
    told: str | None = None  # healthy, unhealthy, or nothing yet
    failures: int = 0

    def add(self, verdict: Verdict, age_s: float) -> str | None:
        """Take in one answer; return what became of the command, if that is news.

        Args:
            verdict: The answer.
            age_s: Seconds since the command was started.
        """
        if verdict.ok:
            self.failures = 0
            return self._news("healthy")
        if age_s < self.check.start_period_s and self.told != "healthy":
            return None
        self.failures += 1
        return self._news("unhealthy") if self.failures >= self.check.retries else None

    def _news(self, word: str) -> str | None:
        return None if word == self.told else word


@dataclass
class _Task:
    """What is done about one run: the loop that looks after it, and all of the spec that this depends on."""

    loop: asyncio.Task[None] | None = None  # None: nothing has to be done
    spec: object = None  # None: not known yet

    def cancel(self) -> None:
        if self.loop:
            self.loop.cancel()


class Prober:
    """Looks after all running commands of one account that have a health check."""

    def __init__(
        self,
        client: Client,
        platform: Platform,
        install: str,
        secrets: SecretReader,
        attached: Attached | None = None,
    ) -> None:
        self._client = client
        self._attached = attached or _nobody
        self._platform = platform
        self._install = install
        self._secrets = secrets
        self._tasks: dict[Watched, _Task] = {}
        self._gate = asyncio.Semaphore(CHECKS_AT_ONCE)

    def see(self, instances: Iterable[Instance], rows: Mapping[str, Row]) -> None:
        """Begin to look after what runs, and let go of what does not; `rows` are those that were read anyway."""
        if not isinstance(self._platform, (Probes, Measures)):
            return
        running = {(each.key, each.run): each for each in instances if each.state == InstanceState.RUNNING}
        for watched in [watched for watched in self._tasks if watched not in running]:
            self._tasks.pop(watched).cancel()
        for watched, instance in running.items():
            row, task = rows.get(instance.key), self._tasks.get(watched)
            if task and row and task.spec not in (None, _spec(row)):  # it was changed in place
                task.cancel()
                task = None
            if task is None:
                self._tasks[watched] = self._begin(watched, instance, row)

    def _begin(self, watched: Watched, instance: Instance, row: Row | None) -> _Task:
        """Look after a run; without a check there is nothing to do, and a row at hand tells so at no cost."""
        if row and not _watched(row):
            return _Task(spec=_spec(row))
        return _Task(asyncio.create_task(self._look_after(watched, instance), name=f"health of {instance.key}"))

    async def close(self) -> None:
        """Stop looking."""
        tasks = [task.loop for task in self._tasks.values() if task.loop]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self, watched: Watched, instance: Instance) -> None:
        while True:
            try:
                row = await self._row(instance)
                if row is None:
                    return
                if task := self._tasks.get(watched):
                    task.spec = _spec(row)
                spec = ContainerSpec.model_validate(row.spec)
                loops = [*self._checks(instance, spec, row), *self._idleness(instance, spec)]
                if not loops:
                    return
                await _together(loops)
            except (NebulousError, RPCError) as error:
                log.info("health of %s: %s", instance.key, error)
                await asyncio.sleep(TROUBLE_PAUSE_S)
            except ValidationError as error:  # a spec of another version
                log.warning("health of %s: its spec cannot be read: %s", instance.key, error)
                return

    async def _row(self, instance: Instance) -> Row | None:
        """The container's row, once its workflow knows that this run has begun; None when nobody waits for it."""
        pause = LOOK_AGAIN_S
        while True:
            handle = self._client.get_workflow_handle(instance.workflow)
            try:
                async with self._gate:
                    row = await temporal.row(await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT))
            except RPCError as error:
                if temporal.is_not_found(error):
                    return None
                raise
            status = row.status.get("status") if row else None
            if row is None or status in FINAL or instance.key not in row.rentals:
                return None
            if status == Status.RUNNING or not _watched(row):
                return row
            await asyncio.sleep(pause)
            pause = min(pause * 2, SLOWEST_LOOK_S)

    def _checks(self, instance: Instance, spec: ContainerSpec, row: Row) -> Iterable[Awaitable[None]]:
        if spec.probed and isinstance(self._platform, Probes):
            yield self._ask_for_ever(self._platform, instance, spec.probed, row)

    def _idleness(self, instance: Instance, spec: ContainerSpec) -> Iterable[Awaitable[None]]:
        if spec.idle_span and isinstance(self._platform, Measures):

            async def tell(why: str) -> None:
                await self._signal(instance, "idle", why)

            yield watch(self._platform, instance, spec.idle_span, self._attached, tell)

    async def _ask_for_ever(self, platform: Probes, instance: Instance, check: HealthCheck, row: Row) -> None:
        command = await self._secrets.command(_launch(instance, row, self._install))
        tally, started = Tally(check, _told(row)), _started(row)
        while True:
            begun = time.monotonic()
            with suppress(NebulousError):  # the platform is in trouble, not the command
                async with self._gate:
                    verdict = await platform.probe(instance, check, command)
                news = tally.add(verdict, time.time() - started)
                if news:
                    words = "" if verdict.ok else f"{verdict.message} ({tally.failures} in a row)"
                    await self._signal(instance, news, words if verdict.reached else f"Unreachable: {verdict.message}")
                    tally.told = news
            await asyncio.sleep(max(0.0, check.interval_s - (time.monotonic() - begun)))

    async def _signal(self, instance: Instance, word: str, message: str) -> None:
        seen = Observation.model_validate(
            {
                "key": instance.key,
                "instance_id": instance.id,
                "state": word,
                "run": instance.run,
                "message": message,
            }
        )
        handle = self._client.get_workflow_handle(instance.workflow)
        await handle.signal("observe", seen.model_dump(mode="json"), rpc_timeout=temporal.RPC_TIMEOUT)


async def _together(loops: Iterable[Awaitable[None]]) -> None:
    """Run them until one fails; none goes on without the others."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end(*tasks)


def _spec(row: Row) -> object:
    """All of a spec that a watch depends on."""
    return [row.spec.get("health_check"), row.spec.get("ports"), row.spec.get("idle_timeout")]


def _watched(row: Row) -> bool:
    return bool(row.spec.get("health_check") or row.spec.get("idle_timeout"))


async def _nobody(_key: str) -> bool:
    """Without Redis there are no sessions."""
    return False


def _told(row: Row) -> str | None:
    """What the workflow was told last about the run that its row shows."""
    conditions: list[dict[str, Any]] = row.status.get("conditions") or []
    reason = next((each.get("reason") for each in conditions if each.get("type") == "Ready"), None)
    return {"Healthy": "healthy", "Unhealthy": "unhealthy", "Unreachable": "unhealthy"}.get(str(reason))


def _started(row: Row) -> float:
    at = row.status.get("started_at")
    return datetime.fromisoformat(at).timestamp() if at else time.time()


def _launch(instance: Instance, row: Row, install: str) -> Launch:
    """What the command was started with, as far as its environment goes."""
    status = row.status
    return Launch(
        metadata=row.metadata,
        spec={key: value for key, value in row.spec.items() if key != "metadata"},
        key=instance.key,
        install=install,
        workflow=instance.workflow,
        attempt=int(status.get("attempt") or 1),
        recoveries=int(status.get("recoveries") or 0),
        platform=str(status.get("platform") or ""),
    )
