"""When a container counts as idle: measured, unattended, without a break."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from activities import idle
from activities.idle import Quiet
from nebulous.errors import Unavailable
from nebulous.models.platforms import AcceleratorUsage, Instance, Usage

INSTANCE = Instance(key="k", id="i", account="a")


def usage(*percents: float | None) -> Usage:
    accelerators = [AcceleratorUsage(index=at, name="L4", percent=percent) for at, percent in enumerate(percents)]
    return Usage(at="2026-11-24T00:00:00Z", memory_bytes=0, accelerators=accelerators)


@pytest.mark.parametrize(
    ("percents", "is_idle"),
    [((0.0,), True), ((4.9, 0.0), True), ((5.0,), False), ((0.0, 80.0), False), ((None,), False), ((0.0, None), False)],
)
def test_idle_is_what_is_known_to_do_next_to_nothing(percents: tuple[float | None, ...], is_idle: bool):
    assert idle.idle(usage(*percents)) is is_idle


def test_without_accelerators_nothing_is_idle():
    assert not idle.idle(usage())


def test_only_an_unbroken_span_counts():
    quiet = Quiet(span_s=10)
    assert [quiet.add(at, True) for at in (0.0, 5.0, 9.0)] == [False, False, False]
    assert not quiet.add(9.5, False)
    assert [quiet.add(at, True) for at in (10.0, 19.0, 20.0)] == [False, False, True]


class Machine:
    """Answers one look after the other, then as the last time; an error is raised."""

    def __init__(self, *looks: Usage | Unavailable) -> None:
        self.looks, self.seen = list(looks), 0

    async def usage(self, instance: Instance) -> Usage:
        look = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        if isinstance(look, Unavailable):
            raise look
        return look


async def watched(machine: Machine, attached: Any, span_s: float = 0.3) -> asyncio.Queue[str]:
    told: asyncio.Queue[str] = asyncio.Queue()
    span = timedelta(seconds=span_s)
    watch = asyncio.create_task(idle.watch(machine, INSTANCE, span, attached, told.put))
    try:
        while machine.seen < 12 and told.empty():  # noqa: ASYNC110 - the machine counts, it does not tell
            await asyncio.sleep(0.01)
    finally:
        watch.cancel()
    return told


async def nobody(key: str) -> bool:
    return False


async def somebody(key: str) -> bool:
    return key == "k"


async def unknown(key: str) -> bool:
    raise Unavailable("Redis is away")


async def test_what_is_idle_and_unattended_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idle, "SOONEST_LOOK_S", 0.02)
    told = await watched(Machine(usage(90.0), usage(0.0)), nobody)
    assert told.get_nowait() == "its accelerators were idle for 0s and nobody was attached"


@pytest.mark.parametrize(
    ("machine", "attached"),
    [
        (Machine(usage(60.0)), nobody),
        (Machine(usage(0.0)), somebody),
        (Machine(usage(0.0)), unknown),
        (Machine(Unavailable("no answer")), nobody),
        (Machine(*[usage(0.0), usage(0.0), Unavailable("no answer")] * 8), nobody),
    ],
)
async def test_who_works_or_is_attached_or_cannot_be_seen_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, attached: Any
):
    monkeypatch.setattr(idle, "SOONEST_LOOK_S", 0.1)
    assert (await watched(machine, attached)).empty()
