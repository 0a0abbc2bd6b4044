"""The programs that use the client, and every piece of docs/sdk.md, run against a real API and this host."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.platforms.local import LocalPlatform
from nebulous import ids
from tests.served_api import ServedApi, served_api
from worker.embedded import Engine

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
TIMES = 4


@pytest.fixture(scope="module")
def api(session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    folder = tmp_path_factory.mktemp("api")
    local = LocalPlatform(ids.new_id(), folder, install="test")
    with served_api(session_engine.temporal_address, session_engine.redis_url, folder, local) as served:
        yield served


async def run(api: ServedApi, *words: str, cwd: Path | None = None, **env: str) -> tuple[int, str]:
    """A program, logged in as a member of a fresh organization; its exit code and what it printed."""
    access = {"NEBU_SERVER": api.url, "NEBU_API_KEY": api.token(api.organization(), "member"), **env}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env={**os.environ, **access}, cwd=cwd, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def test_create_and_wait(api: ServedApi):
    program = str(ROOT / "examples/06-create-and-wait.py")
    words = (program, "--name", "example", "--platform", api.platform.account)
    code, output = await run(api, *words)
    lines = output.splitlines()
    assert code == 3, output
    assert lines[-2:] == ["container/example is failed with exit code 3", "container/example is gone"]
    assert [line.strip() for line in lines if "step" in line] == [f"step {n} of example" for n in (1, 2, 3)]
    for code, output in await asyncio.gather(*(run(api, *words) for _ in range(TIMES))):  # no run ends in a crash
        assert code == 3, output


async def test_create_and_wait_with_await(api: ServedApi):
    program = str(ROOT / "examples/06-create-and-wait-async.py")
    code, output = await run(api, program, "--platform", api.platform.account)
    assert code == 0, output
    assert set(output.splitlines()) == {
        "1 squared is 1",
        "2 squared is 4",
        "3 squared is 9",
        "3 of 3 succeeded",
    }


async def test_a_mistake_ends_in_words(api: ServedApi):
    program = str(ROOT / "examples/06-create-and-wait.py")
    code, output = await run(api, program, "--platform", "dokcer")
    assert (code, output) == (1, "platform: unknown platform 'dokcer'; did you mean 'docker'?\n")
    code, output = await run(api, program, NEBU_SERVER="http://127.0.0.1:9")
    assert code == 1
    assert output.startswith("the server http://127.0.0.1:9 does not answer: Connection refused\nstart one with")


async def test_every_piece_of_the_page_runs(api: ServedApi, session_engine: Engine, tmp_path: Path):
    pieces = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/sdk.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(pieces) >= 9
    before = (
        "import os\n"
        "server, token = os.environ['NEBU_SERVER'], os.environ['NEBU_API_KEY']\n"
        f"temporal_address = {session_engine.temporal_address!r}\n"
    )
    text = "\n".join([before, *pieces, "temporal.leave(0)\n"]).replace('"docker"', repr(api.platform.account))
    script = tmp_path / "page.py"
    script.write_text(text)
    code, output = await run(api, str(script), cwd=tmp_path)
    assert code == 0, output
    for said in (
        "completed 0",
        "hello from hello",
        "timeout: '30' is not a duration",
        "container/polite is failed (Exited 3), and was waited for to be completed",
        "good day",
        "'sh' in 'server' ended with exit code",
        "SOME WORDS",
        "[b'1\\n', b'4\\n', b'9\\n']",
    ):
        assert said in output
