"""Rented machines and what can go wrong with them: lines that break, wrong machines, notices, images, firewalls."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from activities.platforms import machine_line, machine_lines, machines
from activities.platforms.base import Ask, Command
from activities.platforms.machines import MachinePlatform
from activities.runtimes import tunnel
from nebulous.errors import AuthFailed, ImageNotFound, NotFound, NotReady, Rejected, Unavailable
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, InstanceState
from tests.activities.platforms.contract import INSTALL, text_of, until
from tests.activities.platforms.machine_builders import SECRET_KEY, OnMachines
from tests.activities.platforms.test_docker_images import _architecture, _some_megabytes
from tests.docker_engine import archive_of, client
from tests.dockerd import Dockerd
from tests.doubles.guests import Guest
from tests.doubles.machine_cloud import Rented, World

pytestmark = pytest.mark.docker

Reopen = Callable[[], MachinePlatform]


class Stubborn(OnMachines):
    """Starts as the activity does: again after whatever may pass."""

    async def insist(self, platform: MachinePlatform, rented: Instance, launch: Launch) -> Instance:
        while True:
            try:
                return await platform.start(rented, launch, self.command(launch), self.progress.append)
            except Unavailable:
                await asyncio.sleep(0.05)


class TestOrders(OnMachines):
    """What is asked of the cloud."""

    @pytest.fixture
    def world(self) -> World:
        return World()

    async def test_a_request_is_the_same_to_the_byte_in_every_worker_and_holds_nothing_secret(
        self, platform: MachinePlatform, reopen: Reopen
    ):
        secret = {"key": "TOKEN", "value": "s3cr3t-value"}
        launch = self.launch("serve --now", env_vars=[secret], timeout="1h")
        (offer, _) = await platform.offers(Ask())
        command = Command(env={"TOKEN": "s3cr3t-value"}, registry_username="lovelace", registry_password="pa55word")
        other = reopen()
        await platform.create(launch, offer, command)
        await other.create(launch, offer, command)
        first, second = platform._cloud.world.sent  # type: ignore[attr-defined]
        assert first == second
        for hidden in ("s3cr3t-value", "pa55word", "lovelace", "serve --now", "PRIVATE", SECRET_KEY.hex()):
            assert hidden not in first.user_data
        await other.close()

    def test_tags_disk_ports_and_end_of_life(self, platform: MachinePlatform):
        ports = [{"port": 80, "public": True}, {"port": 81}]
        launch = self.launch("true", ports=ports, timeout="2h", provision_timeout="1h", stop_grace="45s")
        order = platform.order(launch)
        assert order.tags == {
            "nebulous-install": INSTALL,
            "nebulous-workflow": launch.workflow,
            "nebulous-id": launch.metadata.id,
            "nebulous-key": launch.key,
        }
        assert [port.port for port in order.ports] == [80]
        assert order.disk_gib == 30
        assert order.lifetime_s == (2 + 1 + 24 + 2) * 3600
        assert "NEBU_TIMEOUT_S=7200\n" in order.user_data
        assert "NEBU_GRACE_S=45\n" in order.user_data
        assert platform.order(self.launch("true")).lifetime_s is None
        assert platform.order(self.launch("true", disk=12.5)).disk_gib == 13
        assert platform.order(self.launch("true", accelerators=["1:A100"])).disk_gib == 100

    async def test_what_cannot_run_is_refused_before_it_costs_anything(self, platform: MachinePlatform, world: World):
        (offer, _) = await platform.offers(Ask())
        with pytest.raises(Rejected, match="platform ec2 needs an image"):
            await platform.create(self.launch("true", image=None), offer, Command(env={}))
        with pytest.raises(Rejected, match="one machine at a time"):
            await platform.create(self.launch("true"), offer, Command(env={}), count=2)
        assert world.sent == []

    async def test_offers_say_what_can_be_done_with_them(self, platform: MachinePlatform):
        features = platform.features
        assert Feature.SPOT in features
        assert Feature.PULL_FIRST not in features
        assert {offer.features for offer in await platform.offers(Ask())} == {features}


class TestLines(Stubborn):
    async def test_a_line_that_breaks_is_no_end_of_the_command(self, platform: MachinePlatform, world: World):
        launch = self.says_and_stays("before")
        started = await self.run(platform, launch)
        follower = platform.logs(started, follow=True)
        assert b"before" in await anext(follower)
        self.break_line(world.guest(launch.key))
        with pytest.raises(Unavailable):
            async for _ in follower:
                pass
        again = await self.found(platform, launch.key)
        assert (again.state, again.run) == (InstanceState.RUNNING, started.run)
        assert "before" in await text_of(platform, await platform.stop(started, self.grace_s))

    async def test_an_exit_while_nobody_could_see_it_is_seen_afterwards(self, platform: MachinePlatform, world: World):
        launch = self.launch("until [ -e /gone ]; do sleep 0.05; done; exit 3")
        started = await self.run(platform, launch)
        seen = asyncio.create_task(self.pushed(platform, launch.key, InstanceState.EXITED))
        guest = world.guest(launch.key)
        guest.run("pkill -STOP -f '^sshd: nebulous'")
        line = platform._lines.of(launch.key)
        assert line
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await line.docker.look(line.key)
        guest.run(f"docker exec {launch.key} sh -c ': >/gone'")
        guest.run("pkill -KILL -f '^sshd: nebulous'")
        exited = await asyncio.wait_for(seen, self.patience_s)
        assert exited.exit
        assert (exited.exit.code, exited.run) == (3, started.run)

    async def test_an_unreachable_machine_keeps_its_state_with_a_message(
        self, platform: MachinePlatform, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(machine_line, "ANSWER_S", 0.3)
        monkeypatch.setattr(machines, "FIRST_ANSWERS_S", 0.3)
        launch = self.stays()
        started = await self.run(platform, launch)
        guest = world.guest(launch.key)
        guest.cut()
        away = await self.found(platform, launch.key)
        assert (away.state, away.run) == (InstanceState.RUNNING, started.run)
        assert "unreachable" in away.message
        (listed,) = await platform.owned()
        assert (listed.state, listed.run) == (InstanceState.RUNNING, started.run)
        guest.join()

        async def back() -> bool:
            return not (await self.found(platform, launch.key)).message

        await until(back, self.patience_s)

    async def test_a_machine_that_is_killed_is_gone(self, platform: MachinePlatform, world: World):
        launch = self.stays()
        started = await self.run(platform, launch)
        world.guest(launch.key).kill()
        assert await platform.find(launch.key) == []
        with pytest.raises((NotFound, Unavailable)):
            await platform.start(started, launch, self.command(launch))

        async def known() -> bool:
            try:
                await platform.stop(started, 0)
            except NotFound:
                return True
            except Unavailable:
                return False
            return False

        await until(known, self.patience_s)

    async def test_two_workers_on_one_machine_start_one_command_and_both_see_its_end(
        self, platform: MachinePlatform, reopen: Reopen, world: World
    ):
        launch = self.launch("echo once; until [ -e /gone ]; do sleep 0.05; done; exit 3")
        rented = await self.rent(platform, launch)
        other = reopen()
        seen = [asyncio.create_task(self.pushed(each, launch.key, InstanceState.EXITED)) for each in (platform, other)]

        runs = await asyncio.gather(*(self.insist(each, rented, launch) for each in (platform, other)))
        assert runs[0].run == runs[1].run
        world.guest(launch.key).run(f"docker exec {launch.key} sh -c ': >/gone'")
        for exited in await asyncio.wait_for(asyncio.gather(*seen), self.patience_s):
            assert exited.exit
            assert exited.exit.code == 3
        assert (await text_of(other, rented)).count("once") == 1
        await other.close()

    async def test_an_exit_is_pushed_at_once(self, platform: MachinePlatform):
        launch = self.launch("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done")
        started = await self.run(platform, launch)
        await self.said(platform, started, "up")
        seen = asyncio.create_task(self.pushed(platform, launch.key, InstanceState.EXITED))
        await asyncio.sleep(0)  # it listens
        await platform.stop(started, self.grace_s)
        assert (await asyncio.wait_for(seen, 5)).exit

    async def test_more_machines_than_lines_are_asked_in_turn(
        self, platform: MachinePlatform, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(machine_lines, "HELD_AT_MOST", 1)
        monkeypatch.setattr(machine_lines, "ASK_AGAIN_S", 0.2)
        launches = [self.launch("until [ -e /gone ]; do sleep 0.05; done; exit 3") for _ in range(3)]
        for launch in launches:
            await self.run(platform, launch)
        for launch in launches:
            world.guest(launch.key).run(f"docker exec {launch.key} sh -c ': >/gone'")

        async def all_ended() -> bool:
            return [each.exit and each.exit.code for each in await platform.owned()] == [3, 3, 3]

        await until(all_ended, self.patience_s)
        for launch in launches:
            assert world.guest(launch.key).read("/run/nebulous/contact")

    async def test_a_container_that_was_removed_by_hand_is_replaced(self, platform: MachinePlatform, world: World):
        launch = self.stays()
        await self.run(platform, launch)
        seen = asyncio.create_task(self.pushed(platform, launch.key, InstanceState.PREEMPTED))
        world.guest(launch.key).run(f"docker rm -f {launch.key}")
        assert "removed" in (await asyncio.wait_for(seen, self.patience_s)).message

    async def test_closing_leaves_nothing(self, reopen: Reopen, world: World, tmp_path: Path):
        before = asyncio.all_tasks()
        worker = reopen()
        launch = self.stays()
        await self.run(worker, launch)
        (line,) = worker._lines._lines.values()
        folder = line.tunnel.folder
        assert folder.exists()
        await worker.close()
        assert not folder.exists()
        assert asyncio.all_tasks() == before
        assert world.guest(launch.key).alive

    async def pushed(self, platform: MachinePlatform, key: str, state: InstanceState) -> Instance:
        async for instance in platform.watch():
            if (instance.key, instance.state) == (key, state):
                return instance
        raise AssertionError("the watch ended")

    @staticmethod
    def break_line(guest: Guest) -> None:
        guest.run("pkill -KILL -f '^sshd: nebulous'")


class TestHostKeys(Stubborn):
    @pytest.mark.parametrize("announces", [True, False])
    async def test_another_host_key_is_refused_and_nothing_is_sent_there(
        self, platform: MachinePlatform, world: World, announces: bool
    ):
        world.announces = announces
        launch = self.stays()
        started = await self.run(platform, launch)
        guest = world.guest(launch.key)
        key = "/etc/ssh/ssh_host_ed25519_key"
        again = f"rm -f {key}*; ssh-keygen -q -t ed25519 -N '' -f {key}; pkill -KILL sshd; /usr/sbin/sshd"
        assert guest.run(again).returncode == 0
        with pytest.raises(AuthFailed, match="another host key") as refused:
            await self.insist(platform, started, launch)
        assert "in between" in (refused.value.hint or "")
        seen = await self.found(platform, launch.key)
        assert (seen.state, seen.run) == (InstanceState.RUNNING, started.run)
        assert "another host key" in seen.message

    async def test_what_a_machine_announces_decides_at_the_first_contact(
        self, platform: MachinePlatform, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(machines, "TRY_S", 5.0)
        launch = self.stays()
        rented = await self.rent(platform, launch)
        guest = world.guest(launch.key)
        (guest.folder / "root/dev/console").write_text(
            "nebulous-host-key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther\n"
        )
        with pytest.raises(AuthFailed, match="another host key"):
            await platform.start(rented, launch, self.command(launch))

    async def test_what_a_machine_announces_late_decides_before_anything_is_asked_of_it(
        self, platform: MachinePlatform, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Its cloud shows the console a moment after SSH answers, and by then we have connected."""
        world.announces = False
        launch = self.stays()
        rented = await self.rent(platform, launch)
        guest = world.guest(launch.key)
        await until(lambda: _there(guest.folder / "root/run/nebulous/stage", "ready\n"), self.patience_s)
        (guest.folder / "root/dev/console").write_text(
            "nebulous-host-key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther\n"
        )
        asked: list[list[str]] = []
        announced = platform._cloud.announced

        async def late(machine: Instance) -> list[str]:
            world.announces = bool(asked)
            asked.append(await announced(machine))
            return asked[-1]

        monkeypatch.setattr(platform._cloud, "announced", late)
        with pytest.raises(AuthFailed, match="has announced"):
            await self.insist(platform, rented, launch)
        assert asked[0] == []
        assert asked[1] != []
        assert (tmp_path / "data" / "ssh" / "known_hosts").read_text() == ""

    async def test_an_address_that_another_machine_had_is_no_reason_to_refuse(
        self, platform: MachinePlatform, world: World, tmp_path: Path
    ):
        world.announces = False
        first, second = self.stays(), self.exits(3)
        rented = await self.run(platform, first)
        await self.gone(platform, first.key)
        world.next_address = rented.ip
        again = await self.run(platform, second)
        assert again.ip == rented.ip
        assert (await self.over(platform, second.key)).exit
        pins = tmp_path / "data" / "ssh" / "known_hosts"
        names = [line.split()[0] for line in pins.read_text().splitlines()]
        assert names == [f"ec2-memory.project-1.{each.id}" for each in (rented, again)]
        assert pins.stat().st_mode & 0o777 == 0o600

    async def test_files_of_whoever_runs_the_worker_have_no_say(self, platform: MachinePlatform, tmp_path: Path):
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text("Host *\n  ProxyCommand false\n  User nobody\n")
        (tmp_path / ".ssh" / "known_hosts").write_text("@revoked * ssh-ed25519 AAAA\n@nonsense\n")
        assert (await self.run(platform, self.stays())).state == InstanceState.RUNNING


