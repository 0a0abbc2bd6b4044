"""`nebu get -w` and `nebu wait` as programs, against a real `nebu serve` whose API is killed under them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.served import LIMIT_S, Server, until

STOP_LIMIT_S = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


class Watching:
    """`nebu get containers -w -o json`, line by line."""

    def __init__(self, server: Server) -> None:
        command = [sys.executable, "-m", "nebulous", "get", "containers", "-w", "-o", "json"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=server.env, stdout=pipe, stderr=pipe, text=True)
        self.told: list[dict[str, Any]] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)

    def until(self, name: str, word: str) -> None:
        """Read until a container is told to have this status, or to be deleted."""
        while True:
            row = json.loads(self._lines.get(timeout=LIMIT_S))
            self.told.append(row)
            if row["metadata"]["name"] == name and word in (row["event"], row["status"]["status"]):
                return

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(LIMIT_S)


def test_a_watch_and_a_wait_survive_kill_9_of_the_api_without_a_gap_or_a_double(server: Server) -> None:
    server.up()
    watching = Watching(server)
    assert watching.process.stderr
    assert "no containers yet" in watching.process.stderr.readline()
    flag = server.folder / "go"
    command = f"while [ ! -e {flag} ]; do sleep 0.05; done; exit 3"
    create = ("create", "container", "--platform", "local")
    assert server.nebu(*create, "--name", "first", "--cmd", command).returncode == 0
    watching.until("first", "running")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "nebulous", "wait", "first", "--for", "failed"],
        env=server.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "running" in (waiting.stderr.readline() if waiting.stderr else "")

    pid = server.marks()["api"]["pid"]
    os.kill(pid, signal.SIGKILL)
    flag.touch()  # so that it ends while nobody can tell
    until(lambda: server.marks()["api"]["pid"] != pid, "the API is started again")
    until(lambda: server.nebu(*create, "--name", "second", "--cmd", "exit 0").returncode == 0, "create works")
    watching.until("second", "completed")
    assert waiting.wait(LIMIT_S) == 0
    assert server.nebu("delete", "first", "second").returncode == 0
    names = {"first", "second"}
    for name in sorted(names):
        if not any(row["event"] == "deleted" and row["metadata"]["name"] == name for row in watching.told):
            watching.until(name, "deleted")
    assert watching.end() == 130
    away = ["the server is out of reach; trying again\n", "the server is back\n"]
    assert watching.process.stderr.readlines() in ([], away)  # a short absence is not worth a word

    for name in names:
        told = [row for row in watching.told if row["metadata"]["name"] == name]
        assert [row["event"] for row in told] == ["added", *["modified"] * (len(told) - 2), "deleted"]
        versions = [int(row["metadata"]["resource_version"]) for row in told[:-1]]
        assert versions == sorted(set(versions)), versions
    statuses = [row["status"]["status"] for row in watching.told if row["metadata"]["name"] == "first"]
    assert "failed" in statuses[:-1]


def test_a_watch_does_not_hold_up_the_end_of_serve(server: Server) -> None:
    server.up()
    watching = Watching(server)
    assert server.nebu("create", "container", "--name", "one", "--platform", "local", "--cmd", "exit 0").returncode == 0
    watching.until("one", "completed")
    began = time.monotonic()
    server.interrupt()
    assert time.monotonic() - began < STOP_LIMIT_S
    assert watching.end() == 130
