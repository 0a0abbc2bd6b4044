"""The sweep of one platform account: compare what the cloud has with what the workflows believe, signal the rest.

Between full comparisons it works like an informer: only differences between two listings, and what the platform
pushes, are looked at. Orphans are destroyed late, after two proofs, and never many at once (`orphans.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from activities.failures import translated
from activities.health import Prober
from activities.heartbeat import beating
from activities.idle import Attached
from activities.orphans import Orphans
from activities.platforms.base import Platform, Watches
from activities.secrets import SecretReader
from nebulous import metrics, temporal
from nebulous.errors import NebulousError, Unavailable
from nebulous.ids import Address, platform_workflow
from nebulous.models.base import Record
from nebulous.models.containers import WATCHED
from nebulous.models.platforms import Instance, InstanceState, Observation
from nebulous.models.resources import Row

log = logging.getLogger(__name__)

ENDED = frozenset({InstanceState.EXITED, InstanceState.PREEMPTED})
RECONNECT_S, SLOWEST_RECONNECT_S = 1.0, 10.0
REPORT_EVERY_S = 600.0


class SweepRequest(Record):
    """Which account to watch."""

    account: str


@dataclass(frozen=True)
class SweepPace:
    """How often a sweep compares everything, and how long it lets an orphan be."""

    full_s: float = 120.0
    orphan_grace_s: float = 90.0


class SweepActivities:
    """The observer of one platform account; runs on that account's queue."""

    def __init__(
        self,
        client: Client,
        platform: Platform,
        install: str,
        pace: SweepPace,
        secrets: SecretReader,
        attached: Attached | None = None,
    ) -> None:
        self._client = client
        self._attached = attached
        self._platform = platform
        self._install = install
        self._pace = pace
        self._secrets = secrets

    @activity.defn(name="sweep")
    async def sweep(self, request: SweepRequest) -> None:
        """Watch until cancelled; heartbeats say when it last compared everything."""
        async with beating() as say:
            prober = Prober(self._client, self._platform, self._install, self._secrets, self._attached)
            watching = Sweep(self._client, self._platform, self._install, self._pace, prober)
            sweep = asyncio.create_task(watching.run(say))
            leaving = asyncio.create_task(activity.wait_for_worker_shutdown())
            try:
                await asyncio.wait({sweep, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if sweep.done():
                    sweep.result()
                with translated():
                    raise Unavailable("this worker process shuts down")
            finally:
                for task in (sweep, leaving):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task


class Sweep:
    """One run of the observer. Nothing here matters after a crash: the next run begins with a full comparison."""

    def __init__(self, client: Client, platform: Platform, install: str, pace: SweepPace, prober: Prober) -> None:
        self._client = client
        self._platform = platform
        self._install = install
        self._pace = pace
        self._prober = prober
        self._orphans = Orphans(client, platform, install, pace.orphan_grace_s)
        self._known: dict[str, Instance] = {}
        self._meter = metrics.meter(client)
        self._full_due = 0.0
        self._wake = asyncio.Event()
        self._reported: tuple[object, ...] = ()
        self._reported_at = 0.0

    async def run(self, say: Callable[[str], None]) -> None:
        """List, compare, signal, wait; for ever."""
        watcher = asyncio.create_task(self._watch()) if isinstance(self._platform, Watches) else None
        try:
            while True:
                try:
                    say(await self._round())
                except (NebulousError, RPCError) as error:
                    self._count(type(error).__name__)
                    self._full_due = 0.0  # after any error everything is compared again
                    say(f"cannot sweep: {error}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._interval())
                self._wake.clear()
        finally:
            self._forget()
            await self._prober.close()
            if watcher:
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher

    def _forget(self) -> None:
        """Say nothing more: another process may have the sweep now, and a last word that stays would be a lie."""
        for gauge in (metrics.INSTANCES, metrics.ORPHANS, metrics.ALARMS):
            metrics.measure(self._meter, gauge, 0, account=self._platform.account)

    def _interval(self) -> float:
        busy = any(instance.state not in ENDED for instance in self._known.values())
        return self._platform.busy_interval if busy else self._platform.idle_interval

    async def _round(self) -> str:
        full = time.monotonic() >= self._full_due
        expected = await self._expected() if full else {}  # before the listing: what is newer is not judged
        listed = {instance.key: instance for instance in await self._platform.owned()}
        mine = {key: instance for key, instance in listed.items() if instance.install == self._install}
        if full:
            await self._compare(expected, mine)
            await self._orphans.judge(mine, set(expected))
            soon = min(self._pace.full_s, self._pace.orphan_grace_s) if self._orphans.suspects else self._pace.full_s
            self._full_due = time.monotonic() + soon
            await self._report([instance for key, instance in listed.items() if key not in mine])
        else:
            await self._differences(mine)
        self._known = mine
        self._count("compared" if full else "listed")
        metrics.measure(self._meter, metrics.INSTANCES, len(mine), account=self._platform.account)
        self._prober.see(mine.values(), expected)
        return f"{len(mine)} instances"

    def _count(self, outcome: str) -> None:
        metrics.count(self._meter, metrics.SWEEPS, account=self._platform.account, outcome=outcome)

    async def _expected(self) -> dict[str, Row]:
        """Every key that an open container holds in this account, as visibility has it."""
        account = self._platform.account
        query = temporal.open_query("container", None, f"{temporal.PLATFORM.name} = {temporal.quote(account)}")
        rows: dict[str, Row] = {}
        async for execution in self._client.list_workflows(query):
            row = await temporal.row(execution)
            for key, rental in (row.rentals if row else {}).items():
                if row and rental.get("account") == account and rental.get("instance_id"):
                    rows[key] = row
        return rows

    async def _compare(self, expected: dict[str, Row], mine: dict[str, Instance]) -> None:
        for instance in mine.values():
            await self._tell(instance)
        for key, row in expected.items():
            if key not in mine:
                metadata, rental = row.metadata, row.rentals[key]
                address = Address("container", metadata.owner, metadata.namespace, metadata.name)
                await self._lost(key, str(address), str(rental["instance_id"]), str(rental.get("identity") or ""))

    async def _differences(self, mine: dict[str, Instance]) -> None:
        for key, instance in mine.items():
            before = self._known.get(key)
            if instance.state in ENDED and (
                before is None or (before.state, before.run) != (instance.state, instance.run)
            ):
                await self._tell(instance)
        for key, instance in self._known.items():
            if key not in mine:
                await self._lost(key, instance.workflow, instance.id, instance.identity)

    async def _lost(self, key: str, workflow_id: str, instance_id: str, identity: str) -> None:
        """Missing from a listing proves nothing; a look-up by key that finds nothing does, in the right account."""
        if not await self._wants_to_know(workflow_id, key) or await self._platform.identity() != identity:
            return
        if not await self._platform.find(key):
            message = f"{instance_id} is gone from {self._platform.account}"
            await self._signal(
                workflow_id, Observation(key=key, instance_id=instance_id, state="lost", message=message)
            )

    async def _tell(self, instance: Instance) -> None:
        if instance.state in ENDED and await self._wants_to_know(instance.workflow, instance.key):
            state = "exited" if instance.state == InstanceState.EXITED else "preempted"
            seen = Observation(
                key=instance.key,
                instance_id=instance.id,
                state=state,
                run=instance.run,
                exit=instance.exit,
                message=instance.message,
            )
            await self._signal(instance.workflow, seen)

    async def _wants_to_know(self, workflow_id: str, key: str) -> bool:
        """A describe is free and spares the workflow signals that it would only drop."""
        try:
            description = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=temporal.RPC_TIMEOUT)
        except RPCError as error:
            if temporal.is_not_found(error):
                return False
            raise
        row = await temporal.row(description)
        return (
            description.close_time is None
            and row is not None
            and key in row.rentals
            and row.status.get("status") in WATCHED
        )

    async def _signal(self, workflow_id: str, seen: Observation) -> None:
        with suppress_gone():
            await self._client.get_workflow_handle(workflow_id).signal(
                "observe", seen.model_dump(mode="json"), rpc_timeout=temporal.RPC_TIMEOUT
            )

    async def _watch(self) -> None:
        """Pass on what the platform pushes; a broken stream means a full comparison, then a new stream."""
        assert isinstance(self._platform, Watches)
        pause, said = RECONNECT_S, ""
        while True:
            try:
                async for instance in self._platform.watch():
                    if instance.install == self._install:
                        await self._tell(instance)
                        if instance.state not in ENDED:
                            self._wake.set()
                    pause, said = RECONNECT_S, ""
            except (NebulousError, RPCError) as error:
                if str(error) != said:
                    log.info("watching %s broke off: %s", self._platform.account, error)
                pause, said = min(SLOWEST_RECONNECT_S, pause * 2), str(error)
            self._full_due = 0.0
            self._wake.set()
            await asyncio.sleep(pause)

    async def _report(self, foreign: list[Instance]) -> None:
        """Tell the platform's entity what people should know, when it changed or grew old."""
        others = sorted(f"{instance.id} of install {instance.install}" for instance in foreign)
        news = (self._orphans.alarm, tuple(sorted(self._orphans.suspects)), tuple(others))
        if news == self._reported and time.monotonic() - self._reported_at < REPORT_EVERY_S:
            return
        changed = {
            "swept_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "alarm": self._orphans.alarm,
            "orphans": sorted(self._orphans.suspects),
            "foreign": others,
        }
        with suppress_gone():
            await self._client.get_workflow_handle(platform_workflow(self._platform.account)).signal("report", changed)
        self._reported, self._reported_at = news, time.monotonic()


class suppress_gone:  # noqa: N801 - reads like contextlib.suppress
    """Ignore that a workflow is closed or unknown."""

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Swallow only NOT_FOUND."""
        return isinstance(error, RPCError) and temporal.is_not_found(error)
