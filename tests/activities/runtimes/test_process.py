from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from activities.runtimes import process, supervisor
from activities.runtimes.process import Order, Phase
from nebulous.errors import Unavailable
from tests.activities.platforms.contract import until


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "runs").mkdir()
    run = tmp_path / "runs" / "1"
    yield run
    asyncio.run(process.kill(run))


def order(tmp_path: Path, script: str) -> Order:
    return Order(
        argv=["/bin/sh", "-c", script],
        env={"PATH": os.environ["PATH"]},
        cwd=str(tmp_path),
        log=str(tmp_path / "log"),
        veto=str(tmp_path / "veto"),
    )


async def launch(run: Path, script: str) -> None:
    await asyncio.to_thread(process.launch, run, order(run.parent.parent, script))


async def ended(run: Path) -> process.RunState:
    async def over() -> process.RunState | None:
        state = process.look(run)
        return state if state.phase is Phase.EXITED else None

    return await until(over)


def record(run: Path, name: str) -> dict[str, object]:
    return json.loads((run / name).read_text())


async def test_of_many_launches_of_one_run_one_starts_the_command(run: Path, tmp_path: Path):
    await asyncio.gather(*(launch(run, "echo begun; exec sleep 300") for _ in range(6)))

    async def begun() -> bool:
        return "begun" in (tmp_path / "log").read_text()

    await until(begun)
    await process.stop(run, 5)
    assert (tmp_path / "log").read_text() == "begun\n"
    assert [path.name for path in run.parent.iterdir()] == ["1"]


async def test_a_launch_after_the_end_starts_nothing(run: Path, tmp_path: Path):
    await launch(run, "echo once")
    first = await ended(run)
    await launch(run, "echo twice")
    assert process.look(run) == first
    assert (tmp_path / "log").read_text() == "once\n"


async def test_a_vetoed_run_does_not_begin_and_may_be_launched_later(run: Path, tmp_path: Path):
    (tmp_path / "veto").touch()
    with pytest.raises(Unavailable) as refused:
        await launch(run, "echo begun")
    assert "being deleted" in refused.value.message
    assert not run.exists()
    (tmp_path / "veto").unlink()
    await launch(run, "echo begun")
    assert (await ended(run)).code == 0
    assert (tmp_path / "log").read_text() == "begun\n"


@pytest.mark.parametrize("missing", ["cwd", "log"])
async def test_what_may_pass_is_unavailable_and_the_run_may_be_launched_later(run: Path, tmp_path: Path, missing: str):
    wrong = order(tmp_path, "exit 3")
    object.__setattr__(wrong, missing, str(tmp_path / "absent" / "x"))
    with pytest.raises(Unavailable) as refused:
        await asyncio.to_thread(process.launch, run, wrong)
    assert "absent" in refused.value.message
    assert not run.exists()
    await launch(run, "exit 3")
    assert (await ended(run)).code == 3


async def test_a_launch_without_its_folder_is_unavailable(tmp_path: Path):
    with pytest.raises(Unavailable):
        await launch(tmp_path / "nowhere" / "1", "true")
    assert not (tmp_path / "nowhere").exists()


async def test_an_exit_that_cannot_be_written_is_written_when_it_can(run: Path, tmp_path: Path):
    await launch(run, f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; exit 4")
    (run / ".exit").unlink()
    (run / ".exit").mkdir()
    (tmp_path / "go").touch()
    command = int(str(record(run, "started")["pid"]))

    async def dead() -> bool:
        return supervisor.start_mark(command) is None

    await until(dead)
    assert process.look(run).phase is Phase.RUNNING, "its end is not known yet"
    (run / ".exit").rmdir()
    assert (await ended(run)).code == 4


async def test_a_supervisor_that_cannot_write_does_not_stop_a_delete(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "SUPERVISOR_S", 0.2)
    await launch(run, "exec sleep 300")
    (run / ".exit").unlink()
    (run / ".exit").mkdir()
    keeper = int(str(record(run, "supervisor")["pid"]))
    await process.kill(run)
    assert supervisor.start_mark(keeper) is None
    assert process.look(run).code == process.UNKNOWN_CODE


async def test_a_supervisor_killed_before_the_command_began_leaves_no_command(run: Path, tmp_path: Path):
    """The command waits behind a gate until it is on record: stopped there, then killed, it must not begin."""
    await launch(run, "exec sleep 300")
    await process.kill(run)
    gate, opener = os.pipe()
    reader, reporter = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(opener)
        supervisor.become({"argv": ["touch", str(tmp_path / "begun")], "env": {}, "log": "", "cwd": ""}, gate, reporter)
    for descriptor in (gate, opener, reader, reporter):
        os.close(descriptor)
    _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
    assert os.waitstatus_to_exitcode(status) == supervisor.NOT_EXECUTED
    assert not (tmp_path / "begun").exists()


async def test_a_paused_command_wakes_up_to_see_that_it_shall_end(run: Path, tmp_path: Path):
    await launch(run, "trap 'exit 6' TERM; kill -STOP $$; while :; do sleep 0.02; done")
    command = psutil.Process(int(str(record(run, "started")["pid"])))

    async def paused() -> bool:
        return command.status() == psutil.STATUS_STOPPED

    await until(paused)
    await process.stop(run, 10)
    assert process.look(run).code == 6


async def test_the_supervisor_needs_nothing_but_the_standard_library():
    code = "import supervisor; print('ok')"
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-E", "-W", "error", "-c", code, cwd=process.SUPERVISOR.parent, stdout=subprocess.PIPE
    )
    assert (await asked.communicate())[0] == b"ok\n"


# --- telling processes apart --------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [supervisor.start_mark, supervisor.mark_by_ps])
def test_a_mark_is_the_same_for_one_process_and_none_for_a_dead_one(mark: object):
    assert callable(mark)
    sleeper = subprocess.Popen(["sleep", "300"])
    try:
        first = mark(sleeper.pid)
        assert first
        assert mark(sleeper.pid) == first
        sleeper.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert mark(sleeper.pid) is None, "a zombie is dead"
    finally:
        sleeper.kill()
        sleeper.wait()
    assert mark(sleeper.pid) is None


def test_a_mark_is_read_whatever_the_program_is_called(tmp_path: Path):
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    sleeper = subprocess.Popen([str(program), "300"])
    try:
        assert (supervisor.start_mark(sleeper.pid) or "").isdigit()
    finally:
        sleeper.kill()
        sleeper.wait()
