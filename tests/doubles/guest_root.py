"""What a guest's machine is made of: its files, and its network."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DOCKER_GROUP = 998
LINK_S = 10.0
FOLDERS = "proc dev/pts dev/shm tmp run/sshd var/log var/lib var/tmp etc/ssh etc/default root home usr opt sys"
#: Of this machine's /etc, what programs need to run and users to be made.
KEPT = "ld.so.cache ld.so.conf login.defs nsswitch.conf os-release services protocols shells"
DEVICES = "null zero full random urandom tty"

_INIT = """#!/bin/sh
# As process 1 of a machine: sshd comes up, and the user data is run once.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
trap 'exit 0' TERM
/usr/sbin/sshd -E /var/log/sshd.log
/var/lib/user-data </dev/null >/var/log/user-data.log 2>&1 &
while :; do sleep 3600 & wait $!; done
"""

_SHUTDOWN = """#!/bin/sh
# `shutdown -h now` ends a guest, as it ends a machine.
echo "$*" >/run/powered-off
kill -TERM 1
"""

_SSHD = """HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin no
MaxStartups 100
"""


def furnish(folder: Path, name: str, user_data: str) -> None:
    """Make a machine's files, with a host key that no other has."""
    root = folder / "root"
    for each in FOLDERS.split():
        (root / each).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var" / "run").symlink_to("/run")
    for link in ("bin", "sbin", "lib", "lib64", "lib32"):
        if os.path.islink(f"/{link}"):  # everything is in /usr
            (root / link).symlink_to(os.readlink(f"/{link}"))
    for device in (*DEVICES.split(), "console"):
        (root / "dev" / device).touch()
    (root / "dev" / "ptmx").symlink_to("pts/ptmx")
    (root / "run" / "docker.sock").touch()
    _etc(root / "etc", name)
    _program(root / "init", _INIT)
    _program(root / "var" / "lib" / "user-data", user_data)
    (folder / "sbin").mkdir()
    _program(folder / "sbin" / "shutdown", _SHUTDOWN)
    (folder / "metadata.json").write_text("{}")


def console_of(folder: Path) -> str:
    """What a machine wrote on its console."""
    return (folder / "root" / "dev" / "console").read_text(errors="replace")


def _etc(etc: Path, name: str) -> None:
    for kept in KEPT.split():
        with suppress(FileNotFoundError):
            shutil.copy(f"/etc/{kept}", etc / kept)
    for kept in ("alternatives", "ld.so.conf.d", "pam.d"):
        with suppress(FileNotFoundError):
            shutil.copytree(f"/etc/{kept}", etc / kept, symlinks=True, ignore_dangling_symlinks=True)
    users = {"root": 0, "sshd": 100, "nobody": 65534}
    lines = [f"{user}:x:{number}:{number}:{user}:/root:/bin/sh\n" for user, number in users.items()]
    (etc / "passwd").write_text("".join(lines))
    (etc / "shadow").write_text("".join(f"{user}:*:19000:0:99999:7:::\n" for user in users))
    (etc / "shadow").chmod(0o600)
    groups = {**users, "docker": DOCKER_GROUP}
    (etc / "group").write_text("".join(f"{group}:x:{number}:\n" for group, number in groups.items()))
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost {name}\n")
    (etc / "ssh" / "sshd_config").write_text(_SSHD)
    key = etc / "ssh" / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@dataclass
class Net:
    """The cable between a guest and us."""

    link: str
    address: str

    def set(self, state: str) -> None:
        """Make it up or down."""
        subprocess.run(["ip", "link", "set", self.link, state], check=True)

    def gone(self) -> None:
        """Take it away, unless it went with the guest."""
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)


def plug(pid: int, address: str | None) -> Net:
    """Give the network of this process an address that we can reach, of the range for benchmarks (RFC 2544)."""
    link = f"nb{random.randrange(1 << 40):010x}"
    here, there = _pair(address)
    inside = ["nsenter", "-t", str(pid), "-n"]
    commands = [
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "addr", "add", f"{here}/30", "dev", link],
        [*inside, "ip", "link", "set", "lo", "up"],
        [*inside, "ip", "addr", "add", "169.254.169.254/32", "dev", "lo"],  # where its metadata is served
        ["ip", "link", "set", link, "up"],
        [*inside, "ip", "addr", "add", f"{there}/30", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    return Net(link, there)


def _pair(address: str | None) -> tuple[str, str]:
    """Our end's address and the guest's: a free pair, or the one of a guest that had this address and is gone."""
    end = time.monotonic() + LINK_S
    while True:
        there = address or f"198.{random.choice((18, 19))}.{random.randrange(256)}.{4 * random.randrange(64) + 2}"
        first, _, last = there.rpartition(".")
        here = f"{first}.{int(last) - 1}"
        taken = subprocess.run(["ip", "-o", "addr", "show"], capture_output=True, text=True, check=True).stdout
        if f" {here}/" not in taken:
            return here, there
        if time.monotonic() > end:
            raise TimeoutError(f"{here} is taken")
        time.sleep(0.02)
