"""Sessions that look at and copy files of an instance, as tar archives, never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from activities.platforms.base import KeepsFiles
from nebulous.errors import Rejected
from nebulous.models.platforms import Feature
from nebulous.sessions import CHUNK_BYTES, Hello
from worker.session_task import Task


async def stat(task: Task) -> None:
    """Send what is at the path, as JSON."""
    found = await _keeper(task).stat(task.instance, task.request.path)
    await task.relay.hello(Hello(0))
    await task.relay.send(found.model_dump_json().encode())


async def read(task: Task) -> None:
    """Send an archive of what is at the path."""
    source = cast("AsyncGenerator[bytes]", _keeper(task).read_files(task.instance, task.request.path))
    async with aclosing(source):
        first = await anext(source, b"")  # what is not there fails before the session has begun
        await task.relay.hello(Hello(0))
        await _send(task, first)
        async for data in source:
            await _send(task, data)


async def _send(task: Task, data: bytes) -> None:
    for at in range(0, len(data), CHUNK_BYTES):
        await task.relay.send(data[at : at + CHUNK_BYTES])


async def write(task: Task) -> None:
    """Unpack the archive that the reader sends."""
    keeper = _keeper(task)
    await task.relay.hello(Hello(0))
    async with aclosing(_archive(task)) as archive:
        await keeper.write_files(task.instance, task.request.path, archive)


async def _archive(task: Task) -> AsyncGenerator[bytes]:
    async with aclosing(task.relay.inputs()) as inputs:
        async for said in inputs:
            if said.end:
                return
            yield said.data


def _keeper(task: Task) -> KeepsFiles:
    platform = task.platform
    if Feature.FILES not in platform.features or not isinstance(platform, KeepsFiles):
        what = "is simulated: its containers have no files" if platform.simulated else "copies no files"
        raise Rejected(f"platform {platform.type!r} {what}", "use `docker` or `local`, or a volume")
    return platform
