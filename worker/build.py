"""The composition root: every workflow, activity and platform of a worker process, put together once.

`nebu worker` runs it, `nebu serve` starts it as a child, and tests build the same parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.blocks import Blocks
from activities.containers import ContainerActivities
from activities.metered import metered
from activities.notices import NoticeActivities
from activities.offers import OfferActivities
from activities.platforms.base import Platform
from activities.resources import ResourceActivities
from activities.secrets import SecretReader
from activities.sweeps import SweepActivities, SweepPace
from activities.webhook import Webhook
from nebulous import __version__, ids, metrics
from nebulous.archive import Archive, open_archive
from nebulous.seal import secret_key
from nebulous.settings import Settings
from worker.archiving import tell_of
from worker.attendance import Attendance
from worker.board import RedisBoard
from worker.clouds import still_wanted
from worker.hosting import Hosted, install_id, keep_installed, platforms_to_host
from worker.sessions import SessionRelay
from workflows.containers import ContainerWorkflow
from workflows.installs import InstallWorkflow
from workflows.platforms import PlatformWorkflow
from workflows.secrets import SecretWorkflow
from workflows.sweeps import PlatformSweepWorkflow
from workflows.versioned import (
    VersionedInstallWorkflow,
    VersionedPlatformSweepWorkflow,
    VersionedPlatformWorkflow,
)

WORKFLOWS: Sequence[type] = (
    ContainerWorkflow,
    SecretWorkflow,
    PlatformWorkflow,
    PlatformSweepWorkflow,
    InstallWorkflow,
)

#: The same with worker versioning on.
VERSIONED: Sequence[type] = (
    ContainerWorkflow,
    SecretWorkflow,
    VersionedPlatformWorkflow,
    VersionedPlatformSweepWorkflow,
    VersionedInstallWorkflow,
)

#: A killed worker's sticky queue holds back decisions this long (research: the default of 10 s is felt).
STICKY_TIMEOUT = timedelta(seconds=2)
#: Running activities may finish this long after SIGTERM; they are idempotent, so it is a courtesy.
GRACE = timedelta(seconds=2)
CANCEL_AGAIN_S = 0.2
BUILD_ID = f"nebulous-{__version__}"  # shown in histories; without one the SDK hashes every loaded module for 1.4 s
CACHED_WORKFLOWS = 1000  # about 100 MB
ACTIVITIES_PER_PLATFORM = 500  # they wait on other machines more than they work


_IMPORTING = threading.Lock()  # whoever ends first must not let garbage be collected under another


class UncollectedRunner(SandboxedWorkflowRunner):
    """A sandbox in whose imports no garbage is collected.

    Before Python 3.12 a finalizer that imports, as a ResourceWarning does, breaks the import that it interrupts
    (python/cpython#91351); the sandbox imports so much that workers in tests failed to start by it.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Import the workflow afresh."""
        with _IMPORTING:
            collecting = gc.isenabled()
            gc.disable()
            try:
                return super().create_instance(det)
            finally:
                if collecting:
                    gc.enable()


def workflow_runner(strict: bool = False) -> WorkflowRunner:
    """What runs workflow code; `strict` is a sandbox that imports it afresh for each workflow.

    The sandbox catches what is not deterministic: tests and replays use it, so that a server need not. Without it a
    whole container life costs the worker 38 ms of processor, with it 53 (measured, on a busy machine).
    """
    if not strict:
        return UnsandboxedWorkflowRunner()
    shared = ("nebulous", "activities", "pydantic", "pydantic_core", "annotated_types", "typing_inspection")
    return UncollectedRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*shared))


