"""Health checks and public ports of containers in a real Engine, whose network is not that of this process."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import httpx
import pytest

from activities.platforms.base import Command, Verdict
from activities.platforms.docker import DockerPlatform
from nebulous.errors import PortTaken
from nebulous.models.container_fields import HealthCheck
from nebulous.models.platforms import Instance
from tests.activities.platforms.contract import until
from tests.activities.platforms.docker_builders import OnDocker
from tests.dockerd import Dockerd

pytestmark = pytest.mark.docker

NOTHING = Command(env={})
SERVE = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8000 -h /www"
WITHOUT_BASH = "/bin/busybox rm /usr/bin/bash; " + SERVE
WITHOUT_SHELL = SERVE.replace("exec httpd", "busybox rm /bin/sh; exec busybox httpd")

#: Asks once, from inside the network of the Engine: there the bridge is an interface of the machine that asks.
FROM_INSIDE = """
import asyncio, json, sys
from activities.platforms.base import Command
from activities.platforms.docker import DockerPlatform
from nebulous.models.container_fields import HealthCheck

async def main(host, key, check):
    platform = DockerPlatform("testhost", "testinstall2", host)
    try:
        (instance,) = await platform.find(key)
        verdict = await platform.probe(instance, HealthCheck.model_validate_json(check), Command(env={}))
    finally:
        await platform.close()
    print(json.dumps([verdict.ok, verdict.message, verdict.reached]))

asyncio.run(main(*sys.argv[1:]))
"""


async def asked_from_inside(engine: Dockerd, instance: Instance, check: HealthCheck) -> Verdict:
    command = [sys.executable, "-c", FROM_INSIDE, engine.host, instance.key, check.model_dump_json()]
    return Verdict(*json.loads(await inside(engine, *command)))


async def inside(engine: Dockerd, *command: str) -> bytes:
    """Run a program in the network of the Engine."""
    entered = ["nsenter", "-t", str(engine.init_pid), "-n"] if engine.init_pid != os.getpid() else []
    process = await asyncio.create_subprocess_exec(
        *entered, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out


class TestHealth(OnDocker):
    async def serving(self, platform: DockerPlatform, command: str = SERVE) -> Instance:
        return await self.run(platform, self.launch(command))

    async def good(self, platform: DockerPlatform, instance: Instance, check: HealthCheck) -> None:
        async def asked() -> bool:
            return (await platform.probe(instance, check, NOTHING)).ok

        await until(asked)

    async def test_a_path_is_asked_for_at_the_address_of_the_container(self, platform: DockerPlatform, engine: Dockerd):
        instance = await self.serving(platform)
        await self.good(platform, instance, HealthCheck(path="/index.html", port=8000))
        assert await asked_from_inside(engine, instance, HealthCheck(path="/index.html", port=8000)) == Verdict(True)
        missing = await asked_from_inside(engine, instance, HealthCheck(path="/no", port=8000))
        assert missing.message == "http port 8000, path /no answers 404"
        silent = await asked_from_inside(engine, instance, HealthCheck(path="/", port=8001))
        assert silent.message == "nothing listens on port 8001: connection refused"

    async def test_where_the_address_is_out_of_reach_a_program_in_the_container_asks(
        self, platform: DockerPlatform, not_ours: None
    ):
        instance = await self.serving(platform)
        await self.good(platform, instance, HealthCheck(path="/index.html", port=8000))
        missing = await platform.probe(instance, HealthCheck(path="/no", port=8000), NOTHING)
        assert missing.message == "http port 8000, path /no answers 404"
        silent = await platform.probe(instance, HealthCheck(path="/", port=8001), NOTHING)
        assert silent.message == "nothing listens on port 8001: connection refused"

    async def test_wget_will_do(self, platform: DockerPlatform, not_ours: None):
        instance = await self.serving(platform, WITHOUT_BASH)
        await self.good(platform, instance, HealthCheck(path="/index.html", port=8000))
        missing = await platform.probe(instance, HealthCheck(path="/no", port=8000), NOTHING)
        assert not missing.ok
        assert "404" in missing.message

    async def test_an_image_that_cannot_ask_is_said_to_be_out_of_reach(self, platform: DockerPlatform, not_ours: None):
        instance = await self.serving(platform, WITHOUT_SHELL)
        check = HealthCheck(path="/index.html", port=8000)

        async def unreachable() -> Verdict | None:
            verdict = await platform.probe(instance, check, NOTHING)
            return None if verdict.reached else verdict

        verdict = await until(unreachable)
        assert "cannot be reached from the worker" in verdict.message
        assert "health_check.command" in verdict.message

    async def test_a_command_is_run_in_the_container(self, platform: DockerPlatform):
        instance = await self.serving(platform)
        assert (await platform.probe(instance, HealthCheck(command=["ls", "/bin"]), NOTHING)).ok
        bad = await platform.probe(instance, HealthCheck(command="echo not yet >&2; exit 4"), NOTHING)
        assert bad.message == "its command ended with 4: not yet"
        absent = await platform.probe(instance, HealthCheck(command=["/no/such"]), NOTHING)
        assert not absent.ok
        assert "/no/such" in absent.message

    async def test_a_command_that_hangs_is_bad_and_no_other_is_started_beside_it(
        self, platform: DockerPlatform, api: httpx.AsyncClient
    ):
        instance = await self.serving(platform)
        check = HealthCheck(command="echo x >> /asked; sleep 300", timeout="200ms")
        first = await platform.probe(instance, check, NOTHING)
        second = await platform.probe(instance, check, NOTHING)
        assert first.message == "its command did not end within 200ms"
        assert second.message == "its command did not end within 200ms: the last one still runs"
        listed = (await api.get(f"/containers/{instance.id}/top")).json()["Processes"]
        assert sum("sleep 300" in " ".join(line) for line in listed) <= 2  # the shell and its sleep

    @pytest.fixture
    def not_ours(self, monkeypatch: pytest.MonkeyPatch, engine: Dockerd) -> None:
        """As if the Engine ran on another machine; the test Engine's network is another one anyway."""
        if engine.init_pid == os.getpid():
            monkeypatch.setattr("activities.runtimes.docker_probes._own_addresses", set[str])


