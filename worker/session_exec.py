"""Sessions that run a further command in an instance; it ends with the session."""

from __future__ import annotations

import asyncio

from activities.platforms.base import Executes, Execution, Size
from nebulous.errors import Rejected
from nebulous.models.platforms import Feature
from nebulous.sessions import CHUNK_BYTES, Hello
from nebulous.tasks import end
from worker.session_task import Task


async def relay(task: Task) -> int:
    """Run the command, carry its input and output, return its exit code.

    Raises:
        Rejected: The platform cannot.
    """
    platform, request = task.platform, task.request
    if Feature.EXEC not in platform.features or not isinstance(platform, Executes):
        raise Rejected(f"platform {platform.type!r} runs no further commands in a container", "see: nebu logs")
    size = Size(*request.terminal) if request.terminal else None
    async with platform.execute(task.instance, request.argv, size) as execution:
        await task.relay.hello(Hello(0))
        feeding = asyncio.create_task(_feed(task, execution))
        sending = asyncio.create_task(_send(task, execution))
        try:
            await asyncio.wait({feeding, sending}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                await feeding  # it ends by an error only
            return await sending
        finally:
            await end(feeding, sending)


async def _send(task: Task, execution: Execution) -> int:
    async for channel, data in execution.output():
        for at in range(0, len(data), CHUNK_BYTES):
            await task.relay.send(data[at : at + CHUNK_BYTES], channel)
    return await execution.exit_code()


async def _feed(task: Task, execution: Execution) -> None:
    async for said in task.relay.inputs():
        if said.terminal:
            await execution.resize(Size(*said.terminal))
        elif said.end:
            await execution.end_input()
        else:
            await execution.write(said.data)
