"""Children: kept running, stopped in order, recognised after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from activities.runtimes.supervisor import start_mark
from tests.nebula import eventually
from worker import children
from worker.children import Child, stop_stale
from worker.supervision import NotStarted, Supervision

STAY = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAY}"
TELL = "import signal, sys; signal.signal(15, lambda *_: (open({0!r}, 'a').write('{1} '), sys.exit()))"


class Scene:
    """A folder, what was said, and the children there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks = folder / "children.json"
        self.said: list[str] = []
        self.supervision = Supervision(self.marks, self.said.append)

    def child(self, name: str, code: str = STAY, **more: Any) -> Child:
        return Child(name, [sys.executable, "-S", "-c", code], self.folder / f"{name}.log", **more)

    def marked(self) -> dict[str, Any]:
        return json.loads(self.marks.read_text())

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        stop = asyncio.Event()
        watching = asyncio.create_task(self.supervision.watch(stop))
        yield
        stop.set()
        await watching


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    made = Scene(tmp_path)
    yield made
    await made.supervision.stop(1.0)


async def until(check: Callable[[], Any]) -> Any:
    async def checked() -> Any:
        return check()

    return await eventually(checked)


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


async def begun(*started: Child) -> None:
    for child in started:
        await until(lambda child=child: "here" in child.last_words())


async def test_a_child_that_dies_is_started_again_and_that_is_said(scene: Scene) -> None:
    child = scene.child("api")
    scene.supervision.start(child)
    first = pid_of(child)
    async with scene.watched():
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.alive and pid_of(child) != first)
        await until(lambda: scene.marked()["api"]["pid"] == pid_of(child))
    assert scene.said == [f"api was killed by SIGKILL; starting it again in 0.2 s (log: {child.log})"]


async def test_a_child_that_dies_again_and_again_is_started_more_and_more_slowly(scene: Scene) -> None:
    scene.supervision.start(scene.child("worker", "import sys; sys.exit(3)"))
    async with scene.watched():
        await until(lambda: len(scene.said) == 3)
    assert [line.partition(" (log")[0] for line in scene.said] == [
        f"worker ended with exit code 3; starting it again in {pause} s" for pause in ("0.2", "0.4", "0.8")
    ]


async def test_a_child_that_ends_before_it_is_ready_leaves_its_last_words_and_not_those_of_earlier_ones(
    scene: Scene,
) -> None:
    (scene.folder / "temporal.log").write_text("what an earlier one said\n")
    child = scene.child("temporal", "import sys; sys.exit('the disk is full')")
    scene.supervision.start(child)
    await until(lambda: not child.alive)
    with pytest.raises(NotStarted) as ended:
        scene.supervision.check()
    assert ended.value.message == "temporal ended with exit code 1: the disk is full"
    assert str(child.log) in str(ended.value.hint)


async def test_what_started_last_is_stopped_first_and_the_stubborn_are_killed_in_time(scene: Scene) -> None:
    order = str(scene.folder / "order")
    engine = scene.child("engine", f"{TELL.format(order, 'engine')}; {STAY}")
    api = scene.child("api", f"{TELL.format(order, 'api')}; {STAY}")
    stubborn = scene.child("worker", STUBBORN)
    scene.supervision.start(engine)
    scene.supervision.start(api, stubborn)
    await begun(engine, api, stubborn)
    began = time.monotonic()
    await scene.supervision.stop(2.0)
    assert time.monotonic() - began < 3.0
    assert (scene.folder / "order").read_text().split() == ["api", "engine"]
    assert stubborn.ending == "was killed by SIGKILL"
    assert not scene.marks.exists()


async def test_what_a_killed_serve_left_is_stopped_by_the_next(scene: Scene) -> None:
    kind, stubborn = scene.child("temporal"), scene.child("worker", STUBBORN)
    scene.supervision.start(kind, stubborn)
    await begun(kind, stubborn)
    pids = [pid_of(kind), pid_of(stubborn)]
    assert await asyncio.to_thread(stop_stale, scene.marks, 0.3) == ["temporal", "worker"]
    assert [start_mark(pid) for pid in pids] == [None, None]


async def test_a_process_that_got_the_number_of_a_child_is_left_alone(scene: Scene) -> None:
    child = scene.child("innocent")
    scene.supervision.start(child)
    marks = scene.marked()
    for changed in ({"start": "1"}, {"boot": "another"}, {"pid": "none"}):
        scene.marks.write_text(json.dumps({"api": {**marks["innocent"], **changed}}))
        assert stop_stale(scene.marks, 0.1) == []
    scene.marks.write_text("{ half a fi")
    assert stop_stale(scene.marks, 0.1) == []
    assert child.alive


async def test_a_long_log_is_set_aside_at_the_start(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LOG_KEPT", 10)
    child = scene.child("api")
    child.log.write_text("from long ago")
    scene.supervision.start(child)
    await begun(child)
    assert (scene.folder / "api.old.log").read_text() == "from long ago"
    assert child.log.read_text().split() == ["here"]


async def test_a_child_sees_what_it_is_given_and_not_what_is_withheld(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the parent")
    code = "import os; print(os.environ.get('SECRET'), os.environ['GIVEN'], os.getsid(0) == os.getpid())"
    child = scene.child("api", code, env={"SECRET": None, "GIVEN": "yes"})
    scene.supervision.start(child)
    await until(lambda: not child.alive)
    assert child.last_words() == "None yes True"
