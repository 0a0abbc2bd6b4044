"""The platform `runpod` where the image has little: no SSH server, no curl; and odd words in commands and variables."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from activities.platforms import runpod, runpod_pod
from activities.platforms.base import Command
from activities.platforms.runpod import RunpodPlatform
from nebulous.accounts import RunpodAccount
from nebulous.errors import Conflict, Rejected
from nebulous.models.platforms import InstanceState
from tests.activities.platforms.contract import INSTALL, PlatformContract, text_of, until
from tests.activities.platforms.runpod_bare import SECRET_KEY
from tests.activities.platforms.runpod_builders import OnRunpod, joined
from tests.docker_engine import PATH, archive_of, client, host_programs, imported, small_system
from tests.dockerd import Dockerd
from tests.doubles.runpod import KEY, RunpodDouble

pytestmark = pytest.mark.docker

ODD = "a 'b' \"c\" $d `e` \\n \\\\ {{ f }} \u2028 é\n\n  g\t%s"


class TestWithoutSsh(OnRunpod):
    """What of the contract does not need a server in the image."""

    def launch(self, command: str | list[str] | None, **options: object):
        return super().launch(command, **{"stop_grace": "2s", **options})

    test_start = PlatformContract.test_a_started_command_runs_and_has_a_run
    test_exit = PlatformContract.test_the_exit_code_is_seen_by_every_client
    test_once = PlatformContract.test_starting_again_with_what_was_known_before_starts_nothing_twice
    test_once_at_once = PlatformContract.test_starting_at_the_same_time_starts_once
    test_again = PlatformContract.test_after_an_exit_it_starts_again_as_another_run_in_the_same_instance
    test_no_program = PlatformContract.test_a_program_that_does_not_exist_is_rejected_with_advice
    test_stop = PlatformContract.test_stop_ends_the_command_and_is_idempotent
    test_stop_late = PlatformContract.test_stop_after_the_exit_keeps_the_exit_code
    test_stop_early = PlatformContract.test_stop_before_the_first_start_is_no_error
    test_stop_and_start = PlatformContract.test_a_stopped_command_can_be_started_again
    test_kill = PlatformContract.test_a_command_that_ignores_sigterm_is_killed_after_the_grace
    test_tail = PlatformContract.test_tail_gives_the_last_lines
    test_follow = PlatformContract.test_following_gives_lines_as_they_come_and_ends_with_the_command

    async def test_exec_says_what_to_add_to_the_image(self, platform: RunpodPlatform):
        launch = self.stays()
        started = await self.run(platform, launch)
        with pytest.raises(Conflict, match="no SSH server") as refused:
            async with platform.execute(started, ["true"]):
                pass
        assert "openssh-server" in (refused.value.hint or "")

    async def test_following_with_a_tail_begins_with_the_last_lines(self, platform: RunpodPlatform):
        launch = self.says_and_stays("one\ntwo\nthree")
        started = await self.run(platform, launch)
        await self.said(platform, started, "three")
        text = b""
        async with asyncio.timeout(self.patience_s), aclosing(platform.logs(started, follow=True, tail=2)) as pieces:
            text += await anext(pieces)
        assert text == b"two\nthree\n"

    async def test_a_container_that_runpod_starts_again_does_not_run_the_command_twice(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        launch = self.says_and_stays("once")
        started = await self.run(platform, launch)
        await self.said(platform, started, "once")
        (pod,) = double.of(launch.key)
        await asyncio.to_thread(kill, double, pod.container)
        ended = await self.over(platform, launch.key)
        assert ended.exit
        assert ended.exit.code == 137
        assert (await text_of(platform, ended)).count("once") == 1

    async def test_a_runpod_that_does_not_restart_upon_a_change_is_told_to(
        self, platform: RunpodPlatform, double: RunpodDouble, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod, "NUDGE_S", 1.0)
        double.renews_by_itself = False
        launch = self.says_and_exits("hello", 3)
        await self.run(platform, launch)
        assert (await self.over(platform, launch.key)).state == InstanceState.EXITED
        assert len(double.made("POST .*/action")) == 1

    async def test_a_pod_that_cannot_run_its_image_says_so(self, platform: RunpodPlatform):
        launch = self.launch("true", image="nebu-test/no-such-image:1")
        rented = await self.rent(platform, launch)
        with pytest.raises(Rejected, match="cannot start the image"):
            await self.start(platform, rented, launch)


class TestOddWords(OnRunpod):
    async def test_quotes_newlines_and_backslashes_arrive_as_they_are(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        script = f"printf '%s|' \"$@\" \"$ODD\"; printf '{ODD.replace(chr(39), '')}' x"
        launch = self.launch(["/bin/sh", "-c", script, "sh", ODD, "", "-n"], env_vars=[{"key": "ODD", "value": ODD}])
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        text = await text_of(platform, ended)
        assert text.startswith(f"{ODD}||-n|{ODD}|"), text

    async def test_secrets_are_variables_and_nothing_else(self, platform: RunpodPlatform, double: RunpodDouble):
        launch = self.stays()
        command = Command({**self.command(launch).env, "TOKEN": "hunter2hunter2"})
        rented = await self.rent(platform, launch)

        async def started() -> bool:
            (pod,) = double.of(launch.key)
            return pod.status == "RUNNING"

        await until(started)
        await platform.start(rented, launch, command)
        (pod,) = double.of(launch.key)
        assert pod.body["env"]["TOKEN"] == "hunter2hunter2"
        elsewhere = {name: value for name, value in pod.body.items() if name != "env"}
        assert "hunter2hunter2" not in str(elsewhere)
        assert "BEGIN OPENSSH" not in str(elsewhere)
        (created,) = double.made("POST /v2/pods")
        assert "hunter2hunter2" not in str(created.body)
        assert KEY not in str(pod.body)


class TestEndOfPods(OnRunpod):
    """A pod that nobody looks after ends by itself, with whatever of curl and wget its image has."""

    @pytest.fixture
    def double(self, engine: Dockerd, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunpodDouble]:
        with RunpodDouble(engine.host, engine.init_pid, host_network=True) as double:
            monkeypatch.setenv("NEBU_RUNPOD_API", double.url)
            monkeypatch.setenv("RUNPOD_API_KEY", KEY)
            yield double

    @pytest.fixture(params=["curl", "wget"])
    def tool(self, request: pytest.FixtureRequest, docker_host: str) -> Iterator[str]:
        more = {"wget": archive_of({}, {}, {"/bin/wget": "busybox"}), "curl": loaded("curl")}[request.param]
        with imported(docker_host, joined(small_system(), more), f"ENV PATH={PATH}") as name:
            yield name

    @pytest.fixture
    def dash(self, docker_host: str) -> Iterator[str]:
        """busybox's own shell has wget built in."""
        shell = loaded("dash", "/bin/sh")
        with imported(docker_host, joined(small_system(), shell), f"ENV PATH={PATH}") as name:
            yield name

    @pytest.fixture
    def reopen(self, double: RunpodDouble, tmp_path: Path) -> Callable[[], RunpodPlatform]:
        return lambda: RunpodPlatform("test", INSTALL, RunpodAccount(), SECRET_KEY, tmp_path)

    async def test_one_that_has_ended_goes_after_a_while(
        self, platform: RunpodPlatform, double: RunpodDouble, tool: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod_pod, "LINGER_S", 1)
        launch = self.launch("exit 0", image=tool)
        await self.run(platform, launch)
        await self.nobody_is_left(double)

    async def test_one_that_was_never_started_goes_after_a_while(
        self, platform: RunpodPlatform, double: RunpodDouble, tool: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod_pod, "WAIT_S", 1)
        await self.rent(platform, self.launch("exit 0", image=tool))
        await self.nobody_is_left(double)

    async def test_one_that_runs_longer_than_it_may_is_stopped_then_goes(
        self, platform: RunpodPlatform, double: RunpodDouble, tool: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod_pod, "MARGIN_S", 0)
        monkeypatch.setattr(runpod_pod, "LINGER_S", 1)
        await self.run(platform, self.launch("exec sleep 300", image=tool, timeout="2s"))
        await self.nobody_is_left(double)

    async def test_without_any_tool_it_says_so_and_stays(
        self, platform: RunpodPlatform, double: RunpodDouble, dash: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod_pod, "LINGER_S", 1)
        launch = self.launch("exit 0", image=dash)
        await self.run(platform, launch)
        (pod,) = double.of(launch.key)

        async def said() -> bool:
            return any("nebulous-unended" in line for _, _, line in pod.log)

        await until(said, self.patience_s)
        assert (await self.over(platform, launch.key)).exit
        assert double.of(launch.key) == [pod]

    async def nobody_is_left(self, double: RunpodDouble) -> None:
        async def empty() -> bool:
            return not double.pods

        await until(empty, self.patience_s)
        assert double.made("DELETE .*") == []


def loaded(program: str, at: str | None = None) -> bytes:
    """A program of this machine with all that it loads."""
    (path,) = host_programs(program)
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = {library: Path(library) for library in re.findall(r"(/\S+)", listed)}
    return archive_of({at or path: Path(path), **libraries})


def kill(double: RunpodDouble, container: str) -> None:
    """As if its machine did it: the double did not ask for it."""
    with client(double._docker[0]) as engine:
        engine.post(f"/containers/{container}/kill").raise_for_status()
