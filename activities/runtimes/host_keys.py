"""Host keys as text, and the file that keeps those that were seen first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncssh


def nothing_known(host: str, addr: str, port: int | None) -> tuple[list[str], list[str], list[str]]:
    """No keys, no authorities, nothing revoked: `Keys.believes` is asked about every key."""
    return [], [], []


def made(pins: Path) -> Path:
    """The file of host keys, there from now on."""
    pins.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pins.touch(mode=0o600)
    return pins


def written(key: asyncssh.SSHKey) -> str:
    """A public key as text, without its comment."""
    return plain(key.export_public_key("openssh").decode())


def plain(line: str) -> str:
    """Without its comment."""
    return " ".join(line.split()[:2])
