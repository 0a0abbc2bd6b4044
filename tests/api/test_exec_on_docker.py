"""`nebu exec -it` and `nebu cp` on a terminal of 80 columns, through API and session plane, in a Docker container."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.platforms.docker import DockerPlatform
from api.command import address_of, bind, server
from nebulous.ids import platform_queue
from tests.activities.platforms.contract import INSTALL, until
from tests.activities.platforms.docker_builders import HOST, OnDocker
from tests.api.test_execs import start
from tests.doubles.proxy import cutting_proxy
from tests.terminals import LIMIT_S, terminal
from worker.sessions import SessionRelay


@asynccontextmanager
async def served(desk: Any, platform: DockerPlatform, folder: Path) -> AsyncIterator[dict[str, str]]:
    """An API and the sessions of a platform; the environment of a client."""
    listener = bind("127.0.0.1", 0)
    serving = server(desk.settings)
    serving.config.app, serving.config.lifespan = desk.app, "off"
    serving.config.timeout_graceful_shutdown = 1
    relay = SessionRelay(desk.redis, platform_queue(platform.account), platform)
    tasks = [asyncio.create_task(relay.run()), asyncio.create_task(serving.serve(sockets=[listener]))]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEBU_")}
    token = desk.token()["Authorization"].removeprefix("Bearer ")
    yield {
        **clean,
        "NEBU_SERVER": address_of(listener),
        "NEBU_API_KEY": token,
        "NEBU_CONFIG": str(folder / "config.yaml"),
    }
    tasks[0].cancel()
    serving.should_exit = True
    await asyncio.gather(*tasks, return_exceptions=True)
    listener.close()


async def nebu(env: dict[str, str], *words: str) -> asyncio.subprocess.Process:
    """Start `nebu WORDS…`."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "nebulous", *words]
    return await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Its exit code, and the rest of what it said."""
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    return process.returncode or 0, out.decode(), err.decode()


class TestOnDocker(OnDocker):
    @pytest.fixture
    async def env(self, desk: Any, platform: DockerPlatform, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
        """A container `foo` that runs, served; the environment of a client."""
        launch = self.launch("exec sleep 300")
        await self.run(platform, launch)
        await start(desk, "foo", "running", platform.account, launch.key)
        async with served(desk, platform, tmp_path) as env:
            yield env

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
        ):
            outcome = await ended(await nebu(env, *words))
            assert outcome[0] == code, (words, outcome)
        for words, code, said in (
            (("cp", "foo:/tmp/nothing", f"{tmp_path}/file"), 3, "/tmp/nothing"),
            (("cp", f"{tmp_path}/data", "foo:/tmp/new/deep/f"), 1, "cannot copy the folder"),
            (("cp", f"{tmp_path}/file", "foo:/no/such/folder/f"), 3, "/no/such/folder"),
            (("exec", "foo", "--", "no-such-program"), 127, "no-such-program"),
        ):
            outcome = await ended(await nebu(env, *words))
            assert outcome[0] == code, (words, outcome)
            assert said in outcome[2], (words, outcome)
        for path in ("back/deep/f", "content/deep/f", "file"):
            assert (tmp_path / path).read_text() == "ours"

    async def test_a_full_disk_in_the_container_is_said(
        self, desk: Any, platform: DockerPlatform, api: httpx.AsyncClient, tmp_path: Path
    ) -> None:
        launch = self.launch("exec sleep 300")
        await self.rent(platform, launch)
        async with small_volume(api) as volume:
            await self._rebuilt(api, launch.key, [f"{volume}:/small"])
            await self.start(platform, await self.found(platform, launch.key), launch)
            await start(desk, "foo", "running", platform.account, launch.key)
            (tmp_path / "big").write_bytes(os.urandom(3_000_000))
            async with served(desk, platform, tmp_path) as env:
                code, out, err = await ended(await nebu(env, "cp", f"{tmp_path}/big", "foo:/small"))
                assert (code, out) == (1, ""), err
                assert err == (
                    "error: '/small': No space left on device: what was written until then stays\n"
                    "hint:  free some space there, or copy less\n"
                )
                assert (await ended(await nebu(env, "exec", "foo", "--", "rm", "-f", "/small/big")))[0] == 0
                (tmp_path / "less").write_bytes(os.urandom(300_000))
                assert (await ended(await nebu(env, "cp", f"{tmp_path}/less", "foo:/small")))[0] == 0
            await self.gone(platform, launch.key)

    async def _rebuilt(self, api: httpx.AsyncClient, name: str, binds: list[str]) -> None:
        """Make a container that was made by the product once more by hand, with volumes."""
        made = (await api.get(f"/containers/{name}/json")).json()
        (await api.delete(f"/containers/{name}")).raise_for_status()
        body = {**made["Config"], "HostConfig": {**made["HostConfig"], "Binds": binds}}
        (await api.post("/containers/create", params={"name": name}, json=body)).raise_for_status()

    @pytest.mark.parametrize(
        ("away", "said"),
        [
            (False, "error: the line to the Engine broke, and with it the command\nhint:  run it again\n"),
            (True, "error: Docker does not answer at tcp://"),
        ],
        ids=["reset", "away"],
    )
    async def test_an_engine_whose_line_breaks_is_told_and_leaves_nothing(
        self, desk: Any, docker_host: str, api: httpx.AsyncClient, tmp_path: Path, away: bool, said: str
    ) -> None:
        async with cutting_proxy(docker_host) as proxy:
            far = DockerPlatform(HOST, INSTALL, proxy.url.replace("http", "tcp"), data_dir=tmp_path)
            launch = self.launch("exec sleep 300")
            await self.run(far, launch)
            await start(desk, "foo", "running", far.account, launch.key)
            async with served(desk, far, tmp_path) as env:
                process = await nebu(env, "exec", "foo", "--", "sh", "-c", "echo ready; exec sleep 299")
                assert process.stdout
                assert await process.stdout.readline() == b"ready\n"
                proxy.refuse = away
                proxy.cut()
                code, out, err = await ended(process)
                assert (code, out) == (5, "")
                assert err.startswith(said)
                proxy.refuse = False
                await until(lambda: self._left_nothing(api, launch.key))
                assert not [key async for key in desk.redis.scan_iter("session:*") if await desk.redis.ttl(key) == -1]
            await self.gone(far, launch.key)
            await far.close()

    async def _left_nothing(self, api: httpx.AsyncClient, container: str) -> bool:
        seen, listed = await api.get(f"/containers/{container}/json"), await api.get(f"/containers/{container}/top")
        assert "sleep 300" in listed.text
        return not seen.json()["ExecIDs"] and "sleep 299" not in listed.text


@asynccontextmanager
async def small_volume(api: httpx.AsyncClient) -> AsyncIterator[str]:
    """A volume of 1 MiB."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    name = (await api.post("/volumes/create", json={"Driver": "local", "DriverOpts": options})).json()["Name"]
    yield name
    (await api.delete(f"/volumes/{name}")).raise_for_status()
