"""The platform `docker` on a machine of one's own: a real Engine, reached through a real OpenSSH server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from activities.platforms.base import Ask
from activities.platforms.docker import DockerPlatform
from activities.runtimes import tunnel
from activities.runtimes.tunnel import Tunnel
from nebulous.errors import AuthFailed, Rejected, Unavailable
from nebulous.machines import Way
from nebulous.models.platforms import InstanceState
from tests.activities.platforms.contract import INSTALL, PlatformContract, text_of
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.docker_builders import OnDocker
from tests.docker_engine import without
from tests.sshd import Sshd, sshd, why_not

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if reason := why_not():
        without(reason)
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No pause between two tries, and no file of whoever runs the tests."""
    monkeypatch.setattr(tunnel, "PAUSE_S", 0.0)
    monkeypatch.setenv("HOME", str(tmp_path))


class OverSsh(OnDocker):
    @pytest.fixture
    def way(self, server: Sshd, docker_host: str) -> Way:
        return Way("127.0.0.1", "root", server.port, server.identity, docker_host.removeprefix("unix://"))

    @pytest.fixture
    def reopen(self, way: Way, tmp_path: Path) -> Callable[[], DockerPlatform]:
        pins = tmp_path / "ssh" / "known_hosts"
        return lambda: DockerPlatform("gpu-box", INSTALL, data_dir=tmp_path, tunnel=Tunnel(way, pins))

    @pytest.fixture
    async def platform(self, reopen: Callable[[], DockerPlatform]) -> AsyncIterator[DockerPlatform]:
        opened = reopen()
        yield opened
        await opened.close()


class TestAttachedContract(OverSsh, RealExecContract, PlatformContract):
    """Every promise of `base.py`, through the line."""