class TestNotices(OnMachines):
    async def test_a_command_that_ends_by_a_notice_was_preempted(self, platform: MachinePlatform, world: World):
        launch = self.says_and_stays("working")
        started = await self.run(platform, launch)
        await self.said(platform, started, "working")
        watch = platform.watch()
        told = asyncio.create_task(self.next_over(watch, launch.key))
        await asyncio.sleep(0)  # it listens
        world.guest(launch.key).notice()
        seen = await asyncio.wait_for(told, self.patience_s)
        assert (seen.state, seen.run) == (InstanceState.PREEMPTED, started.run)
        assert "takes the machine back" in seen.message
        assert "terminate" in seen.message
        assert (await self.found(platform, launch.key)).state == InstanceState.PREEMPTED
        assert [each.state for each in await platform.owned()] == [InstanceState.PREEMPTED]

    async def test_a_command_that_had_ended_before_the_notice_has_ended(
        self, platform: MachinePlatform, reopen: Reopen, world: World
    ):
        launch = self.exits(3)
        await self.run(platform, launch)
        await self.over(platform, launch.key)
        guest = world.guest(launch.key)
        guest.notice()

        async def noticed() -> str:
            return guest.read("/run/nebulous/notice")

        await until(noticed, self.patience_s)
        other = reopen()  # which has not seen it end
        seen = await self.found(other, launch.key)
        assert (seen.state, seen.exit and seen.exit.code) == (InstanceState.EXITED, 3)
        await other.close()

    @pytest.mark.parametrize("stays", [True, False])
    async def test_a_kill_by_nobody_we_know_is_an_end_only_if_the_machine_stays(
        self, platform: MachinePlatform, world: World, monkeypatch: pytest.MonkeyPatch, stays: bool
    ):
        """A system that goes down ends the command and the guard at once, so that no notice tells of it."""
        monkeypatch.setattr(machine_line, "DOUBT_S", 0.5)
        launch = self.says_and_stays("working")
        started = await self.run(platform, launch)
        await self.said(platform, started, "working")
        watch = platform.watch()
        told = asyncio.create_task(self.next_over(watch, launch.key))
        await asyncio.sleep(0)  # it listens
        if not stays:
            world.of(launch.key).state = InstanceState.DELETING
        killed = world.guest(launch.key).run(f"docker kill --signal KILL {launch.key}")
        assert killed.returncode == 0, killed.stderr
        seen = await asyncio.wait_for(told, self.patience_s)
        assert seen.run == started.run
        if stays:
            assert (seen.state, seen.exit and seen.exit.code) == (InstanceState.EXITED, 137)
        else:
            assert (seen.state, seen.exit) == (InstanceState.PREEMPTED, None)
            assert "shut down while the command ran" in seen.message

    async def test_the_doctor_is_told_of_permissions_and_quotas(self, platform: MachinePlatform, world: World):
        assert [check.text for check in await platform.diagnose()] == [
            "all that renting takes",
            "machines find what they boot from",
        ]
        world.imageless = "no image is here"
        world.denied = ["ec2:RunInstances"]
        world.quotas = {"here P": 0.0, "there P": 0.0, "here G": 8.0}
        permissions, quotas, images = await platform.diagnose()
        assert (images.ok, images.text) == (False, "no image is here")
        assert (permissions.ok, permissions.text) == (False, "missing: ec2:RunInstances")
        assert (quotas.ok, quotas.text) == (True, "nothing may be rented of P in here, there")

    @staticmethod
    async def next_over(watch: AsyncIterator[Instance], key: str) -> Instance:
        async for instance in watch:
            if instance.key == key and instance.state in (InstanceState.EXITED, InstanceState.PREEMPTED):
                return instance
        raise AssertionError("the watch ended")


