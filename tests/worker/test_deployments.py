"""Two builds of the workflows at once: lives stay on theirs until they start over, new ones go to the current one."""

from __future__ import annotations

from pathlib import Path

from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from tests.conftest import served
from tests.nebula import Nebula, Resource, eventually, nebula, sim_labels
from worker.build import Parts

DEPLOYMENT = "nebulous-test"


async def make_current(client: Client, build: str) -> None:
    """What `temporal worker deployment set-current-version` does, as soon as the build has polled."""

    async def done() -> bool:
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace, deployment_name=DEPLOYMENT, build_id=build, identity="test"
        )
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    await eventually(done, what=f"{build} is current")


async def build_of(life: Resource) -> str:
    description = await life.client.get_workflow_handle(life.id).describe()
    info = description.raw_description.workflow_execution_info
    return info.versioning_info.deployment_version.build_id


async def runs(nebula: Nebula) -> Resource:
    life = await nebula.create(labels=sim_labels(boot="0s", run_for="1h"))
    await life.until("running")
    return life


async def test_a_life_stays_on_its_build_until_it_continues_as_new_and_new_ones_go_to_the_new(tmp_path: Path) -> None:
    with served(tmp_path) as engine:
        data = tmp_path / "data"
        address = engine.temporal_address
        async with nebula(address, data, deployment=DEPLOYMENT, deployment_build="one") as old:
            await make_current(old.client, "one")
            first = await runs(old)
            assert await build_of(first) == "one"

            settings = old.settings.model_copy(update={"deployment_build": "two"})
            newer = Parts(settings, old.client, None, old.parts.install, strict_sandbox=True)
            async with newer.control_worker():
                await make_current(old.client, "two")
                second = await runs(old)
                assert await build_of(second) == "two"
                assert await build_of(first) == "one"  # idle: nothing woke it

                await first.signal("restart")  # a decision: it starts over, on the current build

                async def moved() -> bool:
                    return await build_of(first) == "two"

                await eventually(moved, what="the first life is on build two")
                await first.until("running")
                assert (await first.row()).rentals  # with what it had rented
                platform = Resource(old.client, old.client.get_workflow_handle(f"platform/{old.platform.account}"))
                await platform.handle.signal("report", {"detail": "seen by the current build"})

                async def taken_over() -> bool:
                    return await build_of(platform) == "two"

                await eventually(taken_over, what="what serves the install is on the current build")
                for life in (first, second):
                    await life.signal("delete")
                    await life.gone()