class TestLine(OverSsh):
    async def test_a_machine_that_goes_away_is_unreachable_and_its_command_runs_on(
        self, platform: DockerPlatform, server: Sshd
    ):
        launch = self.stays()
        started = await self.run(platform, launch)
        server.stop()
        for call in (platform.identity(), platform.find(launch.key), platform.owned()):
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                await call
        server.start()
        again = await self.found(platform, launch.key)
        assert (again.state, again.run) == (InstanceState.RUNNING, started.run)

    async def test_a_followed_log_breaks_with_the_line_and_can_be_taken_up(
        self, platform: DockerPlatform, server: Sshd
    ):
        launch = self.says_and_stays("before")
        started = await self.run(platform, launch)
        follower = platform.logs(started, follow=True)
        assert b"before" in await anext(follower)
        server.stop()
        with pytest.raises(Unavailable):
            async for _ in follower:
                pass
        server.start()
        assert "before" in await text_of(platform, await platform.stop(started, self.grace_s))

    async def test_a_machine_that_shows_another_host_key_is_not_spoken_to(
        self, reopen: Callable[[], DockerPlatform], server: Sshd, tmp_path: Path
    ):
        first = reopen()
        await first.identity()
        await first.close()
        pins = tmp_path / "ssh" / "known_hosts"
        assert f"[127.0.0.1]:{server.port} ssh-ed25519 " in pins.read_text()
        assert pins.stat().st_mode & 0o777 == 0o600
        server.stop()
        server.new_host_key()
        server.start()
        second = reopen()
        with pytest.raises(AuthFailed, match="host key") as refused:
            await second.identity()
        assert f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f {pins}" in (refused.value.hint or "")
        await second.close()

    async def test_the_users_own_known_hosts_decides_first(
        self, reopen: Callable[[], DockerPlatform], server: Sshd, tmp_path: Path
    ):
        (tmp_path / ".ssh").mkdir()
        other = (server.folder / "client.pub").read_text().split()[1]  # some key, not the machine's
        (tmp_path / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} ssh-ed25519 {other}\n")
        platform = reopen()
        with pytest.raises(AuthFailed, match="host key") as refused:
            await platform.identity()
        assert ".ssh/known_hosts" in (refused.value.hint or "")
        await platform.close()

    async def test_a_machine_that_an_authority_vouches_for_is_not_believed_without_it(
        self, reopen: Callable[[], DockerPlatform], server: Sshd, tmp_path: Path
    ):
        (tmp_path / ".ssh").mkdir()
        authority = " ".join((server.folder / "client.pub").read_text().split()[:2])
        (tmp_path / ".ssh" / "known_hosts").write_text(f"@cert-authority [127.0.0.1]:{server.port} {authority}\n")
        platform = reopen()
        with pytest.raises((AuthFailed, Unavailable)):  # without a certificate to show, sshd itself hangs up
            await platform.identity()
        await platform.close()
        assert (tmp_path / "ssh" / "known_hosts").read_text() == ""

    async def test_a_file_of_known_hosts_that_cannot_be_read_is_said(
        self, reopen: Callable[[], DockerPlatform], tmp_path: Path
    ):
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "known_hosts").write_text("@nonsense here\n")
        platform = reopen()
        with pytest.raises(Unavailable, match="cannot be read") as told:
            await platform.identity()
        assert "known_hosts" in (told.value.hint or "")
        await platform.close()

    async def test_a_line_that_breaks_says_nothing_of_gpus(
        self, way: Way, server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        line = Tunnel(way, tmp_path / "pins")
        assert await line.driver("-L") == ""  # there is no such program
        await line.ready()
        monkeypatch.setattr(line, "ready", nothing)  # it breaks after it was looked at
        server.stop()
        with pytest.raises(Unavailable, match="could not be asked for its nvidia-smi"):
            await line.driver("-L")
        server.start()
        await line.close()

    async def test_a_closed_line_is_not_dialled_again(self, way: Way, tmp_path: Path):
        line = Tunnel(way, tmp_path / "pins")
        await line.close()
        with pytest.raises(Unavailable, match="this worker ends"):
            await line.ready()

    @pytest.mark.parametrize(
        ("change", "error", "words", "hint"),
        [
            ({"identity_file": "other"}, AuthFailed, "does not let us in", "ssh-copy-id"),
            ({"identity_file": "none"}, Unavailable, "cannot be read", "key file"),
            ({"port": 9}, Unavailable, "cannot be reached", "ssh -p 9 root@127.0.0.1"),
            ({"engine": "/nowhere.sock"}, Unavailable, "no Docker at /nowhere.sock", "docker info"),
        ],
    )
    async def test_what_is_wrong_with_the_way_is_said(
        self, way: Way, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str, hint: str
    ):
        if change.get("identity_file") == "other":
            import asyncssh

            asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "other"))
        change = {name: tmp_path / str(value) if name == "identity_file" else value for name, value in change.items()}
        wrong = Way(**{**vars(way), **change})  # type: ignore[arg-type]
        line = Tunnel(wrong, tmp_path / "pins")
        with pytest.raises(error, match=words) as told:
            await line.ready()
        assert hint in str(getattr(told.value, "hint", ""))
        await line.close()

    async def test_its_gpus_are_its_own(self, platform: DockerPlatform, server: Sshd):
        with pytest.raises(Rejected, match="no GPU"):
            await platform.offers(Ask(accelerators=["1:A100"]))

    async def test_nobody_else_can_use_the_line(self, way: Way, tmp_path: Path):
        line = Tunnel(way, tmp_path / "pins")
        await line.ready()
        folder = Path(line.address.removeprefix("unix://")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        await line.close()
        assert not folder.exists()


async def nothing() -> None:
    """Instead of a look."""


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("box", Way("box")),
        ("me@box", Way("box", "me")),
        ("ssh://me@box:2222", Way("box", "me", 2222)),
    ],
)
def test_a_way_is_read(text: str, way: Way):
    assert Way.parse(text) == way
    assert str(way) == text.removeprefix("ssh://")


@pytest.mark.parametrize("text", ["", "@box", "me@", "box:0", "box:x", "a box", "-oProxyCommand=x", "box/x"])
def test_what_is_no_way_is_refused(text: str):
    with pytest.raises(ValueError, match="port"):
        Way.parse(text)
