from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.platforms import local_gpus
from activities.platforms.base import Ask, Command
from activities.platforms.local import LocalPlatform
from nebulous.errors import NotFound, Rejected, Unavailable
from nebulous.lines import LastLines
from nebulous.models.platforms import Feature, InstanceState
from tests.activities.platforms.contract import INSTALL, PlatformContract, Reopen, text_of
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.local_builders import WORDS, folder_of, run, said


class Local(PlatformContract):
    """The words of the contract's tests, for tests of our own."""

    patience_s = 20.0

    @pytest.fixture
    async def platform(self, tmp_path: Path) -> AsyncIterator[LocalPlatform]:
        platform = LocalPlatform("host", tmp_path, INSTALL)
        yield platform
        for instance in await platform.owned():
            await self.gone(platform, instance.key)
        await platform.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: LocalPlatform("host", tmp_path, INSTALL)


class TestLocalContract(RealExecContract, Local):
    pass


# --- what the command gets ----------------------------------------------------------------------------


async def test_the_command_runs_in_its_own_folder_and_leaves_its_files_there(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "pwd; echo data > result")
    await WORDS.over(local, launch.key)
    work = folder_of(tmp_path, launch) / "work"
    assert await text_of(local, started) == f"{work}\n"
    assert (work / "result").read_text() == "data\n"


async def test_the_command_inherits_nothing_of_the_servers_secrets(
    local: LocalPlatform, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEBU_SECRET_KEY", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    launch, started = await run(local, "env", env_vars=[{"key": "MINE", "value": "yes"}])
    await WORDS.over(local, launch.key)
    names = {line.partition("=")[0] for line in (await text_of(local, started)).splitlines()}
    assert {"PATH", "MINE", "NEBU_ID", "NEBU_NAME"} <= names
    assert not {"NEBU_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"} & names
    assert "hunter2" not in await text_of(local, started)


async def test_no_secret_of_the_command_is_written_to_disk(local: LocalPlatform, tmp_path: Path):
    launch, _ = await run(local, "exec sleep 300", env_vars=[{"key": "TOKEN", "value": "hunter2"}])
    files = [path for path in folder_of(tmp_path, launch).rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


async def test_folders_and_files_are_for_our_user_alone(local: LocalPlatform, tmp_path: Path):
    launch, _ = await run(local, "exec sleep 300")
    folder = folder_of(tmp_path, launch)
    for path in (tmp_path / "local", folder, folder / "work", folder / "log", folder / "runs" / "1" / "started"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_stdout_and_stderr_come_in_the_order_they_were_written(local: LocalPlatform):
    launch, started = await run(local, "echo 1; echo 2 >&2; echo 3")
    await WORDS.over(local, launch.key)
    assert await text_of(local, started) == "1\n2\n3\n"


async def test_standard_input_is_empty(local: LocalPlatform):
    launch, _ = await run(local, "cat; exit 4")
    assert (await WORDS.over(local, launch.key)).exit.code == 4  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("name", ["PIPE", "INT", "HUP", "TERM"])
async def test_no_signal_is_ignored_that_a_shell_would_not_ignore(local: LocalPlatform, name: str):
    launch, _ = await run(local, f"kill -{name} $$; exit 0")
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 128 + signal.Signals[f"SIG{name}"]


async def test_a_command_killed_by_a_signal_exits_with_128_and_its_number(local: LocalPlatform):
    launch, _ = await run(local, "kill -SEGV $$")
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 128 + signal.SIGSEGV


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "'no-such-program': No such file or directory"),
        (["/etc/passwd"], "'/etc/passwd': Permission denied"),
        (["echo", "a\0b"], "null byte"),
    ],
)
async def test_what_cannot_be_executed_is_rejected_with_the_reason(
    local: LocalPlatform, command: list[str], words: str
):
    launch = WORDS.launch(command, env_vars=[{"key": "PATH", "value": "/usr/bin:/bin"}])
    rented = await WORDS.rent(local, launch)
    with pytest.raises(Rejected) as refused:
        await local.start(rented, launch, WORDS.command(launch))
    assert words in refused.value.message
    (seen,) = await local.find(launch.key)
    assert seen.exit
    assert (seen.state, seen.exit.code) == (InstanceState.EXITED, 127)


