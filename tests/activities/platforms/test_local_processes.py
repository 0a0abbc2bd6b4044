from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest

from activities.platforms.local import LocalPlatform
from nebulous import ids
from nebulous.errors import NotFound
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, InstanceState
from tests.activities.platforms.contract import INSTALL, text_of, until
from tests.activities.platforms.local_builders import WORDS, dead, folder_of, lives, record, rewrite, run, said

ROOT = Path(__file__).parents[3]


# --- nothing is left ----------------------------------------------------------------------------------


async def test_when_the_command_ends_everything_that_it_started_is_killed(local: LocalPlatform):
    """In its group, in a session of its own, and orphaned by its parent."""
    script = "sleep 301 & echo one $!; setsid sleep 302 & echo two $!; (setsid sleep 303 & echo three $!); echo end"
    launch, started = await run(local, script)
    words = (await said(local, started, "end")).split()
    pids = [int(word) for word in words if word.isdigit()]
    assert len(pids) == 3
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 0
    assert not [pid for pid in pids if lives(pid)], "the exit is known only once they are gone"


async def test_stop_reaches_grandchildren(local: LocalPlatform):
    _, started = await run(local, "sh -c 'sleep 301 & echo pid $!; wait'; echo never")
    pid = int((await said(local, started, "pid ")).split()[1])
    stopped = await local.stop(started, 5)
    assert stopped.exit
    assert stopped.exit.code == 143
    await dead(pid)
    assert "never" not in await text_of(local, started)


