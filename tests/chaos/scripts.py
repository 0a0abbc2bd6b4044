"""The kinds of containers in a campaign, and how each ends if it is left alone; written by hand, not asked of anybody.

A script runs on `sim` by labels, on `docker` by a command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RUNNING, COMPLETED, FAILED, STOPPED, INVALID = "running", "completed", "failed", "stopped", "invalid"
FINAL = frozenset({COMPLETED, FAILED, STOPPED, INVALID})


@dataclass(frozen=True)
class Script:
    """One kind of container."""

    name: str
    ends: frozenset[str]
    labels: dict[str, str] = field(default_factory=dict)  # sim.nebulous/…
    command: str = "true"
    spec: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None  # None: not looked at
    runs: int | None = None  # how often the command is started, by the platform's own count; None: not looked at
    recoveries: int = 0
    restarts: int | None = None
    vanishes: bool = False  # the cloud itself takes the machine away without a word
    kept: bool = False  # its machine stays for a look after the failure

    @property
    def endless(self) -> bool:
        """True when it runs until somebody stops it."""
        return self.ends == frozenset({RUNNING})


def _sim(name: str, ends: str, labels: str = "", **more: Any) -> Script:
    words = dict(pair.split("=") for pair in labels.split())
    scripted = {f"sim.nebulous/{label}": value for label, value in words.items()}
    return Script(name, frozenset(ends.split("|")), labels={"sim.nebulous/boot": "100ms", **scripted}, **more)


def _docker(name: str, ends: str, command: str, **more: Any) -> Script:
    spec = {"stop_grace": "2s", **more.pop("spec", {})}
    return Script(name, frozenset(ends.split("|")), command=command, spec=spec, **more)


ON_FAILURE = {"restart": "OnFailure"}
TOLD = "http://127.0.0.1/"  # the campaign puts its own ear there

SIM_ENDING = (
    _sim("completes", COMPLETED, "run_for=300ms", spec={"notify": TOLD}, exit_code=0, runs=1, restarts=0),
    _sim("at-once", COMPLETED, "boot=0s run_for=0s", exit_code=0, runs=1, restarts=0),
    _sim("fails", FAILED, "run_for=200ms exit_code=3", exit_code=3, runs=1),
    _sim("eats", FAILED, "run_for=200ms oom=true", exit_code=137, runs=1),
    _sim("retried", COMPLETED, "run_for=0s exit_code=1,1,0", spec=ON_FAILURE, exit_code=0, runs=3, restarts=2),
    _sim("gives-up", FAILED, "run_for=0s exit_code=7", spec={**ON_FAILURE, "max_retries": 1}, exit_code=7, runs=2),
    _sim("passed-on", COMPLETED, "run_for=0s fail=OutOfCapacity", exit_code=0, runs=1),
    _sim(
        "no-quota",
        COMPLETED,
        "run_for=0s fail=QuotaExceeded,Unavailable",
        spec={"accelerators": ["1:A100"]},
        exit_code=0,
        runs=1,
    ),
    _sim("sold-out", FAILED, "fail=OutOfCapacity*9999", spec={"provision_timeout": "2s"}, runs=0),
    _sim("unanswered", COMPLETED, "run_for=0s unanswered=1", exit_code=0, runs=1),
    _sim("never-answered", COMPLETED, "run_for=0s unanswered=5", exit_code=0, runs=1),
    _sim("preempted", COMPLETED, "preempt_after=1s run_for=1500ms", exit_code=0, recoveries=1),
    _sim("vanishes", COMPLETED, "vanish_after=1s run_for=1500ms", exit_code=0, recoveries=1, vanishes=True),
    _sim("times-out", FAILED, spec={"timeout": "1s"}),
    _sim("kept", FAILED, "run_for=0s exit_code=3", spec={"keep_on_failure": "1h"}, exit_code=3, runs=1, kept=True),
    _sim("invalid", INVALID, "run_for=soon", runs=0),
    _sim("slow-to-go", COMPLETED, "run_for=0s delete_takes=1500ms", exit_code=0, runs=1),
    _sim(
        "unhealthy",
        FAILED,
        "unhealthy_after=200ms",
        spec={**ON_FAILURE, "max_retries": 1, "health_check": {"command": "true", "interval": "200ms", "retries": 1}},
        restarts=1,
    ),
)
SIM_ENDLESS = (
    _sim("runs", RUNNING),
    _sim("runs-late", RUNNING, "boot=1s"),
    _sim("runs-unanswered", RUNNING, "unanswered=1"),
    _sim("goes-slowly", RUNNING, "delete_takes=1s"),
    _sim("taken-back", RUNNING, "preempt_after=700ms", recoveries=1),
)
SIM_RESTLESS = _sim("restless", f"{RUNNING}|restarting", "run_for=100ms", spec={"restart": "Always"})

DOCKER_ENDING = (
    _docker("completes", COMPLETED, "exit 0", exit_code=0, runs=1, restarts=0),
    _docker("works", COMPLETED, "sleep 0.5; exit 0", exit_code=0, runs=1, restarts=0),
    _docker("fails", FAILED, "exit 3", exit_code=3, runs=1),
    _docker(
        "retried",
        COMPLETED,
        "[ -e /tmp/once ] && exit 0; : > /tmp/once; exit 1",
        spec=ON_FAILURE,
        exit_code=0,
        runs=2,
        restarts=1,
    ),
    _docker("gives-up", FAILED, "exit 7", spec={**ON_FAILURE, "max_retries": 1}, exit_code=7, runs=2),
    _docker("times-out", FAILED, "exec sleep 3600", spec={"timeout": "1s"}),
    _docker("kept", FAILED, "exit 3", spec={"keep_on_failure": "1h"}, exit_code=3, runs=1, kept=True),
)
DOCKER_ENDLESS = (
    _docker("runs", RUNNING, "exec sleep 3600"),
    _docker("is-deaf", RUNNING, "trap '' TERM; while :; do sleep 0.2; done"),
)
DOCKER_RESTLESS = _docker("restless", f"{RUNNING}|restarting", "sleep 0.1", spec={"restart": "Always"})


@dataclass(frozen=True)
class Repertoire:
    """What is played on one platform."""

    platform: str
    ending: tuple[Script, ...]
    endless: tuple[Script, ...]
    restless: Script


SIM = Repertoire("sim", SIM_ENDING, SIM_ENDLESS, SIM_RESTLESS)
DOCKER = Repertoire("docker", DOCKER_ENDING, DOCKER_ENDLESS, DOCKER_RESTLESS)
