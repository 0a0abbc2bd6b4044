"""Which platforms this worker process serves, and telling Temporal about them."""

from __future__ import annotations

import asyncio
import logging
import platform as machine
import time

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from activities.platforms.base import HasAccelerators, Platform
from nebulous import ids, temporal
from nebulous.errors import NebulousError
from nebulous.models.platforms import PlatformReport
from nebulous.settings import CLOUDS, Settings
from nebulous.tasks import end
from worker.clouds import platforms_of_clouds

log = logging.getLogger(__name__)

PROBE_EVERY_S = 5.0
PATIENCE_S = 3.0  # a server must not wait for a cloud or a machine that does not answer
LOOK_AGAIN_S = 30.0  # for what somebody may have ended by hand; a look costs no Temporal action


async def install_id(client: Client) -> str:
    """The id of this install: the Install workflow's word, made by whoever comes first.

    A Temporal without one always gets a new id, even if the data directory remembers another: a Temporal that lost
    its state knows no workflow, and under the old id every machine that still runs would look like an orphan. One whose
    workflow was ended by hand has not lost its state: it keeps its id, or all that is rented would be nobody's.
    """
    return await keep_install(client, await _install_before(client) or ids.new_id())


async def keep_install(client: Client, proposed: str) -> str:
    """Begin the Install workflow with this id unless it runs; return the id that it holds."""
    handle = await client.start_workflow(
        "Install",
        proposed,
        id=ids.INSTALL_WORKFLOW,
        task_queue=ids.TASK_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        memo={"metadata": {"name": "install"}, "install": proposed},
        static_summary="Nebulous: the id of this install",
        rpc_timeout=temporal.RPC_TIMEOUT,
    )
    description = await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT)
    return str((await description.memo())["install"])


async def _install_before(client: Client) -> str | None:
    """The id that the Install workflow holds, or held when it was ended."""
    try:
        description = await client.get_workflow_handle(ids.INSTALL_WORKFLOW).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if temporal.is_not_found(error):
            return None
        raise
    return (await description.memo()).get("install")


async def keep_installed(client: Client, install: str) -> None:
    """Look for ever whether the Install workflow runs; begin it again, with the same id, when somebody has ended it."""
    while True:
        await asyncio.sleep(LOOK_AGAIN_S)
        try:
            if not await _runs(client, ids.INSTALL_WORKFLOW):
                await keep_install(client, install)
        except RPCError as error:
            log.warning("cannot look for the install: %s", error)


async def _runs(client: Client, workflow_id: str) -> bool:
    try:
        description = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=temporal.RPC_TIMEOUT)
    except RPCError as error:
        if not temporal.is_not_found(error):
            raise
        return False
    if description.status is WorkflowExecutionStatus.RUNNING:
        return True
    log.warning("%s was ended by hand; beginning it again", workflow_id)
    return False


async def platforms_to_host(client: Client, settings: Settings, install: str) -> list[Platform]:
    """The platforms that the settings ask for, and simulated clouds of earlier settings (see `Hosted`)."""
    from activities.platforms.sim import SimPlatform

    host = ids.host_id()
    hosted: list[Platform] = [SimPlatform("sim", host, settings.data, settings.sim)]
    earlier = await _simulated_before(client, host)
    hosted += [
        SimPlatform(cloud, host, settings.data, settings.sim)
        for cloud in CLOUDS
        if cloud in settings.simulated or cloud in earlier
    ]
    # Only under `nebu serve`: a worker by itself cannot know who reaches the API, and `local` is this very host.
    safe = settings.embedded and settings.loopback
    if settings.local_enabled if settings.local_enabled is not None else safe:
        from activities.platforms.local import LocalPlatform

        hosted.append(LocalPlatform(host, settings.data, install))
    if settings.docker_enabled:
        from activities.platforms.docker import DockerPlatform

        hosted.append(DockerPlatform(host, install, settings.docker_host, settings.docker_subnets, settings.data))
    clouds = platforms_of_clouds(settings, install, await _clouds_before(client))
    return hosted + _attached(settings, install) + clouds


def _attached(settings: Settings, install: str) -> list[Platform]:
    """The Engines of machines that are reached by SSH."""
    if not settings.machines:
        return []
    from activities.platforms.docker import DockerPlatform
    from activities.runtimes.tunnel import Tunnel

    pins = settings.data / "ssh" / "known_hosts"
    return [
        DockerPlatform(
            account.partition(":")[2],
            install,
            subnets=settings.docker_subnets,
            data_dir=settings.data,
            tunnel=Tunnel(machine.way, pins),
        )
        for account, machine in settings.machines.items()
    ]


async def _clouds_before(client: Client) -> set[str]:
    """The accounts of real clouds that were ever served; the settings may not name them any more."""
    executions = client.list_workflows(temporal.open_query("platform"))
    known = [execution.id.partition("/")[2] async for execution in executions]
    return {account for account in known if ids.platform_type(account) in CLOUDS and ":simulated-" not in account}


