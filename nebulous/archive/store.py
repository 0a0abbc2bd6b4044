"""What an archive needs of the place where it is: files that appear whole, read from any byte on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol


class Store(Protocol):
    """Files by path, such as `logs/abc/0001.log`; raises only NebulousError."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    async def write(self, path: str, stream: AsyncIterator[bytes], *, patient: bool = True) -> int:
        """Write a file whole or not at all, replacing an earlier one, and return its bytes; holds little in memory.

        Raises:
            Unavailable: Not now, and if it is patient, not after a while either.
            AuthFailed, Rejected: Not with these credentials, or this setting.
        """
        ...

    def read(self, path: str, offset: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield a file from a byte on, up to `end` or its own; nothing where it has ended before.

        Raises:
            NotFound: There is none.
        """
        ...

    async def sizes(self, folder: str) -> dict[str, int]:
        """The files in a folder by their names, with their bytes; nothing where there is no folder."""
        ...


async def once(data: bytes) -> AsyncGenerator[bytes]:
    """A stream of one piece."""
    yield data


async def blocks(stream: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes]:
    """Gather what comes into blocks of one size; the last one may be shorter, and there is always one."""
    block, any_yet = bytearray(), False
    async for data in stream:
        view = memoryview(data)
        while view:
            taken = view[: size - len(block)]
            block += taken
            view = view[len(taken) :]
            if len(block) == size:
                yield bytes(block)
                any_yet = True
                block.clear()
    if block or not any_yet:
        yield bytes(block)
