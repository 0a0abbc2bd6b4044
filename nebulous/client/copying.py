"""Files on their way into and out of a container: where they go by the rules of `docker cp`, and a tar stream of them.

A thread packs or unpacks at one end of a pipe, so that nothing is ever whole in memory, and the caller carries the
pieces; who sends them is `_async/copies.py`.
"""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nebulous import tars
from nebulous.errors import NotFound, Rejected

PIECE_BYTES = 256 * 1024

Rename = Callable[[str], str]


def content_only(path: str) -> bool:
    """True for `FOLDER/.`, which means what is in the folder, without its name."""
    return path == "." or path.endswith("/.")


def check_source(source: str) -> None:
    """See that there is something to copy.

    Raises:
        NotFound: There is nothing. Rejected: It has no content that a copy could have.
    """
    if not os.path.lexists(source):
        raise NotFound(f"{source!r} does not exist", "give a file or folder of this machine")
    mode = os.lstat(source).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        raise Rejected(
            f"{source!r} is a device, a pipe or a socket: only files, folders and links are copied",
            "read it, and pass on what it says with exec(stdin=…)",
        )


def place_there(source: str, path: str, kind: str | None) -> tuple[str, str]:
    """The folder in the container to unpack in, and the name of the archive's first entry.

    Args:
        source: What is copied, on this machine.
        path: Where to, in the container.
        kind: What is there already; None for nothing.

    Raises:
        NotFound, Rejected: It cannot go there.
    """
    is_folder = source.endswith("/.") or (os.path.isdir(source) and not os.path.islink(source))
    bare = path.rstrip("/")
    parent, name = posixpath.dirname(bare) or ("/" if path.startswith("/") else "."), posixpath.basename(bare)
    if kind == "folder":
        return path, "." if content_only(source) else os.path.basename(os.path.abspath(source))
    if path.endswith("/") and (kind or not is_folder):
        raise NotFound(f"{path!r} is no folder in the container", "make it, or leave out the `/`")
    if kind and is_folder:
        raise Rejected(f"cannot copy the folder {source!r} onto the file {path!r}", "name a folder")
    return parent, name


def place_here(path: str, is_folder: bool, target: str) -> tuple[Path, Rename]:
    """The folder of this machine to unpack in, and what the archive's entries are called in it.

    Args:
        path: What is copied, in the container.
        is_folder: Whether that is a folder.
        target: Where to, on this machine.

    Raises:
        NotFound, Rejected: It cannot go there.
    """
    where = Path(target)
    if where.is_dir():
        return where, _without_first if content_only(path) else str
    if where.exists() and is_folder:
        raise Rejected(f"cannot copy the folder {path!r} onto the file {target!r}", "name a folder")
    if target.endswith("/") and (where.exists() or not is_folder):
        raise NotFound(f"{target!r} is no folder here", "make it, or leave out the `/`")
    if not where.parent.is_dir():
        raise NotFound(f"there is no folder {str(where.parent)!r} here", "make it first")
    return where.parent, lambda name: "/".join([where.name, *name.split("/")[1:]])


def check_found(path: str, found: dict[str, Any]) -> bool:
    """See that what is at a path in a container can be copied; True for a folder.

    Raises:
        Rejected: It has no content that a copy could have.
    """
    if found["kind"] == "other" and not found["link"]:
        raise Rejected(
            f"{path!r} is a device, a pipe or a socket in the container: only files, folders and links are copied",
            "read it with exec",
        )
    return found["kind"] == "folder" and (not found["link"] or path.endswith(("/", "/.")))


def _without_first(name: str) -> str:
    return name.partition("/")[2]


class _Beside:
    """A thread at the other end of a pipe."""

    def __init__(self, mine: int) -> None:
        self._mine = mine
        self._in_use = threading.Lock()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break it off, if it still works, and wait until it has ended; again it does nothing."""
        with self._in_use:
            self._close_mine()
        self._thread.join()

    def check(self) -> None:
        """Raise what kept it from its work."""
        if self._failure:
            raise self._failure

    def _close_mine(self) -> None:
        mine, self._mine = self._mine, -1
        if mine >= 0:
            os.close(mine)

    def _work(self) -> None:
        try:
            self._do()
        except BrokenPipeError:
            return  # nobody wants it any more
        except Exception as error:  # for the caller
            self._failure = error

    def _do(self) -> None:
        raise NotImplementedError


class Packing(_Beside):
    """An archive of something here, to be read."""

    def __init__(self, source: str, name: str) -> None:
        """The first entry gets this name; "." makes it the content of a folder."""
        self._source, self._name = source, name
        mine, self._theirs = os.pipe()
        super().__init__(mine)

    def read(self) -> bytes:
        """Read the next piece; nothing at its end.

        Raises:
            OSError: Something could not be read.
        """
        with self._in_use:
            piece = os.read(self._mine, PIECE_BYTES) if self._mine >= 0 else b""
        if not piece:
            self.close()
            self.check()
        return piece

    def _do(self) -> None:
        with os.fdopen(self._theirs, "wb") as out:
            tars.pack(self._source, self._name, out)


class Unpacking(_Beside):
    """An archive on its way into a folder here, to be written."""

    def __init__(self, folder: Path, rename: Rename) -> None:
        self._folder, self._rename = folder, rename
        self._left_out: list[str] = []
        self._theirs, mine = os.pipe()
        super().__init__(mine)

    def write(self, piece: bytes) -> None:
        """Give it more; waits while it has enough.

        Raises:
            Rejected: Something is in the way. OSError: something cannot be written.
        """
        rest = memoryview(piece)
        try:
            with self._in_use:
                while rest and self._mine >= 0:
                    rest = rest[os.write(self._mine, rest) :]
        except BrokenPipeError:
            self.finish()

    def finish(self) -> None:
        """Say that this was all, and wait for the end of it.

        Raises:
            Rejected: Something is in the way, or was left out. OSError: something cannot be written.
        """
        self.close()
        self.check()
        if self._left_out:
            what = "; ".join(self._left_out)
            raise Rejected(f"left out, because it would leave the target: {what}", "everything else is copied")

    def _do(self) -> None:
        with os.fdopen(self._theirs, "rb") as stream:
            try:
                self._left_out = tars.unpack(stream, self._folder, self._rename)
            except tars.Misfit as error:
                where = str(self._folder)
                raise Rejected(f"{where!r}: {error}", "copy to another place, or remove what is in the way") from error
