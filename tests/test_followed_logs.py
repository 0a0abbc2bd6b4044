"""A followed log goes on, without loss and without doubles, whatever is killed, restarted or lost: the real CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from tests.nebula import sim_labels
from tests.served import Server, until

#: Writes `run.line` until it is told to end, in the folder that the test names.
COUNTING = """\
cd {folder}; echo x >>runs; run=$(wc -l <runs); i=0
while [ ! -e end ]; do i=$((i + 1)); echo $run.$i; sleep 0.01; done; {last}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("followed"))
    try:
        made.ready = made.up()
        yield made
        made.nebu("delete", "containers", "--all", "--yes")
    finally:
        made.close()


class Follower:
    """`nebu logs -f` as a process of its own, writing into a file."""

    def __init__(self, server: Server, name: str, file: Path) -> None:
        self._file = file
        command = [sys.executable, "-m", "nebulous", "logs", "-f", name]
        with file.open("wb") as output:
            self.process = subprocess.Popen(command, env=server.env, stdout=output, stderr=subprocess.PIPE, text=True)

    @property
    def lines(self) -> list[str]:
        return self._file.read_text().splitlines()

    def until(self, wanted: str) -> None:
        until(lambda: wanted in self.lines or self.process.poll() is not None, f"the follower has {wanted!r}")
        assert wanted in self.lines, (self.process.communicate(), self.lines[-5:])

    def more(self) -> None:
        """Wait until it has more lines than now."""
        had = len(self.lines)
        until(lambda: len(self.lines) > had + 5 or self.process.poll() is not None, "the follower goes on")
        assert len(self.lines) > had, self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Wait for its end; the exit code, and what it said beside the log."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextmanager
def followed(server: Server, name: str, file: Path) -> Iterator[Follower]:
    follower = Follower(server, name, file)
    try:
        yield follower
    finally:
        if follower.process.poll() is None:
            follower.process.kill()
            follower.process.communicate()


def create(server: Server, name: str, folder: Path, *words: str, last: str = "") -> None:
    made = server.nebu(
        *("create", "container", "--name", name, "--platform", "local", *words),
        *("--cmd", COUNTING.format(folder=folder, last=last or "true")),
    )
    assert made.returncode == 0, made.stderr


def kill(server: Server, child: str) -> None:
    """As a crash does; `nebu serve` starts another."""
    pid = server.marks()[child]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: server.marks()[child]["pid"] != pid, f"another {child} is started")


def numbered(lines: list[str]) -> dict[int, int]:
    """How many lines each run wrote; all of them are there, once and in order."""
    counts: dict[int, int] = {}
    for line in lines:
        run, number = map(int, line.split("."))
        counts[run] = counts.get(run, 0) + 1
        assert (run, number) == (max(counts), counts[run]), (line, counts)
    return counts


def archived(server: Server, life: str) -> list[str]:
    """What the archive has of a life, attempt by attempt."""
    kept = sorted((server.folder / "server/archive/logs" / life).glob("*.log"))
    return "".join(file.read_text() for file in kept).splitlines()


def life_of(server: Server, name: str) -> str:
    return json.loads(server.nebu("get", "containers", name, "-o", "json").stdout)["metadata"]["id"]


def all_of_it(server: Server, name: str, lines: list[str]) -> bool:
    """True when a follower has had just what the archive has, once that is written."""
    life = life_of(server, name)
    until(lambda: archived(server, life), "the log is archived")
    return lines == archived(server, life)


def test_it_survives_the_death_of_the_api_and_of_the_worker(server: Server, tmp_path: Path) -> None:
    create(server, "killed", tmp_path)
    with followed(server, "killed", tmp_path / "out") as follower:
        follower.until("1.20")
        for child in ("api", "worker"):
            kill(server, child)
            follower.more()
        (tmp_path / "end").touch()
        code, said = follower.end()
        assert list(numbered(follower.lines)) == [1]
        assert all_of_it(server, "killed", follower.lines)
    assert code == 0, said


