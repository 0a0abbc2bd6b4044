"""Files of this host as tar archives. A thread packs or unpacks; a pipe between it and the event loop is all memory."""

from __future__ import annotations

import asyncio
import errno
import os
import stat as modes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path

from activities.runtimes.descriptors import Descriptor
from nebulous import tars
from nebulous.errors import NebulousError, NotFound, Rejected
from nebulous.models.platforms import PathStat

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_NAMED = 3  # entries that were left out


def stat(path: Path, shown: str) -> PathStat:
    """Look at a path. Blocking.

    Raises:
        NotFound: Nothing is there.
    """
    try:
        link = path.is_symlink()
        about = path.lstat() if link and not path.exists() else path.stat()
    except OSError as error:
        raise failure(error, shown) from error
    kind = "file" if modes.S_ISREG(about.st_mode) else "folder" if modes.S_ISDIR(about.st_mode) else "other"
    return PathStat(
        kind="dangling" if modes.S_ISLNK(about.st_mode) else kind,
        link=link,
        size=about.st_size,
        mode=modes.S_IMODE(about.st_mode),
        modified_at=int(about.st_mtime),
    )


async def read(path: Path, shown: str) -> AsyncGenerator[bytes]:
    """Pack what is at a path.

    Raises:
        NotFound: Nothing is there. Rejected: it cannot be read.
    """
    await asyncio.to_thread(_look, path, shown)
    outer, inner = os.pipe()
    source = Descriptor(outer)
    packing = asyncio.create_task(asyncio.to_thread(_pack, path, shown.endswith("/"), inner))
    try:
        while data := await source.read():
            yield data
    finally:
        source.close()  # a packer that nobody listens to any more ends by that
        problem = await asyncio.shield(packing)
    if problem:
        raise failure(problem, shown)


async def write(path: Path, shown: str, archive: AsyncIterator[bytes]) -> None:
    """Unpack in the folder at a path.

    Raises:
        NotFound: There is no such folder. Rejected: see `KeepsFiles.write_files`.
    """
    if (await asyncio.to_thread(stat, path, shown)).kind != "folder":
        raise Rejected(f"{shown!r} is no folder", "name the folder to copy into")
    inner, outer = os.pipe()
    sink = Descriptor(outer)
    unpacking = asyncio.create_task(asyncio.to_thread(_unpack, path, shown, inner))
    try:
        with suppress(BrokenPipeError):  # it failed, and says so below
            async for data in archive:
                await sink.write(data)
    except BaseException:
        unpacking.add_done_callback(_told)
        raise
    finally:
        sink.close()
    await asyncio.shield(unpacking)


def failure(error: OSError, shown: str) -> NebulousError:
    """What the system says, for whoever copies."""
    words = f"{shown!r}: {error.strerror or error}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{words}", "look with: nebu exec NAME -- ls")
    if error.errno in FULL:
        return Rejected(f"{words}: what was written until then stays", "free some space there, or copy less")
    return Rejected(words, "it is read and written as the server's own user")


def _look(path: Path, shown: str) -> None:
    try:
        path.lstat()
    except OSError as error:
        raise failure(error, shown) from error


def _pack(path: Path, through: bool, descriptor: int) -> OSError | None:
    try:
        with os.fdopen(descriptor, "wb") as out:
            source = path.resolve() if through else path
            tars.pack(str(source), Path(os.path.abspath(path)).name or ".", out)
    except BrokenPipeError:
        return None
    except OSError as error:
        return error
    return None


def _unpack(path: Path, shown: str, descriptor: int) -> None:
    try:
        with os.fdopen(descriptor, "rb") as stream:
            left_out = tars.unpack(stream, path)
    except tars.Misfit as error:
        raise Rejected(f"{shown!r}: {error}", "copy to another place, or remove what is in the way") from error
    except OSError as error:
        raise failure(error, shown) from error
    if left_out:
        more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
        named = "; ".join(left_out[:MOST_NAMED])
        raise Rejected(f"left out, because it would leave {shown!r}: {named}{more}", "all else was copied")


def _told(unpacking: asyncio.Task[None]) -> None:
    """Somebody else's failure was first; this one is only its echo."""
    if not unpacking.cancelled():
        unpacking.exception()
