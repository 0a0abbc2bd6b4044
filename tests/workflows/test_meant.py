"""Which lives a stop, start, restart or delete means: those that its sender could know of (docs/adr/0012)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from nebulous.models.resources import Metadata
from tests.nebula import Nebula, Resource, eventually, sim_labels
from tests.workflows.test_wishes import apply, send, wish
from workflows.entity_state import EntityState, NextLife
from workflows.wishes import which

LONG_RUN = sim_labels(boot="0s")
#: The first life takes so long to go that a message arrives while the next is waiting for that.
SLOW = {**LONG_RUN, **sim_labels(delete_takes="2s")}


# --- of all ways in which lives change ----------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """What somebody saw of a name: the life, its version, and which life was to follow."""

    life: str
    version: str
    following: str


@dataclass
class Name:
    """A name whose lives change, as the workflow tells it to `which`."""

    state: EntityState = field(
        default_factory=lambda: EntityState(
            metadata=Metadata(name="n", namespace="d", owner="o", id="life-0"), lives=["life-0"]
        )
    )
    made: int = 0

    def goes_on(self) -> None:
        """Anything that readers see, but no wish."""
        self.state.metadata.resource_version = str(int(self.state.metadata.resource_version) + 1)

    def is_asked_for(self) -> None:
        """Another life is to follow, in place of one that was to."""
        self.made += 1
        self.goes_on()
        version = int(self.state.metadata.resource_version)
        self.state.next = NextLife(spec={}, metadata={"id": f"life-{self.made}"}, asked_at=version)

    def is_dropped(self) -> None:
        self.state.next = None
        self.goes_on()

    def begins(self) -> None:
        """The life that was to follow does, if there is one."""
        if coming := self.state.next:
            self.goes_on()
            version, life = self.state.metadata.resource_version, str(coming.metadata["id"])
            metadata = Metadata(name="n", namespace="d", owner="o", id=life, resource_version=version)
            lives = [*self.state.lives, life]
            self.state = EntityState(metadata=metadata, lives=lives, asked_at=coming.asked_at)

    @property
    def following(self) -> str:
        return str(self.state.next.metadata["id"]) if self.state.next else ""

    def seen(self) -> Sight:
        return Sight(self.state.metadata.id, self.state.metadata.resource_version, self.following)


STEPS = st.lists(st.sampled_from(["goes_on", "is_asked_for", "is_dropped", "begins"]), max_size=12)


@given(before=STEPS, meanwhile=STEPS)
def test_a_message_means_exactly_the_lives_that_its_sender_saw_and_saw_coming(
    before: list[str], meanwhile: list[str]
) -> None:
    name = Name()
    for step in before:
        getattr(name, step)()
    sight = name.seen()
    for step in meanwhile:
        getattr(name, step)()
    meant = which(name.state, {"id": sight.life, "version": sight.version})
    known = {sight.life, sight.following} - {""}
    assert (meant.this or meant.earlier) == (name.state.metadata.id in known)
    assert meant.this == (name.state.metadata.id == sight.life)
    assert meant.coming == (name.following in known)


@given(steps=STEPS)
def test_without_a_version_the_name_is_meant_and_without_an_id_whatever_has_it(steps: list[str]) -> None:
    name = Name()
    for step in steps:
        getattr(name, step)()
    for request in ({}, {"id": None}, {"id": ""}, {"id": name.state.metadata.id}):
        assert which(name.state, request) == (True, bool(name.following), False)
    for odd in ("x", "-1", "9" * 5000, "²", None, 7.5, [1]):
        assert which(name.state, {"id": name.state.metadata.id, "version": odd}).this
    for stranger in ({"id": "another"}, {"id": "another", "version": name.state.metadata.resource_version}):
        assert which(name.state, stranger) == (False, False, False)


# --- what comes of it ---------------------------------------------------------------------------------------


@dataclass
class Replaced:
    """A life that makes way for the next; what was seen of it before that was asked for, and since."""

    life: Resource
    before: dict[str, str]
    since: dict[str, str]


async def replaced(nebula: Nebula, count: int) -> list[Replaced]:
    """So many of them, all on their way out."""
    lives = [await nebula.create(labels=SLOW) for _ in range(count)]
    for life in lives:
        await life.until("running")
    return list(await asyncio.gather(*map(_replaced, lives)))


async def _replaced(life: Resource) -> Replaced:
    before = (await life.row()).metadata
    answer = await send(life, await wish(life, labels=LONG_RUN, image="second"), replace=True)
    since = (await life.row()).metadata
    assert (since.id, since.next_id) == (before.id, answer["id"])
    return Replaced(life, _said(before), _said(since))


def _said(seen: Metadata) -> dict[str, str]:
    return {"id": seen.id, "version": seen.resource_version}


async def begun(life: Resource, image: str = "second") -> None:
    async def so() -> bool:
        return (await life.row()).spec["image"] == image

    await eventually(so)
    assert (await life.row()).metadata.next_id is None


async def runs(life: Resource) -> None:
    await begun(life)
    assert (await life.until("running", "stopped"))["status"] == "running"
    assert "StopRequested" not in await life.reasons()


async def stands_still(life: Resource) -> None:
    """It began stopped, and nothing was rented for it."""
    await begun(life)
    status = await life.until("stopped", "running")
    assert (status["status"], status["reason"], status["started_at"]) == ("stopped", "StoppedByUser", None)
    assert "Rented" not in await life.reasons()


async def test_a_stop_of_who_saw_only_the_old_life_means_that_one(nebula: Nebula) -> None:
    early, late = await replaced(nebula, 2)
    await early.life.signal("stop", **early.before)
    assert "NextLifeStopped" not in await early.life.reasons()
    await begun(late.life)
    await late.life.signal("stop", **late.before)
    await runs(early.life)
    await runs(late.life)


async def test_a_stop_of_who_saw_the_next_one_coming_means_the_name(nebula: Nebula) -> None:
    early, by_hand, by_id, late = await replaced(nebula, 4)
    await early.life.signal("stop", **early.since)
    await by_hand.life.signal("stop")
    await by_id.life.signal("stop", id=(await by_id.life.row()).metadata.next_id, version=by_id.before["version"])
    for each in (early, by_hand, by_id):
        assert (await each.life.reasons()).count("NextLifeStopped") == 1
    for each in (early, by_hand, by_id):
        await stands_still(each.life)
    await late.life.until("running")
    await late.life.signal("stop", **late.since)
    assert (await late.life.until("stopped"))["started_at"]


async def test_what_began_stopped_can_be_started_also_by_who_saw_only_that_it_was_coming(nebula: Nebula) -> None:
    lives = await replaced(nebula, 4)
    for each in lives:
        await each.life.signal("stop", **each.since)
    for number, (verb, each) in enumerate(zip(("start", "restart") * 2, lives, strict=True)):
        await stands_still(each.life)
        await each.life.signal(verb, **(each.since if number < 2 else _said((await each.life.row()).metadata)))
    for each in lives:
        await each.life.until("running")
        assert (await each.life.row()).spec["image"] == "second"


async def test_a_start_or_restart_lets_the_one_that_was_to_begin_stopped_run_after_all(nebula: Nebula) -> None:
    lives = await replaced(nebula, 2)
    for verb, each in zip(("start", "restart"), lives, strict=True):
        await each.life.signal("stop", **each.since)
        await each.life.signal(verb, **each.since)
    for each in lives:
        assert [word for word in await each.life.reasons() if word.startswith("NextLife")] == [
            "NextLife",
            "NextLifeStopped",
            "NextLifeStarts",
        ]
    for each in lives:
        await runs(each.life)


async def test_a_start_or_restart_of_who_saw_a_life_coming_does_not_run_it_twice(nebula: Nebula) -> None:
    lives = await replaced(nebula, 2)
    for verb, each in zip(("start", "restart"), lives, strict=True):
        life = each.life
        await runs(life)
        await life.signal(verb, **each.since)
        await life.signal("stop")
        await life.until("stopped")
        await life.signal(verb, **each.since)
        assert (await apply(life, ttl_after_finished="1h"))["outcome"] == "changed"  # the signal is behind us
        status = await life.status()
        assert (status["status"], status["restarts"], status["attempt"]) == ("stopped", 0, 1)


async def test_creating_again_what_would_begin_stopped_begins_another_life_that_runs(nebula: Nebula) -> None:
    (each,) = await replaced(nebula, 1)
    life, row = each.life, await each.life.row()

    async def create(new_id: str) -> dict[str, str]:
        metadata = {**row.metadata.model_dump(), "labels": LONG_RUN, "id": new_id}
        request = {"spec": {**row.spec, "image": "second"}, "metadata": metadata}
        return await life.client.get_workflow_handle(life.id).execute_update("create", request)

    second = str(row.metadata.next_id)
    assert await create("third") == {"outcome": "next", "id": second, "message": ""}
    await life.signal("stop", **each.since)
    assert (await create(second))["id"] == second, "the request that asked for it, repeated: no other wish"
    assert (await create("third"))["id"] == "third"
    await runs(life)
    assert (await life.row()).metadata.id == "third"


async def test_the_life_after_an_outcome_is_stopped_too_while_the_machine_is_given_back(nebula: Nebula) -> None:
    ended = await nebula.create(labels={**SLOW, **sim_labels(run_for="0s")})
    (cancelled,) = await replaced(nebula, 1)
    await ended.until("completed")
    row, handle = await ended.row(), ended.client.get_workflow_handle(ended.id)
    metadata = {**row.metadata.model_dump(), "labels": LONG_RUN, "id": "second"}
    answer = await handle.execute_update("create", {"spec": {**row.spec, "image": "second"}, "metadata": metadata})
    assert answer["outcome"] == "next"
    await ended.signal("stop", **_said((await ended.row()).metadata))
    await nebula.client.get_workflow_handle(cancelled.life.id).cancel()
    await stands_still(ended)
    await cancelled.life.gone()  # a cancel from the Temporal UI means delete: the name, so the next life too
    assert await nebula.owned() == []
