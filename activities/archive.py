"""The archive of logs: append-only files by life and attempt, readable after everything else is gone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from nebulous.errors import Unavailable
from nebulous.models.resources import Metadata


class Archive:
    """A folder: `logs/{metadata.id}/{attempt:04d}.log`, and beside them `meta.json` saying whose they are."""

    def __init__(self, root: Path) -> None:
        self._logs = root / "logs"

    async def store(
        self, metadata: Metadata, attempt: int, stream: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> int:
        """Write one attempt's output whole, replacing an earlier try, and return its size in bytes.

        Raises:
            Unavailable: The disk is full or the folder cannot be written.
        """
        folder = self._logs / metadata.id
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._describe(folder, metadata)
            target = folder / f"{attempt:04d}.log"
            partial = target.with_suffix(f".{os.getpid()}.part")
            with partial.open("wb") as file:
                size = await self._copy(stream, file, progress)
            partial.replace(target)
        except OSError as error:
            raise Unavailable(
                f"cannot archive logs in {str(folder)!r}: {error.strerror}", "free space there"
            ) from error
        return size

    @staticmethod
    async def _copy(stream: AsyncIterator[bytes], file: IO[bytes], progress: Callable[[str], None]) -> int:
        size = 0
        async for chunk in stream:
            await asyncio.to_thread(file.write, chunk)
            size += len(chunk)
            progress(f"archiving logs, {size} bytes")
        return size

    @staticmethod
    def _describe(folder: Path, metadata: Metadata) -> None:
        about = folder / "meta.json"
        if not about.exists():
            whose = {"owner": metadata.owner, "namespace": metadata.namespace, "name": metadata.name}
            draft = folder / f"meta.{os.getpid()}.part"
            draft.write_text(json.dumps(whose))
            draft.replace(about)