async def test_stop_lets_the_command_say_goodbye(local: LocalPlatform):
    _, started = await run(local, "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    await said(local, started, "up")
    stopped = await local.stop(started, 10)
    assert stopped.exit
    assert stopped.exit.code == 5
    assert (await text_of(local, started)).endswith("bye\n")


async def test_a_paused_command_can_be_stopped(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "trap 'exit 6' TERM; echo up; kill -STOP $$; while :; do sleep 0.05; done")
    await said(local, started, "up")
    pid = record(tmp_path, launch, "started")["pid"]

    async def paused() -> bool:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED

    await until(paused)
    stopped = await local.stop(started, 10)
    assert stopped.exit
    assert stopped.exit.code == 6


async def test_stop_without_grace_kills_at_once(local: LocalPlatform):
    _, started = await run(local, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    await said(local, started, "up")
    stopped = await local.stop(started, 0)
    assert stopped.exit
    assert stopped.exit.code == 137


async def test_delete_kills_the_supervisor_and_all_and_removes_the_folder(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "trap '' TERM; setsid sleep 301 & echo pid $!; while :; do sleep 0.05; done")
    stray = int((await said(local, started, "pid ")).split()[1])
    pids = [record(tmp_path, launch, name)["pid"] for name in ("supervisor", "started")]
    await local.delete(launch.key)
    assert not [pid for pid in [*pids, stray] if lives(pid)]
    assert not folder_of(tmp_path, launch).exists()
    assert await local.find(launch.key) == []


async def test_delete_removes_what_the_command_locked_away_and_nothing_else(local: LocalPlatform, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o750)
    launch, _ = await run(local, f"mkdir -p a/b; touch a/b/c; ln -s {kept} a/link; chmod 0 a/b a")
    await WORDS.over(local, launch.key)
    await local.delete(launch.key)
    assert not folder_of(tmp_path, launch).exists()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o750


async def test_a_half_removed_folder_is_still_an_instance_until_delete_ends_it(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "exit 0")
    await WORDS.over(local, launch.key)
    (folder_of(tmp_path, launch) / "instance.json").unlink()
    (found,) = await local.find(launch.key)
    assert found.state == InstanceState.DELETING
    with pytest.raises(NotFound):
        await local.start(started, launch, WORDS.command(launch))
    await local.delete(launch.key)
    assert await local.find(launch.key) == []


async def test_nothing_starts_any_more_once_the_deletion_began(local: LocalPlatform, tmp_path: Path):
    launch = WORDS.launch("exec sleep 300")
    rented = await WORDS.rent(local, launch)
    folder = folder_of(tmp_path, launch)
    (folder / ".deleting").rename(folder / "deleting")
    (seen,) = await local.find(launch.key)
    assert seen.state == InstanceState.DELETING
    with pytest.raises(NotFound):
        await local.start(rented, launch, WORDS.command(launch))


async def test_starts_and_a_delete_at_the_same_time_leave_nothing_running(local: LocalPlatform, tmp_path: Path):
    marker = f"nebu-test-{ids.new_id()}"
    for _ in range(10):
        launch = WORDS.launch(["sh", "-c", f"exec sleep 300 # {marker}"])
        rented = await WORDS.rent(local, launch)
        starts = [local.start(rented, launch, WORDS.command(launch)) for _ in range(2)]
        await asyncio.gather(*starts, local.delete(launch.key), return_exceptions=True)
        await WORDS.gone(local, launch.key)
        runs = str(folder_of(tmp_path, launch))
        left = [each for each in psutil.process_iter() if cookie_of(each).startswith(runs)]
        assert left == []


def cookie_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("NEBU_RUN_DIR", "")
    return ""


# --- whoever dies -------------------------------------------------------------------------------------


WORKER = """
import asyncio, sys
from pathlib import Path
from activities.platforms.base import Ask, Command
from activities.platforms.local import LocalPlatform
from nebulous.models.containers import Launch

async def main():
    launch = Launch.model_validate_json(sys.argv[2])
    local = LocalPlatform("host", Path(sys.argv[1]), launch.install)
    (offer,) = await local.offers(Ask())
    (instance,) = await local.create(launch, offer, Command(env={}))
    await local.start(instance, launch, Command(env={}))
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def worker(tmp_path: Path, launch: Launch) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(tmp_path), launch.model_dump_json(),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"started\n"
    return process


async def test_the_command_survives_its_worker_and_another_one_reads_the_exit(local: LocalPlatform, tmp_path: Path):
    go = tmp_path / "go"
    launch = WORDS.launch(f"until [ -e {go} ]; do sleep 0.05; done; echo survived; exit 5")
    process = await worker(tmp_path, launch)
    os.killpg(process.pid, signal.SIGKILL)  # as a terminal or a service manager would: the whole session
    await process.wait()
    (seen,) = await local.find(launch.key)
    assert seen.state == InstanceState.RUNNING
    go.touch()
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 5
    assert await text_of(local, ended) == "survived\n"


async def test_a_command_whose_worker_died_can_be_stopped_by_another(local: LocalPlatform, tmp_path: Path):
    launch = WORDS.launch("exec sleep 300")
    process = await worker(tmp_path, launch)
    process.kill()
    await process.wait()
    (seen,) = await local.find(launch.key)
    stopped = await local.stop(seen, 5)
    assert stopped.exit
    assert stopped.exit.code == 143


async def without_supervisor(local: LocalPlatform, tmp_path: Path, command: str) -> tuple[Launch, Instance, str]:
    launch, started = await run(local, command)
    text = await said(local, started, "up")
    keeper = record(tmp_path, launch, "supervisor")["pid"]
    os.kill(keeper, signal.SIGKILL)
    await dead(keeper)
    (seen,) = await local.find(launch.key)
    assert seen.state == InstanceState.RUNNING
    assert "supervisor was killed" in seen.message
    return launch, seen, text


async def test_a_command_whose_supervisor_was_killed_ends_with_an_unknown_code(local: LocalPlatform, tmp_path: Path):
    go = tmp_path / "go"
    launch, _, _ = await without_supervisor(local, tmp_path, f"echo up; until [ -e {go} ]; do sleep 0.05; done; exit 5")
    go.touch()
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert (ended.state, ended.exit.code) == (InstanceState.EXITED, -1)
    assert "nobody saw the command end" in ended.message
    assert (await local.find(launch.key))[0].exit == ended.exit, "the time that was noticed first stays"


async def test_a_command_whose_supervisor_was_killed_is_stopped_with_all_that_escaped(
    local: LocalPlatform, tmp_path: Path
):
    script = "sleep 301 & echo pid $!; setsid sleep 302 & echo pid $!; echo up; wait"
    _, seen, text = await without_supervisor(local, tmp_path, script)
    pids = [int(word) for word in text.split() if word.isdigit()]
    assert len(pids) == 2
    stopped = await local.stop(seen, 5)
    assert stopped.state == InstanceState.EXITED
    await dead(*pids)


async def test_a_command_whose_supervisor_was_killed_is_deleted_even_if_it_ignores_sigterm(
    local: LocalPlatform, tmp_path: Path
):
    script = "trap '' TERM; setsid sleep 302 & echo pid $!; echo up; while :; do sleep 0.05; done"
    launch, _, text = await without_supervisor(local, tmp_path, script)
    pids = [int(word) for word in text.split() if word.isdigit()] + [record(tmp_path, launch, "started")["pid"]]
    await local.delete(launch.key)
    assert not [pid for pid in pids if lives(pid)]
    assert await local.find(launch.key) == []


async def test_an_instance_whose_supervisor_was_killed_can_run_again(local: LocalPlatform, tmp_path: Path):
    launch, _, _ = await without_supervisor(local, tmp_path, "echo up; exec sleep 300")
    (seen,) = await local.find(launch.key)
    stopped = await local.stop(seen, 5)
    again = await WORDS.start(local, stopped, launch)
    assert (again.run, again.state) == ("2", InstanceState.RUNNING)


async def test_a_sigterm_to_the_supervisor_is_passed_on_to_the_command(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done")
    await said(local, started, "up")
    os.kill(record(tmp_path, launch, "supervisor")["pid"], signal.SIGTERM)
    ended = await WORDS.over(local, launch.key)
    assert ended.exit
    assert ended.exit.code == 6


# --- numbers that are used again, and reboots ---------------------------------------------------------


async def test_a_process_that_got_the_same_number_later_is_neither_believed_nor_killed(
    local: LocalPlatform, tmp_path: Path
):
    launch, _, _ = await without_supervisor(local, tmp_path, "echo up; exec sleep 300")
    real = record(tmp_path, launch, "started")["pid"]
    bystander = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    try:
        rewrite(tmp_path, launch, "started", pid=bystander.pid)
        os.kill(real, signal.SIGKILL)
        await dead(real)
        ended = await WORDS.over(local, launch.key)
        assert ended.exit
        assert ended.exit.code == -1
        await local.stop(ended, 0)
        await local.delete(launch.key)
        assert bystander.returncode is None
        assert lives(bystander.pid)
    finally:
        bystander.kill()
        await bystander.wait()


async def test_a_dead_process_that_nobody_reaped_counts_as_dead(local: LocalPlatform, tmp_path: Path):
    launch, _, _ = await without_supervisor(local, tmp_path, "echo up; exec sleep 300")
    real = record(tmp_path, launch, "started")["pid"]
    os.kill(real, signal.SIGKILL)
    await dead(real)
    zombie = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221 - asyncio would reap it
    try:

        async def unreaped() -> bool:
            return psutil.Process(zombie).status() == psutil.STATUS_ZOMBIE

        await until(unreaped)
        mark = Path(f"/proc/{zombie}/stat").read_text().rpartition(")")[2].split()[19]
        rewrite(tmp_path, launch, "started", pid=zombie, mark=mark)
        (seen,) = await local.find(launch.key)
        assert seen.state == InstanceState.EXITED
    finally:
        os.waitpid(zombie, 0)  # noqa: ASYNC222 - it has ended


async def test_a_command_from_before_a_reboot_was_preempted_and_can_be_given_back(local: LocalPlatform, tmp_path: Path):
    launch, started = await run(local, "exec sleep 300")
    identity = await local.identity()
    pids = [record(tmp_path, launch, name)["pid"] for name in ("supervisor", "started")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await dead(*pids)
    rewrite(tmp_path, launch, "supervisor", boot="an-earlier-boot")
    (seen,) = await local.find(launch.key)
    assert (seen.state, seen.exit) == (InstanceState.PREEMPTED, None)
    assert "restarted" in seen.message
    with pytest.raises(NotFound):
        await local.start(started, launch, WORDS.command(launch))
    assert (await local.stop(seen, 5)).state == InstanceState.PREEMPTED
    assert await local.identity() == identity
    await local.delete(launch.key)
    assert await local.find(launch.key) == []


async def test_an_exit_from_before_a_reboot_stays_an_exit(local: LocalPlatform, tmp_path: Path):
    launch, _ = await run(local, "exit 3")
    await WORDS.over(local, launch.key)
    rewrite(tmp_path, launch, "supervisor", boot="an-earlier-boot")
    (seen,) = await local.find(launch.key)
    assert seen.exit
    assert (seen.state, seen.exit.code) == (InstanceState.EXITED, 3)


async def test_another_data_directory_is_another_account(local: LocalPlatform, tmp_path: Path):
    other = LocalPlatform("host", tmp_path / "other", INSTALL)
    assert await other.identity() != await local.identity()