class TestWaiting(Stubborn):
    """What `start` says while it waits, and when it gives up for this time."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machines, "TRY_S", 0.5)
        monkeypatch.setattr(machines, "LOOK_EVERY_S", 0.05)

    async def test_a_machine_that_boots_is_waited_for(self, platform: MachinePlatform, world: World):
        launch = self.stays()
        rented = await self.rent(platform, launch)
        world.of(launch.key).state = InstanceState.BOOTING
        with pytest.raises(NotReady, match="booting"):
            await platform.start(rented, launch, self.command(launch), self.progress.append)
        assert "booting" in self.progress
        assert (await self.found(platform, launch.key)).state == InstanceState.BOOTING
        world.of(launch.key).state = InstanceState.READY
        await self.start(platform, rented, launch)

    @pytest.mark.parametrize("state", [InstanceState.PREEMPTED, InstanceState.DELETING])
    async def test_a_machine_that_goes_is_not_waited_for(
        self, platform: MachinePlatform, world: World, state: InstanceState
    ):
        launch = self.stays()
        rented = await self.rent(platform, launch)
        world.of(launch.key).state = state
        with pytest.raises(NotFound, match=state.value):
            await platform.start(rented, launch, self.command(launch))
        assert (await self.found(platform, launch.key)).state == state

    async def test_what_the_boot_script_does_is_said(self, platform: MachinePlatform, world: World):
        launch = self.stays()
        rented = await self.rent(platform, launch)
        guest = world.guest(launch.key)
        stage = guest.folder / "root/run/nebulous/stage"
        await until(lambda: _there(stage, "ready\n"), self.patience_s)
        stage.write_text("waiting for the NVIDIA driver\n")
        with pytest.raises(NotReady, match="waiting for the NVIDIA driver"):
            await platform.start(rented, launch, self.command(launch), self.progress.append)
        assert "waiting for the NVIDIA driver" in self.progress
        stage.write_text("failed: no Docker\n")
        with pytest.raises(Unavailable, match="no Docker"):
            await platform.start(rented, launch, self.command(launch))
        stage.write_text("ready\n")
        await self.insist(platform, rented, launch)

    async def test_ssh_that_is_blocked_is_said_and_this_worker_is_let_in_again(
        self, platform: MachinePlatform, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(machine_line, "ADMIT_EVERY_S", 0.1)
        monkeypatch.setattr(machine_line, "BLOCKED_AFTER_S", 60.0)
        launch = self.stays()
        rented = await self.rent(platform, launch)
        guest = world.guest(launch.key)
        await until(lambda: _there(guest.folder / "root/run/nebulous/stage", "ready\n"), self.patience_s)
        guest.run("pkill -KILL sshd")
        with pytest.raises(NotReady, match=f"waiting for SSH at {guest.address}"):
            await platform.start(rented, launch, self.command(launch), self.progress.append)
        assert f"waiting for SSH at {guest.address}" in self.progress
        assert set(world.admitted) == {rented.id}
        monkeypatch.setattr(machine_line, "BLOCKED_AFTER_S", 0.1)
        with pytest.raises(Unavailable, match="has not answered for") as blocked:
            await platform.start(rented, launch, self.command(launch))
        assert f"port 22 of {guest.address}" in (blocked.value.hint or "")
        assert "ssh_from" in (blocked.value.hint or "")
        guest.run("/usr/sbin/sshd")
        await self.insist(platform, rented, launch)


class TestImages(Stubborn):
    @pytest.fixture
    def registry(self, engine: Dockerd) -> Iterator[Any]:
        from tests.doubles.registry import Registry

        with Registry(engine.init_pid, machine=_architecture()) as running:
            yield running

    @pytest.fixture
    def pulled(self, docker_host: str) -> Iterator[Callable[[str], str]]:
        names: list[str] = []
        yield lambda name: names.append(name) or name
        with client(docker_host) as api:
            for name in names:
                api.delete(f"/images/{name}", params={"force": 1})

    async def test_a_pull_goes_on_between_two_tries_and_its_digest_is_told(
        self, platform: MachinePlatform, registry: Any, pulled: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(machines, "TRY_S", 3.0)
        image = pulled(registry.add("tools/random", _some_megabytes()))
        launch = self.launch(["/no-such-program"], image=image)
        rented = await self.rent(platform, launch)
        registry.hold()
        tries = [self.halted(platform, rented, launch) for _ in range(2)]
        words = [str(await each) for each in tries]
        assert all(each.startswith(f"pulling {image}") for each in words)
        assert any("%" in each for each in self.progress)
        blobs = [path for path in registry.requests if "/blobs/" in path]
        registry.go_on()
        with pytest.raises(Rejected, match="no-such-program"):
            await self.start(platform, rented, launch)
        assert [path for path in registry.requests if "/blobs/" in path][: len(blobs)] == blobs

    async def test_a_line_that_breaks_in_the_middle_of_a_pull_is_taken_up(
        self, platform: MachinePlatform, registry: Any, pulled: Callable[[str], str], world: World
    ):
        image = pulled(registry.add("tools/random", _some_megabytes()))
        launch = self.launch(["/no-such-program"], image=image)
        rented = await self.rent(platform, launch)
        registry.hold()
        starting = asyncio.create_task(self.insist(platform, rented, launch))
        await until(lambda: _any(self.progress, "%"), self.patience_s)
        TestLines.break_line(world.guest(launch.key))
        registry.go_on()
        with pytest.raises(Rejected, match="no-such-program"):
            await asyncio.wait_for(starting, self.patience_s)

    async def test_the_digest_of_the_image_is_told_and_recoveries_have_the_same(
        self, platform: MachinePlatform, docker_host: str
    ):
        with client(docker_host) as api:
            digest = api.get(f"/images/{self.image}/json").json()["Id"]
        launch = self.stays()
        assert (await self.run(platform, launch)).image_digest == digest
        await self.gone(platform, launch.key)
        with client(docker_host) as api:  # the name means another image by now
            repo, _, tag = self.image.partition(":")
            api.post(f"/images/{self.image}/tag", params={"repo": repo, "tag": "kept"}).raise_for_status()
            other = archive_of({}, {"/other": uuid.uuid4().hex})
            wanted = {"fromSrc": "-", "repo": repo, "tag": tag}
            api.post("/images/create", params=wanted, content=other).raise_for_status()
            try:
                again = self.launch("exec sleep 300").model_copy(update={"image_digest": digest})
                assert (await self.run(platform, again)).image_digest == digest
                await self.gone(platform, again.key)
            finally:
                api.post(f"/images/{repo}:kept/tag", params={"repo": repo, "tag": tag}).raise_for_status()
                api.delete(f"/images/{repo}:kept")

    async def test_a_private_image_needs_a_login(
        self, platform: MachinePlatform, engine: Dockerd, pulled: Callable[[str], str]
    ):
        from tests.doubles.registry import Registry

        with Registry(engine.init_pid, login=("ada", "s3cret"), machine=_architecture()) as registry:
            image = pulled(registry.add("private/hello", archive_of({}, {"/hello": uuid.uuid4().hex})))
            launch = self.launch(["/no-such-program"], image=image)
            rented = await self.rent(platform, launch)
            with pytest.raises(ImageNotFound, match="not ours to read") as refused:
                await self.start(platform, rented, launch)
            assert "registry:" in (refused.value.hint or "")
            login = Command(env={}, registry_username="ada", registry_password="s3cret")
            with pytest.raises(Rejected, match="no-such-program"):
                await platform.start(rented, launch, login)

    async def test_an_image_that_does_not_fit_on_the_disk_says_what_to_set(
        self, platform: MachinePlatform, registry: Any, world: World
    ):
        image = registry.add("tools/large", archive_of({}, {"/large": uuid.uuid4().hex}))
        launch = self.launch("true", image=image)
        rented = await self.rent(platform, launch)
        assert world.guests
        world.guests.answer("POST /v1.41/images/create", {"error": "write /var/lib/docker/x: no space left on device"})
        with pytest.raises(Rejected, match="does not fit") as refused:
            await self.start(platform, rented, launch)
        assert refused.value.hint == "set disk: to more GiB"

    async def halted(self, platform: MachinePlatform, rented: Instance, launch: Launch) -> NotReady:
        with pytest.raises(NotReady) as told:
            await platform.start(rented, launch, self.command(launch), self.progress.append)
        return told.value


class TestManyMachines(OnMachines):
    async def test_a_thousand_that_do_not_answer_hold_up_no_listing(
        self, reopen: Reopen, world: World, monkeypatch: pytest.MonkeyPatch
    ):
        """They run, says the cloud, and whoever calls them is neither let in nor turned away."""
        monkeypatch.setattr(machines, "FIRST_ANSWERS_S", 1.0)
        monkeypatch.setattr(tunnel, "CONNECT_S", 60.0)
        worker = reopen()
        assert world.guests
        silent = await asyncio.to_thread(world.guests.boot, "silent", "#!/bin/sh\n")
        silent.freeze()
        (offer, _) = await worker.offers(Ask())
        for number in range(1000):
            order = worker.order(self.stays())
            world.rented.append(Rented(f"m-silent-{number}", order, offer, address=silent.address))
        took: list[float] = []
        for _ in range(2):
            begun = time.monotonic()
            listed = await worker.owned()
            took.append(time.monotonic() - begun)
            assert len(listed) == 1000
            assert {each.state for each in listed} == {InstanceState.BOOTING}
        assert max(took) < 1.0 + 5.0, took  # the patience, and what a busy machine needs for a thousand keys
        begun = time.monotonic()
        await worker.delete(listed[0].key)
        assert await worker.find(listed[0].key) == []
        assert time.monotonic() - begun < 2
        begun = time.monotonic()
        await worker.close()
        assert time.monotonic() - begun < 10


async def _there(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


async def _any(words: list[str], part: str) -> bool:
    return any(part in each for each in words)
