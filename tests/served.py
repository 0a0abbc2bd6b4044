"""A real `nebu serve` for tests that type commands: one data directory, and the serves started on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

LIMIT_S = 60.0


def until(check: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Look again and again for an effect, with a limit."""
    end = time.monotonic() + limit_s
    while not (found := check()):
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Server:
    """One data directory, and the serves that were started on it."""

    folder: Path
    more_env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    ready: dict[str, str] = field(default_factory=dict)
    serve: subprocess.Popen[str] | None = None
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        ports = dict.fromkeys(("NEBU_TEMPORAL_PORT", "NEBU_UI_PORT", "NEBU_REDIS_PORT"), "0")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NEBU_")}
        return {
            **clean,
            **ports,
            "NEBU_CONFIG": str(self.folder / "config.yaml"),
            "NEBU_DOCKER_ENABLED": "false",
        } | self.more_env

    def nebu(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nebulous", *words]
        return subprocess.run(command, env=self.env | env, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def run(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a serve on this data directory."""
        installed = ["-P"] if self.cwd else []  # as `nebu` does it: without the working directory on the path
        python = [sys.executable, *installed, "-m", "nebulous"]
        command = [*python, "serve", "--data-dir", str(self.folder / "server"), *words]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env={**self.env, **env}, cwd=self.cwd, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def up(self, *words: str) -> dict[str, str]:
        """Start one and wait until it is ready."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        self.serve = self.run("--port", "0", "--ready-file", str(ready), *words)
        until(lambda: ready.exists() or self.serve.poll() is not None, "serve is ready")
        assert ready.exists(), self.serve.communicate()
        return json.loads(ready.read_text())

    def interrupt(self) -> str:
        """Ctrl-C; returns what it printed."""
        self.serve.send_signal(signal.SIGINT)
        out, err = self.serve.communicate(timeout=LIMIT_S)
        assert self.serve.returncode == 0, err
        return out

    def marks(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "server" / "children.json").read_text())

    def status(self, name: str) -> dict[str, Any]:
        answer = self.nebu("get", "containers", name, "-o", "json")
        return json.loads(answer.stdout)["status"] if answer.returncode == 0 else {"status": answer.stderr}

    def until_status(self, name: str, *wanted: str) -> dict[str, Any]:
        return until(lambda: (found := self.status(name))["status"] in wanted and found, f"{name} is {wanted}")

    def close(self) -> None:
        """Stop whatever still runs."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=LIMIT_S)
        marks = self.folder / "server" / "children.json"
        for mark in json.loads(marks.read_text()).values() if marks.exists() else ():
            if psutil.pid_exists(mark["pid"]):
                psutil.Process(mark["pid"]).kill()