async def test_an_image_without_a_command_is_rejected(local: LocalPlatform):
    launch = WORDS.launch(None, image="busybox")
    with pytest.raises(Rejected) as refused:
        await WORDS.rent(local, launch)
    assert refused.value.hint == "give command"
    assert await local.owned() == []


@pytest.mark.parametrize("key", ["../escape", ".hidden", "a/b", ""])
async def test_a_key_never_leads_out_of_the_folder(local: LocalPlatform, tmp_path: Path, key: str):
    (tmp_path / "escape").mkdir()
    launch = WORDS.launch("true", key=key or None)
    launch.key = key
    with pytest.raises(Rejected):
        await local.create(launch, await WORDS.offer(local), Command(env={}))
    assert await local.find(key) == []
    await local.delete(key)
    assert (tmp_path / "escape").exists()


# --- the offer ----------------------------------------------------------------------------------------


async def test_the_offer_is_this_machine_for_nothing(local: LocalPlatform):
    (offer,) = await local.offers(Ask())
    assert (offer.usd_per_hour, offer.price_source, offer.simulated) == (0.0, "own machine", False)
    assert offer.features == {Feature.LOGS, Feature.NO_IMAGE, Feature.EXEC, Feature.FILES, Feature.STATS}


@pytest.mark.parametrize("ask", [Ask(spot=True), Ask(regions=["us-east-1"])])
async def test_what_one_machine_does_not_have_is_rejected(local: LocalPlatform, ask: Ask):
    with pytest.raises(Rejected) as refused:
        await local.offers(ask)
    assert "leave out" in str(refused.value.hint)


NVIDIA_SMI = """#!/bin/sh


echo 'GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5a1c)'


echo 'GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-5a1d)'


echo 'GPU 2: NVIDIA Quantum 9000 (UUID: GPU-5a1e)'
"""


async def test_accelerators_are_what_nvidia_smi_lists(
    local: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert await local_gpus.installed() == {"A100-80GB-SXM": 2}
    (offer,) = await local.offers(Ask(accelerators=["8:H100", "2:A100"]))
    assert (offer.accelerator, offer.accelerator_count, offer.rank) == ("A100-80GB-SXM", 2, 1)
    with pytest.raises(Rejected) as refused:
        await local.offers(Ask(accelerators=["4:A100"]))
    assert refused.value.hint == "it has 2:A100-80GB-SXM"


async def test_a_driver_that_hangs_offers_no_accelerators(
    local: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("activities.runtimes.driver.ANSWER_S", 0.2)
    assert await local_gpus.installed() == {}


# --- disks --------------------------------------------------------------------------------------------


async def test_a_data_directory_that_is_a_file_is_unavailable_and_says_where(tmp_path: Path):
    (tmp_path / "local").write_text("")
    local = LocalPlatform("host", tmp_path, INSTALL)
    launch = WORDS.launch("true")
    for call in (local.identity(), local.owned(), WORDS.rent(local, launch)):
        with pytest.raises(Unavailable) as broken:
            await call
        assert str(tmp_path / "local") in broken.value.message


async def test_a_full_disk_wedges_nothing(small_disk: Path):
    """The exit is known, a start waits instead of failing for good, and delete makes room again."""
    local = LocalPlatform("host", small_disk, INSTALL)
    waiting = WORDS.launch("echo late")
    rented = await WORDS.rent(local, waiting)
    launch, started = await run(local, "echo up; cat /dev/zero > filled 2>/dev/null; exit 4")
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 4
    assert "up\n" in await text_of(local, started)
    with pytest.raises(Unavailable):
        await local.start(rented, waiting, WORDS.command(waiting))
    with pytest.raises(Unavailable):
        await WORDS.rent(local, WORDS.launch("true"))
    await local.delete(launch.key)
    assert await local.find(launch.key) == []
    await WORDS.start(local, rented, waiting)
    assert (await WORDS.over(local, waiting.key)).exit.code == 0  # pyright: ignore[reportOptionalMemberAccess]
    await local.delete(waiting.key)
    assert await local.owned() == []


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk), stderr=asyncio.subprocess.DEVNULL
    )
    if await mount.wait():
        pytest.skip("only root can mount a small disk here")
    yield disk
    await (await asyncio.create_subprocess_exec("umount", "-l", str(disk))).wait()


