"""A real OpenSSH server on loopback, with keys and a configuration of its own: a machine that is reached by SSH."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

START_S = 10.0
SSHD = "/usr/sbin/sshd"


def why_not() -> str | None:
    """What keeps this machine from running one, or None."""
    if os.geteuid() != 0:
        return "a test sshd needs root"
    return None if Path(SSHD).exists() else "not installed: sshd (run: bash .ci/docker.sh)"


@dataclass
class Sshd:
    """A server that may be stopped, and started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def identity(self) -> Path:
        """The private key that it lets in."""
        return self.folder / "client"

    def new_host_key(self) -> None:
        """Make one, as an installation from scratch does."""
        (self.folder / "host").unlink(missing_ok=True)
        _keygen(self.folder / "host")

    def start(self) -> None:
        """Serve; returns once it listens."""
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """As if the machine lost its power: every session is killed, not closed."""
        if self.process:
            os.kill(self.process.pid, signal.SIGSTOP)  # so that nobody gets in meanwhile
            for one in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Run one for the block; lets in `folder/client` as root."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    server = Sshd(folder, port)
    _keygen(folder / "client")
    _keygen(folder / "host")
    shutil.copy(folder / "client.pub", folder / "authorized")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation wants it
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nUsePAM no\nPasswordAuthentication no\nStrictModes no\nPermitRootLogin yes\n"
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