async def _simulated_before(client: Client, host: str) -> set[str]:
    found: set[str] = set()
    async for execution in client.list_workflows(temporal.open_query("platform")):
        account = execution.id.partition("/")[2]
        if account.endswith(f":simulated-{host}"):
            found.add(ids.platform_type(account))
    return found


class Hosted:
    """One platform account served by this process: its entity, its sweep, and whether it is usable."""

    def __init__(self, client: Client, platform: Platform, settings: Settings, *, wanted: bool = True) -> None:
        """Nothing is asked yet; an account that is not wanted any more is served for what is still rented in it."""
        self._client = client
        self._platform = platform
        self._settings = settings
        self._wanted = wanted
        self._known: tuple[str | None, bool] | None = None
        self._looked_at = 0.0
        self._asking: asyncio.Task[str] | None = None

    async def run(self) -> None:
        """Probe for ever; report what changed."""
        try:
            while True:
                try:
                    await self._look()
                    await self.report()
                except (RPCError, NebulousError, OSError, RuntimeError) as error:
                    log.warning("cannot report %s: %s", self._platform.account, error)
                    self._known = None
                await asyncio.sleep(PROBE_EVERY_S)
        finally:
            if self._asking:
                await end(self._asking)

    async def _look(self) -> None:
        """Report again when somebody has terminated the entity or the sweep."""
        if time.monotonic() - self._looked_at < LOOK_AGAIN_S:
            return
        account = self._platform.account
        for workflow_id in (ids.platform_workflow(account), ids.sweep_workflow(account)):
            if not await _runs(self._client, workflow_id):
                self._known = None
        self._looked_at = time.monotonic()

    async def report(self) -> None:
        """Start the entity and the sweep if need be, and tell them whether the platform is usable."""
        disabled, hint, configured = await self._probe()
        if (disabled, configured) == self._known:
            return
        accelerators: list[str] = []
        if not disabled and isinstance(self._platform, HasAccelerators):
            try:
                accelerators = await self._platform.accelerators()
            except NebulousError as error:
                disabled, hint = _why(error)
        report = self._describe(disabled, hint, configured).model_copy(update={"accelerators": accelerators})
        account = self._platform.account
        await self._client.start_workflow(
            "Platform",
            report.model_dump(mode="json"),
            id=ids.platform_workflow(account),
            task_queue=ids.TASK_QUEUE,
            start_signal="report",
            start_signal_args=[report.model_dump(mode="json", exclude={"swept_at", "alarm", "orphans", "foreign"})],
            memo={
                "metadata": {"name": account, "namespace": "", "owner": "", "id": account},
                "spec": {"kind": "Platform"},
                "status": report.model_dump(mode="json"),
                "rentals": {},
            },
            search_attributes=temporal.search_attributes(
                ids.Address("platform", "", "", account),
                "",
                "disabled" if disabled else "ready",
                None,
                platform=account,
            ),
            static_summary=f"Platform account {account}",
            rpc_timeout=temporal.RPC_TIMEOUT,
        )
        await self._client.start_workflow(
            "PlatformSweep",
            account,
            id=ids.sweep_workflow(account),
            task_queue=ids.TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Sweep of {account}",
            rpc_timeout=temporal.RPC_TIMEOUT,
        )
        self._known = disabled, configured

    async def _probe(self) -> tuple[str | None, str | None, bool]:
        """Why it cannot be used now, what of that says what to do, and whether it is configured."""
        platform = self._platform
        if platform.simulated and platform.type in CLOUDS and platform.type not in self._settings.simulated:
            return f"no longer simulated: `nebu serve --simulate {platform.type}`", None, False
        if not self._wanted:
            hint = "what was rented in it is watched, and given back"
            return f"{platform.account} is not in the settings any more ({hint})", hint, False
        self._asking = self._asking or asyncio.create_task(platform.identity())
        answered, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        if not answered:  # nobody else waits for it: it goes on, and is looked at again
            return f"{platform.account} has not answered yet", None, True
        asked, self._asking = self._asking, None
        try:
            asked.result()
        except NebulousError as error:
            return *_why(error), True
        return None, None, True

    def _describe(self, disabled: str | None, hint: str | None, configured: bool) -> PlatformReport:
        platform = self._platform
        attached = self._settings.machines.get(platform.account)
        return PlatformReport(
            platform=platform.type,
            account=platform.account,
            queue=ids.platform_queue(platform.account),
            features=platform.features,
            simulated=platform.simulated,
            configured=configured,
            disabled=disabled,
            hint=hint,
            detail=f"at {attached.ssh}, from {machine.node()}" if attached else f"on {machine.node()}",
        )


def _why(error: NebulousError) -> tuple[str, str | None]:
    """Why a platform cannot be used, and what of that says what to do."""
    return f"{error.message}" + (f" ({error.hint})" if error.hint else ""), error.hint
