"""Real machines for the doubles of clouds: each runs its user data as root, and is reached by SSH at its own address.

A guest is a tree of processes in namespaces of its own: its own /etc, /var, /run and /home on top of this machine's
/usr, a network with one address that the tests can reach, sshd at port 22, the Engine of the tests at
/var/run/docker.sock, and an endpoint for metadata at 169.254.169.254. What is made in the Engine through a guest goes
away with it, as on a machine that loses its power.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from tests.docker_engine import client
from tests.doubles.guest_engine import Doors
from tests.doubles.guest_root import Net, console_of, furnish, plug

PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "docker-init", "docker", "curl", "useradd", "ssh-keygen")
START_S = 20.0
METADATA = Path(__file__).with_name("guest_metadata.py")

_INSIDE = """
set -eu
cd "$1"
mount --bind /usr root/usr
mount -o remount,bind,ro root/usr
mount --bind sbin root/usr/local/sbin
mount -t proc proc root/proc
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
for each in null zero full random urandom tty; do mount --bind "/dev/$each" "root/dev/$each"; done
mount --bind "$2" root/run/docker.sock
hostname "$3"
until [ -e plugged ]; do sleep 0.01; done
exec chroot root /init
"""


def why_not() -> str | None:
    """What keeps this machine from having guests, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "guests need Linux and root"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    return f"not installed: {', '.join(missing)} (run: bash .ci/docker.sh)" if missing else None


@dataclass
class Guest:
    """One machine."""

    name: str
    address: str
    folder: Path
    outer: subprocess.Popen[bytes]
    metadata: subprocess.Popen[bytes]
    wires: Net
    containers: set[str] = field(default_factory=set[str])  # made in the Engine through it

    @property
    def alive(self) -> bool:
        """False once it was killed or has switched itself off."""
        return self.outer.poll() is None

    @property
    def powered_off(self) -> bool:
        """True when it has switched itself off."""
        return (self.folder / "root" / "run" / "powered-off").exists()

    def console(self) -> str:
        """What was written on its console."""
        return console_of(self.folder)

    def read(self, path: str) -> str:
        """A file in it; "" when there is none."""
        with suppress(OSError):
            return (self.folder / "root" / path.lstrip("/")).read_text()
        return ""

    def kill(self) -> None:
        """As if it lost its power."""
        with suppress(ProcessLookupError):
            self.outer.kill()
        self.outer.wait()

    def freeze(self) -> None:
        """Let it stand still: connections are taken and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def cut(self) -> None:
        """Pull the network cable: it runs on, unreachable."""
        self.wires.set("down")

    def join(self) -> None:
        """Plug it in again."""
        self.wires.set("up")

    def notice(self, kind: str = "ec2", in_s: float = 120.0) -> None:
        """Announce through its metadata, in the form of `ec2` or `gce`, that the cloud takes it back."""
        if kind == "gce":
            self.tell({"/computeMetadata/v1/instance/preempted": "TRUE"})
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + in_s))
        self.tell({"/latest/meta-data/spot/instance-action": json.dumps({"action": "terminate", "time": at})})

    def tell(self, answers: dict[str, str]) -> None:
        """Set what its metadata answers, by path."""
        draft = self.folder / "metadata.new"
        draft.write_text(json.dumps(answers))
        draft.rename(self.folder / "metadata.json")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it as root."""
        gone = subprocess.CompletedProcess(["sh", "-c", script], 255, "", f"{self.name} is off")
        if not self.alive:
            return gone
        # The first process itself has this machine's files in sight; the one that it started first has its own.
        try:
            shell = min(psutil.Process(self.first).children(), key=lambda child: child.pid)
        except (psutil.NoSuchProcess, IndexError, ValueError):  # it went off at this moment
            return gone
        inside = ["nsenter", "-t", str(shell.pid), "-m", "-p", "-n", "-u", "-r", "-w", "sh", "-c", script]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return subprocess.run(inside, capture_output=True, text=True, check=False, env=env)

    @property
    def first(self) -> int:
        """Its first process, as we see it."""
        return psutil.Process(self.outer.pid).children()[0].pid

    def _signal(self, number: int) -> None:
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.first).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)


class Guests:
    """The machines of a double."""

    def __init__(self, docker_host: str, folder: Path, on_end: Callable[[Guest], None] | None = None) -> None:
        """None runs yet.

        Args:
            docker_host: The Engine that all of them show as theirs.
            folder: Where their files lie.
            on_end: Called from another thread when one was killed or has switched itself off.
        """
        self._docker_host = docker_host
        self._folder = folder
        self._sockets = Path(tempfile.mkdtemp(prefix="nebu-guest-"))  # short: paths of sockets have 108 bytes at most
        self._doors = Doors(docker_host)
        self._on_end = on_end
        self._guests: list[Guest] = []
        self._counter = 0

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def boot(self, name: str, user_data: str, address: str | None = None) -> Guest:
        """Switch a new machine on; returns once it has its address, before it has done anything.

        Args:
            name: Also its host name.
            user_data: Run as root, as it is, once the machine runs.
            address: A certain one, that another had before.
        """
        self._counter += 1
        folder = self._folder / f"{self._counter}-{name}"
        furnish(folder, name, user_data)
        socket = self._sockets / f"{self._counter}.sock"
        containers = self._doors.open(socket)
        outer = self._unshare(folder, socket, name)
        try:
            first = _first_child(outer, folder)
            wires = plug(first, address)
            server = [sys.executable, "-S", "-E", str(METADATA), str(folder / "metadata.json")]
            metadata = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(first), "-n", *server],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            (folder / "plugged").touch()
        except BaseException:
            outer.kill()
            outer.wait()
            raise
        guest = Guest(name, wires.address, folder, outer, metadata, wires, containers)
        self._guests.append(guest)
        self._doors.when_over(outer, lambda: self._ended(guest, socket))
        return guest

    def answer(self, beginning: str, said: dict[str, str]) -> None:
        """Let their Engine answer a request on a connection of its own that begins so with a line of JSON."""
        body = json.dumps(said).encode() + b"\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._doors.answers[beginning.encode()] = head.encode() + body

    def close(self) -> None:
        """Switch all of them off, and leave nothing of them behind."""
        for guest in self._guests:
            guest.kill()
        self._doors.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _unshare(self, folder: Path, socket: Path, name: str) -> subprocess.Popen[bytes]:
        spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces]
        inside = ["docker-init", "-g", "--", "sh", "-c", _INSIDE, "guest", str(folder), str(socket), name[:60]]
        with (folder / "guest.log").open("wb") as log:
            return subprocess.Popen([*command, *inside], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _ended(self, guest: Guest, socket: Path) -> None:
        """The machine is off: so are its metadata, and what ran in it."""
        guest.metadata.kill()
        guest.metadata.wait()
        socket.unlink(missing_ok=True)
        self._remove(guest.containers)
        guest.wires.gone()
        if self._on_end:
            self._on_end(guest)

    def _remove(self, names: set[str]) -> None:
        with client(self._docker_host) as engine:
            for name in names:
                engine.delete(f"/containers/{name}", params={"force": 1, "v": 1})


def _first_child(outer: subprocess.Popen[bytes], folder: Path) -> int:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if outer.poll() is not None:
            raise RuntimeError(f"a guest did not start: {(folder / 'guest.log').read_text()}")
        for child in psutil.Process(outer.pid).children():
            with suppress(psutil.NoSuchProcess):
                if child.name() == "docker-init":
                    return child.pid
        time.sleep(0.005)
    raise TimeoutError(f"a guest did not start: {(folder / 'guest.log').read_text()}")
