"""A real Docker Engine for tests, as root and without touching the host's.

It runs in network, mount and process namespaces of its own (a second dockerd would take the host's docker0 away),
with its own containerd, data and socket in a temporary folder. Killing its first process ends all of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_S = 60.0
STOP_S = 20.0
PROGRAMS = ("dockerd", "containerd", "docker-init", "runc", "setpriv", "unshare", "ip", "iptables")

_INSIDE = """
set -eu
cd "$1"
ip link set lo up
containerd --root "$1/cd/root" --state "$1/cd/state" --address "$1/cd.sock" >containerd.log 2>&1 &
tries=0
until [ -S "$1/cd.sock" ]; do tries=$((tries + 1)); [ $tries -lt 600 ]; sleep 0.05; done
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/dockerd.pid" --host "unix://$1/docker.sock" \
    --containerd "$1/cd.sock" --storage-driver overlay2 --cgroup-parent "/$2" --shutdown-timeout 1 \
    >dockerd.log 2>&1
"""


@dataclass(frozen=True)
class Dockerd:
    """A running Engine."""

    host: str  # unix://…
    init_pid: int  # its first process, as we see it; /proc/PID/ns/net is its network


def why_not() -> str | None:
    """What keeps this machine from running one, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a test dockerd needs Linux and root"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    return f"not installed: {', '.join(missing)} (run: bash .ci/docker.sh)" if missing else None


def answers(host: str) -> bool:
    """True when an Engine listens there and we may talk to it."""
    if not host.startswith("unix://"):
        return bool(host)  # given by hand: believed
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(2)
        try:
            line.connect(host.removeprefix("unix://"))
            line.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in line.recv(64)
        except OSError:
            return False


@contextmanager
def dockerd() -> Iterator[Dockerd]:
    """Run an Engine for the block, and leave nothing of it behind."""
    folder = Path(tempfile.mkdtemp(prefix="nebu-dockerd-"))
    # A killed pytest takes it along: its death kills unshare, which kills the first process, and that one all others.
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    inside = ["docker-init", "-g", "--", "sh", "-c", _INSIDE, "dockerd", str(folder), folder.name]
    with (folder / "start.log").open("wb") as log:
        outer = subprocess.Popen([*command, *inside], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        host = f"unix://{folder}/docker.sock"
        _wait_until_up(outer, host, folder)
        yield Dockerd(host, _children(outer.pid)[0])
    finally:
        _stop(outer)
        _remove_cgroups(folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(outer: subprocess.Popen[bytes], host: str, folder: Path) -> None:
    limit = time.monotonic() + START_S
    while not answers(host):
        if outer.poll() is not None or time.monotonic() > limit:
            logs = [path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log"))]
            raise RuntimeError("the test dockerd did not start:\n" + "\n".join(logs))
        time.sleep(0.05)


def _stop(outer: subprocess.Popen[bytes]) -> None:
    """Ask first, so that the Engine removes its containers' cgroups; then end the whole process namespace."""
    for pid in _children(outer.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    try:
        outer.wait(STOP_S)
    except subprocess.TimeoutExpired:
        outer.kill()
        outer.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _remove_cgroups(name: str) -> None:
    root = Path("/sys/fs/cgroup")
    for top in [root / name, *root.glob(f"*/{name}")]:
        for folder in sorted((path for path in [top, *top.rglob("*")] if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