class TestPublicPorts(OnDocker):
    async def test_a_public_port_is_the_same_port_of_the_machine(self, platform: DockerPlatform, engine: Dockerd):
        launch = self.launch(SERVE, ports=[{"port": 8000, "public": True}, {"port": 9}])
        instance = await self.run(platform, launch)
        assert [(port.port, port.protocol) for port in instance.public_ports] == [(8000, "tcp")]
        assert instance.public_ports[0].public_ip
        get = "import sys, urllib.request as r; sys.stdout.write(r.urlopen('http://127.0.0.1:8000/').read().decode())"

        async def answered() -> bool:
            try:
                return await inside(engine, sys.executable, "-c", get) == b"hello\n"
            except AssertionError:
                return False

        await until(answered)

    async def test_a_port_that_is_not_public_is_not_opened(self, platform: DockerPlatform):
        instance = await self.run(platform, self.launch(SERVE, ports=[{"port": 8000}]))
        assert instance.public_ports == []

    async def test_a_port_that_is_taken_is_named_and_nothing_half_made_stays(
        self, platform: DockerPlatform, api: httpx.AsyncClient
    ):
        await self.run(platform, self.launch(SERVE, ports=[{"port": 8000, "public": True}]))
        second = self.launch(SERVE, ports=[{"port": 8000, "public": True}])
        rented = await self.rent(platform, second)
        with pytest.raises(PortTaken) as refused:
            await platform.start(rented, second, self.command(second))
        assert "public port 8000/tcp is taken" in refused.value.message
        assert "ss -ltnp" in (refused.value.hint or "")
        await self.gone(platform, second.key)
        assert (await api.get(f"/containers/{rented.id}/json")).status_code == 404
