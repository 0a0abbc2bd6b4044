"""`nvidia-smi`: what the driver of a machine says of its GPUs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

PROGRAM = "nvidia-smi"
ANSWER_S = 10.0  # a driver that hangs must not hang the offers

#: Asks the driver of some machine: what the program prints; "" when it is not there, fails or hangs.
Driver = Callable[..., Awaitable[str]]


async def here(*question: str) -> str:
    """Ask the driver of this machine."""
    try:
        program = await asyncio.create_subprocess_exec(
            PROGRAM, *question, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(ANSWER_S):
            said, _ = await program.communicate()
    except TimeoutError:
        return ""
    finally:
        if program.returncode is None:
            with suppress(ProcessLookupError):
                program.kill()
            await program.wait()
    return said.decode(errors="replace") if program.returncode == 0 else ""
