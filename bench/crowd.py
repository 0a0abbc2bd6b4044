"""Many containers: what a thousand that run cost, and how fast the API answers among five thousand."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import httpx
from temporalio.client import Client

from bench.installs import Install, install
from bench.report import Figure, median_ms, seconds
from nebulous import ids, starters, temporal
from nebulous.models.resources import Row

RUNNING, QUICK_RUNNING = 1000, 50
ALL, QUICK_ALL = 5000, 200
LISTED = 100
IDLE_S, QUICK_IDLE_S = 60.0, 5.0
ROUNDS, QUICK_ROUNDS = 30, 3
CACHED_S = 0.6  # the API answers the same list again from memory for half a second
AT_ONCE = 32


def measure(quick: bool) -> list[Figure]:
    """Memory and actions of those that run, then lists, GET and POST."""
    with install(NEBU_SIM__BOOT_S="0") as here:
        return asyncio.run(_measure(here, quick))


async def _measure(here: Install, quick: bool) -> list[Figure]:
    client = await temporal.connect(here.temporal)
    running, everything = (QUICK_RUNNING, QUICK_ALL) if quick else (RUNNING, ALL)
    await _run(client, running)
    figures = [*await _idle(here, client, running, QUICK_IDLE_S if quick else IDLE_S)]
    await _fill(client, everything - running)
    figures += await _lists(here, client, everything, QUICK_ROUNDS if quick else ROUNDS)
    return figures + _single(here, QUICK_ROUNDS if quick else ROUNDS * 3)


async def _run(client: Client, count: int) -> None:
    async def begin(number: int) -> None:
        spec: dict[str, Any] = {"image": "busybox", "platform": "sim", "metadata": {"name": f"run-{number}"}}
        handle = await starters.start_container(client, spec)
        await handle.wait("running")

    await _all(begin(number) for number in range(count))


async def _idle(here: Install, client: Client, count: int, look_s: float) -> list[Figure]:
    """Events in the histories of containers that just run: each would be an action, or more."""
    worker = here.process("worker")
    await asyncio.sleep(look_s / 6)
    before = await _events(client, count)
    await asyncio.sleep(look_s)
    after = await _events(client, count)
    per_hour = (after - before) / count * 3600 / look_s
    return [
        Figure(f"{count} running: events per container and hour", per_hour, "", 0),
        Figure(f"{count} running: memory of the worker (RSS)", worker.memory_info().rss / 2**20, "MB", 350),
    ]


async def _events(client: Client, count: int) -> int:
    lengths: list[int] = []

    async def look(number: int) -> None:
        handle = client.get_workflow_handle(f"container/local/default/run-{number}")
        lengths.append((await handle.describe()).history_length)

    await _all(look(number) for number in range(count))
    return sum(lengths)


async def _fill(client: Client, count: int) -> None:
    """Containers on a queue that nobody works on, with rows like those of real ones: only lists see them."""
    example = await client.get_workflow_handle("container/local/default/run-0").describe()
    row = await temporal.row(example)
    assert row is not None

    async def begin(number: int) -> None:
        namespace = "listed" if number < LISTED else "crowd"
        address = ids.Address("container", "local", namespace, f"idle-{number}")
        metadata = row.metadata.model_copy(update={"name": address.name, "namespace": namespace})
        mine = Row(metadata=metadata, spec=row.spec, status=row.status)
        attributes = temporal.search_attributes(address, metadata.id, str(row.status["status"]), None)
        await client.start_workflow(
            "Container",
            {"spec": row.spec},
            id=str(address),
            task_queue="nobody",
            memo=mine.model_dump(mode="json"),
            search_attributes=attributes,
        )

    await _all(begin(number) for number in range(count))
    await asyncio.sleep(2)


async def _lists(here: Install, client: Client, everything: int, rounds: int) -> list[Figure]:
    """The list of a namespace with a hundred, each time read afresh, in turns with the bare query."""
    query = temporal.open_query("container", "local", f"{temporal.NAMESPACE.name} = 'listed'")

    async def raw() -> None:
        pages = client.list_workflows(query, page_size=1000)
        await pages.fetch_next_page(page_size=1000)
        assert len(pages.current_page or ()) == LISTED

    async with httpx.AsyncClient(base_url=here.api.base_url, headers=here.api.headers, timeout=60) as http:

        async def ours() -> None:
            reply = await http.get("/v1/containers", params={"namespace": "listed"})
            assert len(reply.json()["containers"]) == LISTED

        took = await _in_turns(rounds, raw, ours)
    return [
        Figure(
            f"GET list of {LISTED} among {everything}",
            took[ours] * 1000,
            "ms",
            baseline=took[raw] * 1000,
            against="the visibility query",
            ratio_target=1.3,
        )
    ]


Step = Callable[[], Awaitable[None]]


async def _in_turns(rounds: int, *steps: Step) -> dict[Step, float]:
    """The median seconds of each."""
    samples: dict[Step, list[float]] = {step: [] for step in steps}
    for _ in range(rounds):
        await asyncio.sleep(CACHED_S)
        for step in steps:
            began = time.perf_counter()
            await step()
            samples[step].append(time.perf_counter() - began)
    return {step: statistics.median(taken) for step, taken in samples.items()}


def _single(here: Install, rounds: int) -> list[Figure]:
    """One client, which waits for what it has asked for; and one that does not, so that lives begin beside it."""

    def post(name: str) -> float:
        return seconds(lambda: here.create(name, image="busybox", platform="sim"))

    def post_and_wait(name: str) -> float:
        took = post(name)
        here.until(name, "running")
        return took

    gets = [seconds(lambda: here.row("run-0")) for _ in range(rounds)]
    posts = [post_and_wait(f"post-{number}") for number in range(rounds)]
    rush = [post(f"rush-{number}") for number in range(rounds)]
    return [
        Figure("GET one", median_ms(gets), "ms", 12),
        Figure("POST one, one client", median_ms(posts), "ms", 25),
        Figure("POST one after the other, without waiting for any", median_ms(rush), "ms"),
    ]


async def _all(work: Any) -> None:  # noqa: ANN401 - an iterable of coroutines
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await each

    await asyncio.gather(*map(one, work))
