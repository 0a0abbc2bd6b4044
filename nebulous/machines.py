"""Machines that are not this one: how they are named, and how they are reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENGINE = "/var/run/docker.sock"


@dataclass(frozen=True)
class Way:
    """How a machine is reached; what is None is as ~/.ssh/config has it, else as OpenSSH would."""

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    engine: str = ENGINE  # the Engine's socket there

    @classmethod
    def parse(cls, text: str, identity_file: Path | None = None, engine: str = ENGINE) -> Way:
        """Read `[user@]host[:port]`, with or without `ssh://`.

        Raises:
            ValueError: It is not that.
        """
        plain = text.removeprefix("ssh://")
        user, at, rest = plain.rpartition("@")
        host, colon, port = rest.rpartition(":") if rest.count(":") == 1 else (rest, "", "")
        if (at and not user) or not host or re.search(r"[\s/]", plain) or plain.startswith("-"):
            raise ValueError(f"{text!r} is not [user@]host[:port]")
        if colon and not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r}: {port!r} is no port")
        return cls(host, user or None, int(port) if colon else None, identity_file, engine)

    @property
    def ssh(self) -> str:
        """The command that people would type to get there."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.user}@{self.host}" if self.user else f"ssh {port}{self.host}"

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}"
