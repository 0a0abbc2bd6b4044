"""The archive in a folder of this machine, or of a disk that API and workers share."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from io import FileIO
from pathlib import Path

from nebulous import ids
from nebulous.archive.store import blocks
from nebulous.errors import NotFound, Unavailable

BLOCK_BYTES = 256 * 1024
DRAFT = ".part"


class FolderStore:
    """A folder; implements `Store`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        """The folder's path."""
        return str(self._root)

    async def write(self, path: str, stream: AsyncIterator[bytes], *, patient: bool = True) -> int:
        """Write beside the file, then rename; drafts of tries that were killed go first."""
        target = self._root / path
        draft = target.with_name(f"{target.name}.{ids.new_id()}{DRAFT}")
        with self._translated():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for old in target.parent.glob(f"{target.name}.*{DRAFT}"):
                old.unlink(missing_ok=True)
            try:
                size = await self._fill(draft, stream)
                draft.replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    draft.unlink(missing_ok=True)
                raise
        return size

    async def read(self, path: str, offset: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Read block by block."""
        left = None if end is None else end - offset
        with self._translated(), self._there(path), FileIO(self._root / path) as file:
            file.seek(offset)
            while left is None or left > 0:
                wanted = BLOCK_BYTES if left is None else min(left, BLOCK_BYTES)
                data = await asyncio.to_thread(file.read, wanted)
                if not data:
                    return
                left = None if left is None else left - len(data)
                yield data

    async def sizes(self, folder: str) -> dict[str, int]:
        """Look into the folder."""
        try:
            with self._translated(), self._there(folder), os.scandir(self._root / folder) as found:
                whole = [entry for entry in found if not entry.name.endswith(DRAFT)]
                return {entry.name: entry.stat().st_size for entry in whole}
        except NotFound:
            return {}

    async def _fill(self, draft: Path, stream: AsyncIterator[bytes]) -> int:
        size = 0
        with draft.open("wb") as file:
            async with contextlib.aclosing(blocks(stream, BLOCK_BYTES)) as pieces:
                async for piece in pieces:
                    if len(piece) < BLOCK_BYTES:  # most logs are short, and a thread costs more than writing them
                        file.write(piece)
                    else:
                        await asyncio.to_thread(file.write, piece)
                    size += len(piece)
        return size

    @contextlib.contextmanager
    def _there(self, path: str) -> Generator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"there is no {path!r} in the archive {self.place!r}") from error

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            hint = "it must be a folder that this server may write, on a disk with space: NEBU_ARCHIVE names it"
            raise Unavailable(f"cannot use the archive {self.place!r}: {error.strerror}", hint) from error