def test_it_goes_on_over_restarts_by_hand_and_by_policy_and_a_killed_api(server: Server, tmp_path: Path) -> None:
    create(server, "restarted", tmp_path, "--restart", "Always", last="[ $run = 3 ] && rm end; exit 3")
    with followed(server, "restarted", tmp_path / "out") as follower:
        follower.until("1.10")
        assert server.nebu("restart", "restarted").returncode == 0
        follower.until("2.10")
        (tmp_path / "end").touch()  # it exits twice, and the policy starts it each time
        follower.until("4.10")
        kill(server, "api")
        follower.more()
        assert server.nebu("stop", "restarted").returncode == 0
        code, said = follower.end()
        assert list(numbered(follower.lines)) == [1, 2, 4]
        assert all_of_it(server, "restarted", follower.lines)
    assert code in (0, 143), said


def test_after_a_stop_and_a_start_another_follow_has_both_attempts(server: Server, tmp_path: Path) -> None:
    create(server, "again", tmp_path)
    with followed(server, "again", tmp_path / "out") as follower:
        follower.until("1.5")
        assert server.nebu("stop", "again").returncode == 0
        follower.end()
        first = follower.lines
        assert all_of_it(server, "again", first)
    assert server.nebu("start", "again").returncode == 0
    with followed(server, "again", tmp_path / "more") as follower:
        follower.until("2.5")
        (tmp_path / "end").touch()
        assert follower.end()[0] == 0
        assert numbered(follower.lines).keys() == {1, 2}
        assert follower.lines[: len(first)] == first
        until(lambda: follower.lines == archived(server, life_of(server, "again")), "the archive has both")


def test_it_goes_on_with_the_next_attempt_after_a_recovery_while_the_api_dies(server: Server, tmp_path: Path) -> None:
    labels = sim_labels(boot="200ms", preempt_after="3s", run_for="5s", log="training")
    file = tmp_path / "lost.yaml"
    spec = {"kind": "Container", "metadata": {"name": "lost", "labels": labels}, "image": "busybox", "platform": "sim"}
    file.write_text(yaml.safe_dump({**spec, "command": "train"}))
    assert server.nebu("create", "-f", str(file)).returncode == 0
    with followed(server, "lost", tmp_path / "out") as follower:
        follower.until("training")
        kill(server, "api")
        code, said = follower.end()
        lines = follower.lines
    assert code == 0, said
    before = [line for line in lines if line.startswith("simulated: would run")]
    assert (len(before), lines.count("training"), lines.count("simulated: the machine was taken back")) == (2, 2, 1)
    assert lines[-1] == "simulated: exit 0"
    assert server.nebu("logs", "lost").stdout.splitlines() == lines


def test_it_goes_on_when_the_instance_vanished_with_its_log(server: Server, tmp_path: Path) -> None:
    create(server, "vanished", tmp_path)
    with followed(server, "vanished", tmp_path / "out") as follower:
        follower.until("1.10")
        _lose(server, "vanished")
        follower.until("2.10")
        (tmp_path / "end").touch()
        code, said = follower.end()
        assert list(numbered(follower.lines)) == [1, 2]  # the last lines of the first went with the machine
        second = [line for line in follower.lines if line.startswith("2.")]
        assert all_of_it(server, "vanished", second)
    assert code == 0, said


def _lose(server: Server, name: str) -> None:
    """Take the machine away: the process, and all that the platform knows of it."""
    instance = server.status(name)["instance_id"]
    for about in (server.folder / "server" / "local").glob("*/instance.json"):
        if instance in about.read_text():
            for supervisor in psutil.process_iter(["cmdline"]):
                if str(about.parent) in " ".join(supervisor.info["cmdline"] or []):
                    for process in [supervisor, *supervisor.children(recursive=True)]:
                        process.kill()
            about.parent.rename(server.folder / "gone")
            return
    raise AssertionError(f"{instance} is not there")
