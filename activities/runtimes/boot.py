"""What a rented machine runs at its first boot: `machine/boot.sh`, `machine/guard.sh`, and settings above them.

Nothing in it is secret, for it can be read by whoever may describe the machine, and by what runs in it; and it is the
same to the byte whenever it is made for the same launch, because clouds refuse a repeated request that differs.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

FOLDER = Path(__file__).with_name("machine")
USER = "nebulous"  # whom it lets in
RUN = "/run/nebulous"  # where the worker and the guard tell each other things
#: Of EC2 user data; Google takes more.
LARGEST = 16_384


@dataclass(frozen=True)
class Watch:
    """What the guard goes by, in seconds."""

    key: str
    cloud: str  # ec2 or gce: whose metadata tells of the end of a spot machine
    timeout_s: int = 0  # of the command, from its first start; 0: none
    grace_s: int = 30  # between SIGTERM and SIGKILL
    lease_s: int = 24 * 3600  # how long a running command goes on by itself
    keep_s: int = 24 * 3600  # how long one that has ended waits for somebody to read how
    idle_s: int = 1800  # how long a machine without a command does
    quiet_s: int = 300  # without contact for so long, nobody else sees to the timeout
    notice_s: int = 30  # what is left after a notice that does not say
    tick_s: float = 5
    look_s: int = 30
    answer_s: int = 30  # how long the Engine may take, beyond the grace
    metadata: str = "http://169.254.169.254"

    @property
    def settings(self) -> str:
        """As lines of shell."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return "".join(f"NEBU_{name.upper()}={shlex.quote(str(value))}\n" for name, value in values)


def script(watch: Watch, public_key: str) -> str:
    """The user data of a machine.

    Args:
        watch: What its guard goes by.
        public_key: Of the one who is let in, as OpenSSH writes it.
    """
    guard = (FOLDER / "guard.sh").read_text()
    files = f"mkdir -p /var/lib/nebulous\n{_file('settings', watch.settings)}{_file('guard', guard)}"
    key = f"NEBU_PUBLIC_KEY={shlex.quote(public_key)}\n"
    made = f"#!/bin/sh\n{key}{files}{(FOLDER / 'boot.sh').read_text()}"
    assert len(made.encode()) < LARGEST, "user data would be refused"
    return made


def _file(name: str, text: str) -> str:
    return f"cat >/var/lib/nebulous/{name} <<'END_OF_FILE'\n{text}END_OF_FILE\n"
