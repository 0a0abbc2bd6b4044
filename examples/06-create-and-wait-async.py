"""Run several containers at once and wait for all of them: 06-create-and-wait.py with `await`.

The client goes where `nebu` goes: NEBU_SERVER and NEBU_API_KEY, else the current context.

    nebu serve                                      # in another terminal
    python examples/06-create-and-wait-async.py     # --platform local needs no Docker
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta

import nebulous
from nebulous.client import Container
from nebulous.errors import NebulousError

LONGEST = timedelta(minutes=10)


async def run(client: nebulous.AsyncClient, number: int, platform: str | None) -> Container:
    """One container from its creation to its end, deleted when it is over."""
    container = await client.containers.create(
        image="busybox:latest",
        command=f"echo $(({number} * {number}))",
        platform=platform,
        labels={"example": "06"},
        wait=True,
        limit=LONGEST,
    )
    async for line in client.containers.logs(container).lines():
        print(f"{number} squared is {line}")
    await client.containers.delete(container, wait=True, limit=LONGEST)
    return container


async def main(count: int, platform: str | None) -> int:
    async with nebulous.AsyncClient() as client:
        ended = await asyncio.gather(*(run(client, number, platform) for number in range(1, count + 1)))
    failed = [container for container in ended if not container.succeeded]
    print(f"{len(ended) - len(failed)} of {len(ended)} succeeded")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run several containers at once.")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--platform", help="such as docker, local or sim; default: chosen by the server")
    arguments = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(arguments.count, arguments.platform)))
    except NebulousError as error:
        sys.exit(f"{error}\n{error.hint or ''}".strip())
