"""A container that is idle for as long as it may be is stopped, and says why; one where somebody works is not."""

from __future__ import annotations

from pathlib import Path

from nebulous.sessions import Session, SessionRequest
from tests.nebula import Nebula, eventually, sim_labels
from tests.nebula import nebula as running
from worker.attendance import Attendance
from worker.embedded import Engine


async def test_an_idle_one_is_stopped_with_the_reason_and_its_machine_given_back(nebula: Nebula) -> None:
    script = sim_labels(boot="0s", idle_after="200ms")
    life = await nebula.create(labels=script, accelerators=["1:L4"], idle_timeout="1s", restart="Always")
    status = await life.until("stopped")
    assert status["reason"] == "Idle"
    assert status["message"] == "its accelerators were idle for 1s and nobody was attached"

    async def released() -> bool:
        return not await nebula.owned()

    await eventually(released)
    await life.signal("start")
    await life.until("running")
    assert (await life.until("stopped"))["attempt"] == 2, "the next run is watched as well"


async def test_a_busy_one_goes_on_until_it_is_changed_to_be_idle_for_less(nebula: Nebula) -> None:
    busy = await nebula.create(labels=sim_labels(boot="0s"), accelerators=["1:L4"], idle_timeout="1s")
    patient = await nebula.create(
        labels=sim_labels(boot="0s", idle_after="0s"), accelerators=["1:L4"], idle_timeout="1h"
    )
    await busy.until("running")
    await patient.until("running")
    handle = nebula.client.get_workflow_handle(patient.id)
    spec = {**(await patient.row()).spec, "idle_timeout": "1s"}
    await handle.execute_update("apply", {"spec": spec})
    assert (await patient.until("stopped"))["reason"] == "Idle"
    assert (await busy.status())["status"] == "running"


async def test_who_is_attached_keeps_it_running(session_engine: Engine, tmp_path: Path) -> None:
    async with running(session_engine.temporal_address, tmp_path, redis_url=session_engine.redis_url) as nebula:
        script = sim_labels(boot="0s", idle_after="0s")
        life = await nebula.create(labels=script, accelerators=["1:L4"], idle_timeout="2s")
        await life.until("running")
        (key,) = (await life.row()).rentals
        redis = nebula.parts.redis
        assert redis
        request = SessionRequest(kind="exec", key=key, argv=["sleep", "60"])
        async with Session(redis, f"platform-{nebula.platform.account}", request):
            attendance = Attendance(redis)

            async def marked() -> bool:
                return await attendance(key)

            await eventually(marked)
            other = await nebula.create(labels=script, accelerators=["1:L4"], idle_timeout="2s")
            assert (await other.until("stopped"))["reason"] == "Idle"
            assert (await life.status())["status"] == "running", "it began earlier, and somebody works in it"
        await life.signal("delete")
        await other.signal("delete")
        await life.gone()
        await other.gone()
