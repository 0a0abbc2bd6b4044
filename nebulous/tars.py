"""Tar archives of files and folders: packed and unpacked as streams, never whole in memory.

Whoever unpacks does not trust who packed: no entry leaves the target, by its name, by a link, or through a link that
stands there already. What would is left out and told. Blocking, standard library only: the CLI uses it too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

COPY_BYTES = 256 * 1024
PERMISSIONS = 0o777  # setuid and its like are never kept


class Misfit(Exception):
    """A folder stands where a file should go, or the other way round, or what arrives is no archive."""


class Outside(Exception):
    """An entry that would leave the target."""


def pack(source: str, name: str, out: IO[bytes]) -> None:
    """Write a file, folder or link as an archive whose first entry has this name ("." for a folder's content).

    Raises:
        OSError: Something cannot be read.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=COPY_BYTES) as tar:
        tar.add(source, name, filter=_anonymous)


def unpack(stream: IO[bytes], target: Path, rename: Callable[[str], str] = str) -> list[str]:
    """Unpack an archive in a folder; return what was left out, in words.

    Args:
        stream: Where to read it from.
        target: An existing folder.
        rename: From an entry's name to its path in the target; "" is the target itself.

    Raises:
        Misfit: See there. OSError: Something cannot be written.
    """
    unpacking = _Unpacking(os.path.realpath(target), rename)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=COPY_BYTES) as tar:
            for entry in tar:
                unpacking.add(tar, entry)
            _exhaust(stream)
    except (tarfile.TarError, EOFError) as error:
        raise Misfit(f"this is no whole tar archive: {error}") from error
    finally:
        unpacking.finish()
    return unpacking.left_out


def _relative(name: str) -> str:
    """`/data/./x/` as `data/x`; what climbs stays as it is, to be refused."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _exhaust(stream: IO[bytes]) -> None:
    """Read what pads the archive, so that its writer is not cut off."""
    while stream.read(COPY_BYTES):
        pass


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


class _Unpacking:
    def __init__(self, root: str, rename: Callable[[str], str]) -> None:
        self._root = root
        self._rename = rename
        self._folders: dict[str, tarfile.TarInfo] = {}  # their modes and times come last, when nothing is added to them
        self.left_out: list[str] = []

    def add(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        name = self._rename(_relative(entry.name))
        linked = self._rename(_relative(entry.linkname)) if entry.islnk() else entry.linkname
        try:
            safe = tarfile.data_filter(entry.replace(name=name or ".", linkname=linked, deep=False), self._root)
            self._place(tar, entry, safe, name)
        except (tarfile.FilterError, Outside) as error:
            self.left_out.append(f"{entry.name}: {error}")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.left_out.append(f"{entry.name[:100]}…: {error.strerror}")

    def finish(self) -> None:
        for path, entry in sorted(self._folders.items(), reverse=True):
            with contextlib.suppress(OSError):  # it may have been removed meanwhile, or be somebody else's
                os.chmod(path, entry.mode & PERMISSIONS)
                os.utime(path, (entry.mtime, entry.mtime))

    def _place(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, safe: tarfile.TarInfo, name: str) -> None:
        if not name:
            if not entry.isdir():
                raise Misfit(f"{entry.name!r} is no folder")
            return
        path = os.path.join(self._parent(name), PurePosixPath(name).name)
        if entry.isdir():
            self._folder(path, entry)
            return
        if os.path.isdir(path) and not os.path.islink(path):
            raise Misfit(f"cannot put a file in the place of the folder {name!r}")
        if os.path.lexists(path) and not (os.path.islink(path) or os.path.isfile(path)):
            raise Misfit(f"{name!r} is a device, a pipe or a socket: nothing is put in its place")
        draft = os.path.join(os.path.dirname(path), f".nebu-{secrets.token_hex(6)}")
        try:
            self._write(tar, entry, safe, draft)
            os.replace(draft, path)  # whole or not at all, and never through a link that has the name
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)

    def _folder(self, path: str, entry: tarfile.TarInfo) -> None:
        if os.path.islink(path) or not os.path.isdir(path):
            if os.path.lexists(path) and not os.path.isdir(self._inside(path)):
                raise Misfit(f"cannot put a folder in the place of the file {entry.name!r}")
            if not os.path.lexists(path):
                os.mkdir(path, 0o700)
        self._folders[os.path.realpath(path)] = entry

    def _write(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, safe: tarfile.TarInfo, draft: str) -> None:
        if entry.issym():
            os.symlink(safe.linkname, draft)
            os.utime(draft, (entry.mtime, entry.mtime), follow_symlinks=False)
            return
        if entry.islnk():
            source = os.path.join(self._parent(safe.linkname), PurePosixPath(safe.linkname).name)
            if not os.path.lexists(source) or not stat.S_ISREG(os.lstat(source).st_mode):
                raise Outside("it is a hard link to something that is no file of the target")
            os.link(source, draft, follow_symlinks=False)
            return
        content = tar.extractfile(entry)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if content:
                shutil.copyfileobj(content, file, COPY_BYTES)
            os.fchmod(file.fileno(), entry.mode & PERMISSIONS)
        os.utime(draft, (entry.mtime, entry.mtime))

    def _parent(self, name: str) -> str:
        """The real folder that an entry goes into, made if need be.

        Step by step, because the whole path's `realpath` gives up where a path is longer than the system allows.
        """
        here = self._root
        for part in PurePosixPath(name).parent.parts:
            here = os.path.join(here, part)
            if not os.path.lexists(here):
                os.mkdir(here, 0o755)
            here = self._inside(here)
            if not os.path.isdir(here):
                raise Misfit(f"cannot put {name!r} below a file")
        return here

    def _inside(self, path: str) -> str:
        """Follow links, and see that they stay."""
        real = os.path.realpath(path)
        if os.path.commonpath([real, self._root]) != self._root:
            raise Outside(f"{os.path.basename(path)!r} is a link that leads out of the target")
        return real
