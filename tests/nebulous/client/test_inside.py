"""Commands in a container, what it uses, offers and patches, through both clients; a real worker, a simulated cloud."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nebulous import AsyncClient
from nebulous.client import Executed, Offers
from nebulous.errors import CommandFailed, Conflict, Ended, InvalidRequest, NotFound, NotReady, Rejected
from nebulous.models.platforms import Usage
from tests.nebula import sim_labels
from tests.served_api import ServedApi


@pytest.fixture
async def running(client: Any, api: ServedApi) -> Any:
    return await client.containers.create(
        image="busybox", platform=api.platform.account, labels=sim_labels(boot="0s"), wait="running", limit=20
    )


async def test_a_command_is_run_to_its_end(client: Any, running: Any):
    done = await client.containers.exec(running, ["echo", "a b"])
    assert isinstance(done, Executed)
    assert (done.exit_code, done.stdout, done.stderr, done.command) == (0, b"a b\n", b"", ["echo", "a b"])
    assert (await client.containers.exec(running.metadata.name, ["exit", "7"])).exit_code == 7


async def test_input_goes_in_and_output_is_told_as_it_comes(client: Any, running: Any):
    pieces = [b"x" * 100_000, b"y" * 100_000]
    assert (await client.containers.exec(running, ["cat"], stdin=pieces)).stdout == b"".join(pieces)
    came: list[bytes] = []
    done = await client.containers.exec(running, ["cat"], stdin=b"hello", stdout=came.append)
    assert (b"".join(came), done.stdout) == (b"hello", b"")


async def test_input_that_fails_ends_the_command(client: Any, running: Any):
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.containers.exec(running, ["cat"], stdin=broken())


async def test_input_without_an_end_is_read_no_further_than_the_command(client: Any, running: Any):
    stopped = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"y\n"
        finally:
            stopped.set()

    done = await client.containers.exec(running, ["exit", "3"], stdin=endless(), limit=20)
    assert done.exit_code == 3
    assert await asyncio.to_thread(stopped.wait, 20)  # the thread that read it has let go of it


async def test_input_may_be_any_bytes_and_a_text_is_none(client: Any, running: Any):
    for stdin in (bytearray(b"abc"), memoryview(b"abc"), iter([b"a", b"bc"])):
        assert (await client.containers.exec(running, ["cat"], stdin=stdin)).stdout == b"abc"
    for text in ("abc", ["abc"]):
        with pytest.raises(TypeError, match="stdin is bytes, or an iterable of bytes, and no str"):
            await client.containers.exec(running, ["cat"], stdin=text)


async def test_a_taker_that_fails_is_heard_whatever_it_raises(api: ServedApi, running: Any, organization: str):
    def out_of_room(_: bytes) -> None:
        raise OSError("no room")

    async with AsyncClient(api.url, api.token(organization)) as client, asyncio.timeout(20):
        with pytest.raises(OSError, match="no room"):
            await client.containers.exec(running, ["echo", "a"], stdout=out_of_room)
        with pytest.raises(RuntimeError, match="StopIteration was raised"):  # no future takes it as it is
            await client.containers.exec(running, ["echo", "a"], stdout=lambda _: next(iter(())))


async def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_the_limit(connect: Any, running: Any):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system connects, and nobody answers
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", "a-token")
        began = time.monotonic()
        for container in ("foo", running):  # the one is looked up before
            with pytest.raises(NotReady, match=r"'true' in '.*' had not begun after 1s"):
                await client.containers.exec(container, ["true"], limit=1)
        with pytest.raises(NotReady, match=r"is running \(Started\), and not finished after 1s"):
            await client.containers.wait(running, limit=1)
        assert time.monotonic() - began < 20  # without the limit each is 30


async def test_a_command_that_takes_too_long_is_ended(client: Any, running: Any):
    began = time.monotonic()
    with pytest.raises(NotReady, match=r"'sleep' in .* still ran after 1s"):
        await client.containers.exec(running, ["sleep", "600"], limit=1)
    assert time.monotonic() - began < 20


async def test_cancelling_ends_the_command(api: ServedApi, running: Any, organization: str):
    async with AsyncClient(api.url, api.token(organization)) as client:
        task = asyncio.create_task(client.containers.exec(running, ["sleep", "600"]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)


async def test_twenty_commands_run_at_once(api: ServedApi, running: Any, organization: str):
    together = threading.Barrier(20, timeout=30)

    def number(mine: int) -> Iterator[bytes]:
        together.wait()  # none goes on before all have begun
        yield b"%d" % mine

    async with AsyncClient(api.url, api.token(organization)) as client:
        each = (client.containers.exec(running, ["cat"], stdin=number(mine)) for mine in range(20))
        assert [done.stdout for done in await asyncio.gather(*each)] == [b"%d" % mine for mine in range(20)]


async def test_an_exit_code_can_be_an_error(client: Any, running: Any):
    assert (await client.containers.exec(running, ["echo", "a"], check=True)).stdout == b"a\n"
    with pytest.raises(Ended, match=r"'exit' in '.*' ended with exit code 7") as raised:
        await client.containers.exec(running, ["exit", "7"], check=True)
    assert isinstance(raised.value, CommandFailed)
    assert (raised.value.exit_code, raised.value.stdout, raised.value.stderr) == (7, b"", b"")


async def test_nothing_is_run_in_what_has_ended_or_never_was(client: Any, running: Any):
    with pytest.raises(NotFound, match="nobody"):
        await client.containers.exec("nobody", ["true"])
    await client.containers.stop(running)
    await client.containers.wait(running, limit=20)
    with pytest.raises(Conflict, match="is stopped"):
        await client.containers.exec(running, "true")
    with pytest.raises(Conflict, match="is stopped"):
        await client.containers.stats(running)


async def test_what_it_uses_is_told(client: Any, running: Any):
    used = await client.containers.stats(running)
    assert isinstance(used, Usage)
    assert used.simulated
    assert used.memory_bytes > 0


async def test_offers_are_ranked_and_the_rest_has_a_reason(client: Any, api: ServedApi):
    found = await client.offers("1:L40S", platform=api.platform.account)
    assert isinstance(found, Offers)
    prices = [offer.usd_per_hour for offer in found.offers]
    assert prices == sorted(prices)
    assert {offer.accelerator for offer in found.offers} == {"1:L40S"}
    none = await client.offers(platform=api.platform.account, max_price=0.000001, accelerators=["1:L40S"])
    assert (none.offers, bool(none.problem)) == ([], True)
    with pytest.raises(Rejected, match="unknown accelerator 'A1000'"):
        await client.offers("1:A1000")


async def test_a_part_is_changed_in_place(client: Any, running: Any):
    changed = await client.containers.patch(running, timeout="2h", labels={"team": "a", "sim.nebulous/boot": None})
    assert (changed.metadata.id, changed.metadata.labels) == (running.metadata.id, {"team": "a"})
    assert changed.raw["timeout"] == "2h"
    changed = await client.containers.patch(running, {"timeout": None})
    assert changed.raw["timeout"] is None
    assert (await client.containers.get(running)).metadata.labels == changed.metadata.labels  # as it is, not as it was
    fields = {"metadata": {"labels": {"of": "fields"}}}
    version = changed.metadata.resource_version
    changed = await client.containers.patch(running, fields, labels={"team": "b"}, resource_version=version)
    assert changed.metadata.labels == {"team": "b", "of": "fields"}
    with pytest.raises(Conflict, match="changed meanwhile"):
        await client.containers.patch(running, restart="Always", resource_version=running.metadata.resource_version)
    with pytest.raises(Conflict, match="image"):
        await client.containers.patch(running, image="other")
    with pytest.raises((InvalidRequest, Rejected), match="time_out"):
        await client.containers.patch(running, time_out="1h")