@dataclass
class Parts:
    """What the parts of a worker process share."""

    settings: Settings
    client: Client
    redis: Redis | None
    install: str
    strict_sandbox: bool = False
    _blocks: dict[str, Blocks] = field(default_factory=dict[str, Blocks])

    @cached_property
    def archive(self) -> Archive:
        """Where logs are kept, of all platforms."""
        return open_archive(self.settings)

    def blocks(self, platform: Platform) -> Blocks:
        """What the account refused lately, known to activities and sessions alike."""
        account = platform.account
        if account not in self._blocks:
            self._blocks[account] = Blocks(account, RedisBoard(account, self.redis) if self.redis else None)
        return self._blocks[account]

    def interceptors(self) -> list[Interceptor]:
        """The fault injector, when a test or a drill asks for it."""
        if "NEBU_FAULTS" not in os.environ:  # only tests set it: elsewhere there is no injector to switch on
            return []
        from worker.faults import FaultInjector

        injector = FaultInjector.from_environment()
        return [injector] if injector else []

    def version(self) -> dict[str, Any]:
        """How this build of the workflows is told from others.

        Only workflows are versioned. An activity is one call to a platform whose request is plain data that older
        and newer builds understand, so any worker of the platform may make it.
        """
        name = self.settings.deployment
        if not name:
            return {"build_id": BUILD_ID}
        version = WorkerDeploymentVersion(name, self.settings.deployment_build or __version__)
        pinned = VersioningBehavior.PINNED
        return {"deployment_config": WorkerDeploymentConfig(version, True, pinned)}

    def control_worker(self) -> Worker:
        """Workflows, and the activities that touch only Temporal."""
        resources, offers = ResourceActivities(self.client), OfferActivities(self.client)
        notices = NoticeActivities(Webhook(self.settings.tells_private))
        return Worker(
            self.client,
            task_queue=ids.TASK_QUEUE,
            **self.version(),
            workflows=VERSIONED if self.settings.deployment else WORKFLOWS,
            activities=[resources.delete_owned, offers.choose_platforms, notices.notify],
            workflow_runner=workflow_runner(self.strict_sandbox),
            max_cached_workflows=CACHED_WORKFLOWS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            graceful_shutdown_timeout=GRACE,
            interceptors=self.interceptors(),
        )

    def platform_worker(self, platform: Platform) -> Worker:
        """The hands of one platform account."""
        secrets = SecretReader(self.client, secret_key(self.settings))
        containers = ContainerActivities(platform, secrets, self.archive, self.install, self.blocks(platform))
        pace = SweepPace(self.settings.full_sweep_s, self.settings.orphan_grace_s)
        attached = Attendance(self.redis) if self.redis else None
        sweeps = SweepActivities(self.client, platform, self.install, pace, secrets, attached)
        activities: list[Any] = [
            containers.list_offers,
            containers.prepare,
            containers.create,
            containers.start,
            containers.stop,
            containers.release,
            containers.archive_logs,
            sweeps.sweep,
        ]
        return Worker(
            self.client,
            task_queue=ids.platform_queue(platform.account),
            build_id=BUILD_ID,
            activities=activities,
            max_concurrent_activities=ACTIVITIES_PER_PLATFORM,
            max_concurrent_activity_task_polls=2,
            graceful_shutdown_timeout=GRACE,
            interceptors=self.interceptors(),
        )


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    client: Client,
    redis: Redis | None = None,
    *,
    platforms: Sequence[Platform] | None = None,
    strict_sandbox: bool = False,
) -> AsyncGenerator[Parts]:
    """Run a whole worker process inside this one; yields once it polls and every platform is reported.

    Args:
        settings: Of the server.
        client: Made by `nebulous.temporal.connect`, so that it has our data converter.
        redis: For live logs and other sessions; without it there are none.
        platforms: To host; default: what the settings ask for.
        strict_sandbox: See `workflow_runner`.
    """
    install = await install_id(client)
    parts = Parts(settings, client, redis, install, strict_sandbox)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(background(tell_of(parts.archive)))
        await stack.enter_async_context(parts.control_worker())
        hosted = list(platforms) if platforms is not None else await platforms_to_host(client, settings, install)
        for platform in hosted:
            metered(platform, metrics.meter(client))
        for platform in hosted:
            stack.push_async_callback(platform.close)
            await stack.enter_async_context(parts.platform_worker(platform))
        given = platforms is not None  # whoever gives them wants them
        hosts = [
            Hosted(client, platform, settings, wanted=given or still_wanted(settings, platform)) for platform in hosted
        ]
        await asyncio.gather(*(host.report() for host in hosts))
        await stack.enter_async_context(background(keep_installed(client, install)))
        for host in hosts:
            await stack.enter_async_context(background(host.run()))
        if redis is not None:
            for platform in hosted:
                relay = SessionRelay(redis, ids.platform_queue(platform.account), platform, parts.blocks(platform))
                await stack.enter_async_context(background(relay.run()))
        yield parts


@contextlib.asynccontextmanager
async def background(coroutine: Any) -> AsyncGenerator[None]:  # noqa: ANN401 - any coroutine
    """Run a coroutine beside the block and cancel it after."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        while not task.done():  # Python 3.11 may lose one cancellation in wait_for (bpo-37658), as redis-py uses it
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
        with contextlib.suppress(asyncio.CancelledError):
            await task
