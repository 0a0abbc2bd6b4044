"""Files of a container, by the Engine's archive API; also of one that has ended, and without any program in it."""

from __future__ import annotations

import base64
import json
import posixpath
import stat as modes
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from activities.runtimes.docker_engine import Engine
from nebulous.errors import AuthFailed, NebulousError, NotFound, Rejected, Unavailable
from nebulous.models.platforms import PathStat

ABOUT = "X-Docker-Container-Path-Stat"
#: The Engine writes modes as Go does (os.FileMode).
FOLDER, LINK, NEITHER = 1 << 31, 1 << 27, (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19)
MOST_LINKS = 16
FULL = ("no space left on device", "disk quota exceeded", "file too large")


async def stat(engine: Engine, container: str, path: str) -> PathStat:
    """Look at a path, through links.

    Raises:
        NotFound: Nothing is there.
    """
    first = about = await _about(engine, container, path)
    at = path
    for _ in range(MOST_LINKS):
        if not about["mode"] & LINK:
            return _stat(about, link=about is not first)
        at = posixpath.join(posixpath.dirname(at), about["linkTarget"])
        try:
            about = await _about(engine, container, at)
        except NotFound:
            break
    return _stat(first, link=True)


async def read(engine: Engine, container: str, path: str) -> AsyncGenerator[bytes]:
    """Stream an archive of what is at the path."""
    try:
        async for data in engine.download(f"containers/{container}/archive", {"path": path}):
            yield data
    except NotFound as error:
        raise _missing(path, error) from error


async def write(engine: Engine, container: str, path: str, archive: AsyncIterator[bytes]) -> None:
    """Unpack an archive in the folder at the path.

    Raises:
        NotFound: There is none. Rejected: it is no folder, something does not fit, or its disk is full.
    """
    try:
        wanted = {"path": path, "noOverwriteDirNonDir": "1"}
        await engine.upload(f"containers/{container}/archive", wanted, archive)
    except NotFound as error:
        raise _missing(path, error) from error
    except (Rejected, AuthFailed, Unavailable) as error:
        raise _failure(path, error) from error


async def _about(engine: Engine, container: str, path: str) -> Mapping[str, Any]:
    try:
        headers = await engine.head(f"containers/{container}/archive", {"path": path})
    except NotFound as error:
        raise _missing(path, error) from error
    return json.loads(base64.b64decode(headers[ABOUT]))


def _stat(about: Mapping[str, Any], link: bool) -> PathStat:
    mode = int(about["mode"])
    kind = "folder" if mode & FOLDER else "other" if mode & NEITHER else "dangling" if mode & LINK else "file"
    modified = datetime.fromisoformat(about["mtime"])
    return PathStat(
        kind=kind,
        link=link,
        size=about["size"],
        mode=modes.S_IMODE(mode & 0o777),
        modified_at=int(modified.timestamp()),
    )


def _missing(path: str, error: NebulousError) -> NotFound:
    """No such path, or no such container: the Engine's words tell them apart."""
    if "No such container" in error.message:
        return NotFound("the container is gone")
    return NotFound(f"{path!r}: No such file or directory", "look with: nebu exec NAME -- ls")


def _failure(path: str, error: NebulousError) -> NebulousError:
    words = error.message
    if any(full in words for full in FULL):
        return Rejected(
            f"{path!r}: No space left on device: what was written until then stays",
            "free some space there, or copy less",
        )
    if "not a directory" in words:
        return Rejected(f"{path!r} is no folder", "name the folder to copy into")
    if "Error processing tar file" in words or "cannot overwrite" in words:
        return Rejected(f"{path!r}: {words}", "copy to another place, or remove what is in the way")
    if isinstance(error, AuthFailed):  # 403: a read-only file system or volume
        return Rejected(f"{path!r}: {words}", "copy to a folder that can be written")
    return error
