"""`nebu exec -it` and `nebu cp` on a terminal of 80 columns, through API and session plane, in a Docker container."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.docker import DockerPlatform
from api.command import address_of, bind, server
from nebulous.ids import platform_queue
from tests.activities.platforms.docker_builders import OnDocker
from tests.api.test_execs import start
from tests.terminals import LIMIT_S, terminal
from worker.sessions import SessionRelay


class TestOnDocker(OnDocker):
    @pytest.fixture
    async def env(self, desk: Any, platform: DockerPlatform, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
        """A container `foo` that runs, served; the environment of a client."""
        launch = self.launch("exec sleep 300")
        await self.run(platform, launch)
        await start(desk, "foo", "running", platform.account, launch.key)
        listener = bind("127.0.0.1", 0)
        serving = server(desk.settings)
        serving.config.app, serving.config.lifespan = desk.app, "off"
        serving.config.timeout_graceful_shutdown = 1
        relay = SessionRelay(desk.redis, platform_queue(platform.account), platform)
        tasks = [asyncio.create_task(relay.run()), asyncio.create_task(serving.serve(sockets=[listener]))]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NEBU_")}
        token = desk.token()["Authorization"].removeprefix("Bearer ")
        config = str(tmp_path / "config.yaml")
        yield {**clean, "NEBU_SERVER": address_of(listener), "NEBU_API_KEY": token, "NEBU_CONFIG": config}
        tasks[0].cancel()
        serving.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()

    async def test_a_person_types_resizes_interrupts_and_leaves(self, env: dict[str, str]) -> None:
        await asyncio.to_thread(self._type, env)

    def _type(self, env: dict[str, str]) -> None:
        with terminal(env, "exec", "-it", "foo", "--", "sh") as screen:
            before = screen.settings
            screen.type('until [ "$(stty size)" = "24 80" ]; do sleep 0.05; done; echo ei""ghty\r')
            screen.expect("eighty\r\n")
            screen.type("echo $((20 + 3)), $NEBU_ATTEMPT\r")
            screen.expect("23, 1\r\n")
            screen.resize(40, 132)
            screen.type('until [ "$(stty size)" = "40 132" ]; do sleep 0.05; done; echo wi""der\r')
            screen.expect("wider\r\n")
            screen.type("trap 'echo cau''ght; o=1' INT; echo rea''dy; until [ \"$o\" ]; do sleep 0.1; done\r")
            screen.expect("ready\r\n")
            screen.type("\x03")
            screen.expect("caught")
            screen.type("exit 9\r")
            screen.process.wait(LIMIT_S)
            assert screen.settings == before
            assert screen.ended() == 9

    async def test_files_go_in_and_out(self, env: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "f").write_text("ours")
        for words, code in (
            (("cp", f"{tmp_path}/data", "foo:/tmp"), 0),
            (("exec", "foo", "--", "mkdir", "/tmp/there"), 0),
            (("cp", f"{tmp_path}/data/.", "foo:/tmp/there"), 0),
            (("cp", f"{tmp_path}/data", "foo:/tmp/new"), 0),
            (("cp", "foo:/tmp/data", f"{tmp_path}/back"), 0),
            (("cp", "foo:/tmp/there/.", f"{tmp_path}/content"), 0),
            (("cp", "foo:/tmp/new/deep/f", f"{tmp_path}/file"), 0),
            (("cp", "foo:/tmp/nothing", f"{tmp_path}/file"), 3),
            (("cp", f"{tmp_path}/data", "foo:/tmp/new/deep/f"), 1),
            (("cp", f"{tmp_path}/file", "foo:/no/such/folder/f"), 3),
            (("exec", "foo", "--", "no-such-program"), 127),
        ):
            command = [sys.executable, "-m", "nebulous", *words]
            process = await asyncio.create_subprocess_exec(*command, env=env, stderr=asyncio.subprocess.PIPE)
            _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
            assert process.returncode == code, (words, said)
        for path in ("back/deep/f", "content/deep/f", "file"):
            assert (tmp_path / path).read_text() == "ours"
