"""Recordings of what does not go smoothly: deletions in every phase, refusals of every class, long histories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nebulous import ids
from tests.nebula import Nebula, Resource, eventually, sim_labels


class Case(Protocol):
    """Plays a life and returns its workflow id; with @ the run that is meant, else the latest."""

    __name__: str

    def __call__(self, run: Nebula, /) -> Awaitable[str]: ...


@dataclass(frozen=True)
class Fault:
    """One rule of the fault injector."""

    activity: str
    fault: str
    times: int = 1

    @property
    def rule(self) -> dict[str, Any]:
        return {"activity": self.activity, "fault": self.fault, "times": self.times}


def _named(name: str, play: Callable[[Nebula], Awaitable[str]]) -> Case:
    play.__name__ = name
    return play  # pyright: ignore[reportReturnType] - every function has a name


async def _deleted(life: Resource) -> str:
    await life.signal("delete")
    await life.gone()
    return life.id


async def _shows(life: Resource, *reasons: str) -> None:
    """Wait for one of these reasons in the status."""

    async def shown() -> bool:
        return (await life.status())["reason"] in reasons

    await eventually(shown, what=f"{life.id} says {reasons}")


# --- deleted while … ------------------------------------------------------------------------------------


def _while_it_is(phase: str, status: str, labels: dict[str, str], **spec: Any) -> Case:
    """A life that stays in a phase, until its deletion."""

    async def play(run: Nebula) -> str:
        life = await run.create(labels=labels, **spec)
        await life.until(status)
        return await _deleted(life)

    return _named(f"deleted_while_{phase}", play)


def _while_it_says(phase: str, reason: str, labels: dict[str, str], **spec: Any) -> Case:
    async def play(run: Nebula) -> str:
        life = await run.create(labels=labels, **spec)
        await _shows(life, reason)
        return await _deleted(life)

    return _named(f"deleted_while_{phase}", play)


async def deleted_while_placing(run: Nebula) -> str:
    address = ids.Address("container", "local", "default", ids.two_words())
    handle = await run.client.start_workflow(
        "Container",
        {"spec": {"image": "busybox", "platform": run.platform.account}},
        id=str(address),
        task_queue=ids.TASK_QUEUE,
        start_signal="delete",
        start_signal_args=[{}],
    )
    life = Resource(run.client, handle)
    await life.gone()
    return life.id


async def deleted_while_stopping(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    await life.signal("stop")
    return await _deleted(life)


async def deleted_while_finished(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="0s", run_for="0s"))
    await life.until("completed")

    async def given_back() -> bool:
        return not (await life.row()).rentals

    await eventually(given_back)
    return await _deleted(life)


async def deleted_while_close(run: Nebula) -> str:
    """What it owns takes a while to go, and meanwhile it is deleted again, and asked for again."""
    owner = await run.create(labels=sim_labels(boot="0s"))
    await owner.until("running")
    spec = {"image": "busybox", "platform": run.platform.account}
    metadata = {"labels": sim_labels(boot="0s", delete_takes="2s"), "owner_ref": owner.id}
    owned = Resource(
        run.client,
        await run.client.start_workflow(
            "Container",
            {"spec": {**spec, "metadata": metadata}},
            id=f"container/local/default/{ids.two_words()}",
            task_queue=ids.TASK_QUEUE,
        ),
    )
    await owned.until("running")
    await owner.signal("delete")

    async def going() -> bool:
        return (await owned.status())["status"] == "stopping"

    await eventually(going)
    await _deleted(owner)
    await owned.gone()
    return owner.id


KEPT = {"keep_on_failure": "1h"}
DELETIONS: Sequence[Case] = (
    deleted_while_placing,
    _while_it_says("renting", "Renting", sim_labels(fail="Unavailable*99")),
    _while_it_is("pending", "pending", sim_labels(fail="OutOfCapacity*99")),
    _while_it_is("booting", "created", sim_labels(boot="1h")),
    _while_it_is("running", "running", sim_labels(boot="0s")),
    _while_it_is("restarting", "restarting", sim_labels(boot="0s", run_for="0s", exit_code="7"), restart="Always"),
    _while_it_says("recovering", "Preempted", sim_labels(boot="0s", preempt_after="200ms", delete_takes="2s")),
    deleted_while_stopping,
    _while_it_is("keeping", "failed", sim_labels(boot="0s", run_for="0s", exit_code="3"), **KEPT),
    _while_it_is("releasing", "completed", sim_labels(boot="0s", run_for="0s", delete_takes="1s")),
    deleted_while_finished,
    deleted_while_close,
)


# --- refused, of every class ----------------------------------------------------------------------------


def _refused(failure: str, times: int, *ends: str) -> Case:
    """A create that is refused so often, and what becomes of it."""

    async def play(run: Nebula) -> str:
        labels = sim_labels(boot="0s", run_for="0s", fail=f"{failure}*{times}")
        life = await run.create(labels=labels, accelerators=["1:A100"])
        await life.until(*ends, limit_s=60)
        return await _deleted(life)

    return _named(f"create_{failure}", play)


async def vanished_while_booting(run: Nebula) -> str:
    life = await run.create(labels=sim_labels(boot="500ms", vanish_after="200ms"))
    await life.until("running")
    return await _deleted(life)


async def timed_out_while_restarting(run: Nebula) -> str:
    labels = sim_labels(boot="0s", run_for="0s", exit_code="7")
    life = await run.create(labels=labels, restart="Always", timeout="2s")
    await life.until("failed")
    return await _deleted(life)


async def kept_until_its_time(run: Nebula) -> str:
    labels = sim_labels(boot="0s", run_for="0s", exit_code="3")
    life = await run.create(labels=labels, keep_on_failure="1s", ttl_after_finished="500ms")
    await life.gone()
    return life.id


FAILURES: Sequence[Case] = (
    _refused("OutOfCapacity", 2, "completed"),
    _refused("QuotaExceeded", 1, "completed"),
    _refused("AuthFailed", 1, "pending"),
    _refused("Unavailable", 5, "completed"),  # more than one create tries: proven absent, then the next offer
    _refused("RateLimited", 1, "completed"),
    _refused("Rejected", 1, "invalid"),
    _refused("ImageNotFound", 1, "invalid"),
    vanished_while_booting,
    timed_out_while_restarting,
    kept_until_its_time,
)


def _stumbles(fault: Fault, *ends: str) -> tuple[Fault, Mapping[str, Sequence[Case]]]:
    """An activity that fails on purpose, and what becomes of the life."""

    async def play(run: Nebula) -> str:
        life = await run.create(labels=sim_labels(boot="0s", run_for="0s"))
        await life.until(*ends)
        return await _deleted(life)

    return fault, {"Container": (_named(f"{fault.activity}_{fault.fault}", play),)}


#: Refused at the second try, so that the first may have taken effect; then the proof of that does not come at once.
_replacing = _while_it_says("replacing", "Proving", sim_labels(fail="Unavailable,OutOfCapacity"))


async def sweep_that_fails(run: Nebula) -> str:
    workflow_id = ids.sweep_workflow(run.platform.account)

    async def tries_again() -> bool:
        history = await run.client.get_workflow_handle(workflow_id).fetch_history()
        return sum(event.HasField("activity_task_scheduled_event_attributes") for event in history.events) > 1

    await eventually(tries_again)
    return workflow_id


STUMBLES: Sequence[tuple[Fault, Mapping[str, Sequence[Case]]]] = (
    _stumbles(Fault("list_offers", "Rejected"), "invalid"),
    _stumbles(Fault("start", "AuthFailed"), "completed"),
    _stumbles(Fault("start", "PortTaken"), "failed"),
    _stumbles(Fault("start", "Rejected"), "invalid"),
    _stumbles(Fault("start", "NotFound"), "completed"),
    _stumbles(Fault("release", "AuthFailed"), "completed"),
    _stumbles(Fault("archive_logs", "Rejected"), "completed"),
    (Fault("release", "AuthFailed"), {"Container": (_replacing,)}),
    (Fault("sweep", "AuthFailed"), {"PlatformSweep": (sweep_that_fails,)}),
)


# --- grown long: continued as new -----------------------------------------------------------------------


async def continued_ends(run: Nebula) -> str:
    """A run that ended because its history was long."""
    life, first, _ = await _long_life(run)
    return f"{life.id}@{first}"


async def continued_begins(run: Nebula) -> str:
    """A run that began in the middle of a life; it may be continued again before the end."""
    life, _, second = await _long_life(run)
    await _deleted(life)
    return f"{life.id}@{second}"


async def _long_life(run: Nebula) -> tuple[Resource, str, str]:
    """A life, and the ids of its first two runs."""
    life = await run.create(labels=sim_labels(boot="0s"))
    await life.until("running")
    first = (await life.client.get_workflow_handle(life.id).describe()).run_id

    async def another_run() -> str | None:
        await life.signal("restart")
        description = await life.client.get_workflow_handle(life.id).describe()
        return description.run_id if description.run_id != first else None

    second = await eventually(another_run)
    await life.until("running")
    return life, first, second


async def platform_continued(run: Nebula) -> str:
    handle = run.client.get_workflow_handle(ids.platform_workflow(run.platform.account))
    first = (await handle.describe()).run_id

    async def another_run() -> bool:
        now = (await run.client.get_workflow_handle(handle.id).describe()).run_id
        if now == first:
            await run.client.get_workflow_handle(handle.id).signal("report", {"detail": ids.new_id()})
        return now != first

    await eventually(another_run)
    return f"{handle.id}@{first}"


LONG: Mapping[str, Sequence[Case]] = {
    "Container": (continued_ends, continued_begins),
    "Platform": (platform_continued,),
}
