"""The archive of logs: what commands wrote, by life and attempt, readable after everything else is gone.

`logs/{metadata.id}/{attempt:04d}.log`, and beside them `meta.json` saying whose they are; in a folder (`folder.py`) or
in a bucket (`s3.py`). A worker writes each log whole, before the machine goes; the API reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import cast

from nebulous.archive.store import Store, once
from nebulous.errors import AuthFailed, NotFound, Rejected, Unavailable
from nebulous.lines import LastLines, last_lines
from nebulous.models.resources import Metadata
from nebulous.settings import Bucket, Settings

ABOUT = "meta.json"
MARK = "about.txt"
MARK_TEXT = b"Logs of Nebulous, by the id of each life; `nebu logs ID` reads one.\n"
_LIFE = re.compile(r"[a-z0-9-]{1,64}")
_LOG = re.compile(r"(\d{4,})\.log")


@dataclass(frozen=True)
class Whose:
    """To whom archived logs belong."""

    owner: str
    namespace: str
    name: str


class Archive:
    """All archived logs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self._store.place

    async def store(
        self, metadata: Metadata, attempt: int, stream: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> int:
        """Write one attempt's output whole, replacing an earlier try, and return its size in bytes.

        Raises:
            Unavailable: The place cannot be written now. AuthFailed, Rejected: Nor will it be, as things are set.
        """
        if not _LIFE.fullmatch(metadata.id):  # it came from a program that spoke to Temporal by itself
            raise Rejected(f"{metadata.id!r} cannot name a folder of the archive")
        folder = f"logs/{metadata.id}"
        whose = {"owner": metadata.owner, "namespace": metadata.namespace, "name": metadata.name}
        async with aclosing(_counted(stream, progress)) as counted:
            await self._store.write(f"{folder}/{ABOUT}", once(json.dumps(whose).encode()))
            return await self._store.write(f"{folder}/{attempt:04d}.log", counted)

    def of(self, life: str) -> ArchivedLogs:
        """What is there of one life."""
        return ArchivedLogs(self._store, life)

    async def check_writing(self) -> None:
        """Find out whether a worker can use it, by leaving a mark for `check_reading`.

        Raises:
            NebulousError: It cannot; the message says why, the hint what to do.
        """
        await self._store.write(MARK, once(MARK_TEXT), patient=False)

    async def check_reading(self) -> None:
        """Find out whether an API can use it, and whether it is where workers write.

        Raises:
            NebulousError: It cannot, or NotFound: no worker does.
        """
        try:
            async with aclosing(self._store.read(MARK)) as mark:
                await anext(mark, b"")
        except NotFound as error:
            why = f"no worker has written to the archive {self.place} yet"
            raise NotFound(why, "give API and workers the same NEBU_ARCHIVE") from error


class ArchivedLogs:
    """The archived output of one life. Who reads can do nothing about a wrong setting: it is Unavailable to them."""

    def __init__(self, store: Store, life: str) -> None:
        self.life = life
        self._store = store
        self._folder = f"logs/{life}" if _LIFE.fullmatch(life) else None

    async def whose(self) -> Whose | None:
        """Whose they are; None when there are none.

        Raises:
            Unavailable: The archive cannot be read.
        """
        if self._folder is None:
            return None
        try:
            with _readable():
                said = b"".join([data async for data in self._store.read(f"{self._folder}/{ABOUT}")])
            about = json.loads(said)
            return Whose(about["owner"], about["namespace"], about["name"])
        except (NotFound, ValueError, KeyError, TypeError):
            return None

    async def attempts(self) -> dict[int, int]:
        """The attempts whose output is here, in order, each with its bytes.

        Raises:
            Unavailable: The archive cannot be read.
        """
        if self._folder is None:
            return {}
        with _readable():
            sizes = await self._store.sizes(self._folder)
        logs = {int(match[1]): size for name, size in sizes.items() if (match := _LOG.fullmatch(name))}
        return dict(sorted(logs.items()))

    async def read(self, attempt: int, offset: int = 0) -> AsyncGenerator[bytes]:
        """Yield an attempt's output from a byte on.

        Raises:
            NotFound: It is not here. Unavailable: The archive cannot be read.
        """
        with _readable():
            async with aclosing(self._store.read(self._path(attempt), offset)) as source:
                async for data in source:
                    yield data

    async def last_lines(self, attempt: int, size: int, count: int) -> LastLines:
        """Find where the last lines of an attempt begin, reading from its end.

        Raises:
            NotFound: It is not here. Unavailable: The archive cannot be read.
        """

        async def read(start: int, end: int) -> bytes:
            return b"".join([data async for data in self._store.read(self._path(attempt), start, end)])

        with _readable():
            return await last_lines(read, size, count)

    def _path(self, attempt: int) -> str:
        assert self._folder is not None, "a life without a folder has no attempts"
        return f"{self._folder}/{attempt:04d}.log"


def open_archive(settings: Settings) -> Archive:
    """The archive that the settings name; nothing is read or written before its first use."""
    place = settings.archive_place
    if isinstance(place, Bucket):
        from nebulous.archive.s3 import S3Store

        return Archive(S3Store(place))
    from nebulous.archive.folder import FolderStore

    return Archive(FolderStore(place))


async def _counted(stream: AsyncIterator[bytes], progress: Callable[[str], None]) -> AsyncGenerator[bytes]:
    """The stream, telling how far it is; closed with it, because it holds a line to a machine."""
    size = 0
    async with aclosing(cast(AsyncGenerator[bytes], stream)):
        async for data in stream:
            size += len(data)
            progress(f"archiving logs, {size} bytes")
            yield data


@contextmanager
def _readable() -> Generator[None]:
    try:
        yield
    except (AuthFailed, Rejected) as error:
        raise Unavailable(error.message, error.hint) from error
