"""Logs of what is over: files that a worker wrote whole, by life and attempt (`activities/archive.py`)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 64 * 1024
_LIFE = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True)
class Whose:
    """To whom archived logs belong."""

    owner: str
    namespace: str
    name: str


class ArchivedLogs:
    """The archived output of one life."""

    def __init__(self, root: Path, life: str) -> None:
        self.life = life
        self._folder = root / "logs" / life if _LIFE.fullmatch(life) else None

    def whose(self) -> Whose | None:
        """Whose they are; None when there are none."""
        if self._folder is None:
            return None
        try:
            about = json.loads((self._folder / "meta.json").read_text())
            return Whose(about["owner"], about["namespace"], about["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def attempts(self) -> list[int]:
        """The attempts whose output is here, in order."""
        if self._folder is None:
            return []
        return sorted(int(file.stem) for file in self._folder.glob("*.log") if file.stem.isdecimal())

    async def read(self, attempt: int, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield an attempt's output from a byte on."""
        assert self._folder is not None, "a life without a folder has no attempts"
        with (self._folder / f"{attempt:04d}.log").open("rb") as file:
            file.seek(offset)
            while data := await asyncio.to_thread(file.read, BLOCK_BYTES):
                yield data