HUGE = 200 * 1024**3

# --- logs ---------------------------------------------------------------------------------------------


async def test_a_follower_hears_of_a_line_within_300_ms(local: LocalPlatform, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    launch, started = await run(local, f"echo up; read line < {pipe}; echo $line")
    await said(local, started, "up")
    follower = local.logs(started, follow=True)
    assert await anext(follower) == b"up\n"
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(pipe.write_text, "now\n")
    begun = loop.time()
    async with asyncio.timeout(10):
        assert await anext(follower) == b"now\n"
    assert loop.time() - begun < 0.3
    assert [chunk async for chunk in follower] == []
    assert (await WORDS.over(local, launch.key)).exit.code == 0  # pyright: ignore[reportOptionalMemberAccess]


async def test_a_log_is_read_from_any_byte_without_what_is_before(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, f"until [ -e {tmp_path / 'go'} ]; do sleep 0.01; done; echo two; echo three")
    (log,) = tmp_path.rglob(f"local/{launch.key}/log")
    with log.open("ab") as file:
        file.truncate(HUGE)  # most of it is a hole, and reading that takes longer than the limit
        file.write(b"\none\n")
    async with asyncio.timeout(10):
        assert await local.last_lines(started, 1) == LastLines(HUGE + 1, 1)
        follower = local.logs_from(started, HUGE + 1, follow=True)
        assert await anext(follower) == b"one\n"
        (tmp_path / "go").touch()
        assert b"".join([chunk async for chunk in follower]) == b"two\nthree\n"
        assert await local.last_lines(started, 2) == LastLines(HUGE + 5, 2)
        assert [chunk async for chunk in local.logs_from(started, HUGE + 9)] == [b"three\n"]
        assert [chunk async for chunk in local.logs_from(started, HUGE + 99)] == []


async def test_a_follower_waits_for_the_first_start(local: LocalPlatform):
    launch = WORDS.launch("echo hello")
    rented = await WORDS.rent(local, launch)
    follower = asyncio.create_task(text_of(local, rented, follow=True))
    await WORDS.start(local, rented, launch)
    async with asyncio.timeout(10):
        assert await follower == "hello\n"


async def test_a_follower_ends_when_the_instance_is_deleted(local: LocalPlatform):
    launch, started = await run(local, "echo up; exec sleep 300")
    follower = asyncio.create_task(text_of(local, started, follow=True))
    await said(local, started, "up")
    await local.delete(launch.key)
    async with asyncio.timeout(10):
        assert await follower == "up\n"


@pytest.mark.parametrize(
    ("written", "lines", "wanted"),
    [
        (b"", 3, b""),
        (b"one", 1, b"one"),
        (b"one\ntwo", 1, b"two"),
        (b"one\ntwo\n", 1, b"two\n"),
        (b"\n\n\n", 2, b"\n\n"),
        (b"a\rb\x0bc\n" * 3, 2, b"a\rb\x0bc\n" * 2),
        (b"x" * 200_000 + b"\n" + b"y" * 200_000 + b"\n", 1, b"y" * 200_000 + b"\n"),
        (b"".join(b"%d\n" % n for n in range(100_000)), 3, b"99997\n99998\n99999\n"),
    ],
)
async def test_tail_counts_lines_from_the_end(
    local: LocalPlatform, tmp_path: Path, written: bytes, lines: int, wanted: bytes
):
    launch = WORDS.launch("true")
    rented = await WORDS.rent(local, launch)
    (folder_of(tmp_path, launch) / "log").write_bytes(written)
    assert b"".join([chunk async for chunk in local.logs(rented, tail=lines)]) == wanted


async def test_a_log_of_a_former_rental_is_not_that_of_the_next(local: LocalPlatform):
    launch, started = await run(local, "echo secret")
    await WORDS.over(local, launch.key)
    await local.delete(launch.key)
    await WORDS.rent(local, launch)
    with pytest.raises(NotFound):
        await text_of(local, started)
