"""The example that knows nothing but Temporal, many times; what each head says is typed by test_heads.py."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from activities.platforms.local import LocalPlatform
from nebulous import ids
from tests import nebula as running
from tests.nebula import Nebula
from worker.embedded import Engine

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 30
TIMES = 6


@pytest.fixture
async def local_nebula(session_engine: Engine, tmp_path: Path) -> AsyncGenerator[Nebula]:
    """A worker that runs commands on this host."""
    local = LocalPlatform(ids.new_id(), tmp_path, install="test")
    async with running.nebula(session_engine.temporal_address, tmp_path, local) as started:
        yield started


async def run_program(address: str, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "07-start-a-workflow.py"),
        *words,
        env={**os.environ, "TEMPORAL_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_a_plain_temporal_program_starts_a_container(local_nebula: Nebula, session_engine: Engine):
    name = ids.two_words()
    words = ("--name", name, "--platform", local_nebula.platform.account)
    code, output = await run_program(session_engine.temporal_address, *words)
    assert (code, output.splitlines()[-1]) == (0, f"{name}: completed, exit code 0")
    again = [run_program(session_engine.temporal_address, *words) for _ in range(TIMES)]
    for code, output in await asyncio.gather(*again):  # many: the SDK crashes some of the interpreters that just end
        assert (code, output) == (
            1,
            f"container {name!r} exists: delete it first (nebu delete {name}), or give another --name\n",
        )
