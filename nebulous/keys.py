"""Keys that a server makes for itself, once, in files that only its user reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

KEY_BYTES = 32


def kept(path: Path) -> bytes:
    """Return the key in the file: 32 random bytes, made once with mode 0600, also when two processes race.

    Raises:
        ValueError: The file is there, and is no key of ours.
    """
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{str(path)!r} holds {len(key)} bytes, not a key of {KEY_BYTES}: restore it from a backup")
    return key


def _make(path: Path) -> None:
    """Write a whole file, then link it into place: readers see all of a key or none; the first maker wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
