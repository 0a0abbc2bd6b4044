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

from nebulous import tars
from nebulous.client.wire import Json, Place
from nebulous.errors import InvalidRequest, NotFound, PartlyCopied, Rejected

PIECE_BYTES = 256 * 1024
SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

Rename = Callable[[str], str]


def content_only(path: str) -> bool:
    """True for `FOLDER/.`, which means what is in the folder, without its name."""
    return path == "." or path.endswith("/.")


def check_source(source: str) -> None:
    """See that there is something to copy.

    Raises:
        NotFound: There is nothing. InvalidRequest: It has no content that a copy could have.
    """
    if not os.path.lexists(source):
        raise NotFound(f"{source!r} does not exist", "give a file or folder of this machine")
    mode = os.lstat(source).st_mode
    if special := next((words for is_one, words in SPECIAL if is_one(mode)), ""):
        raise _without_content(f"{source!r} is {special}", "source", "pass on what it says: exec(stdin=…)")


def place_there(source: str, place: Place, path: str, kind: str | None) -> tuple[str, str]:
    """The folder in the container to unpack in, and the name of the archive's first entry.

    Args:
        source: What is copied, on this machine.
        place: The container.
        path: Where to, in it.
        kind: What is there already; None for nothing.

    Raises:
        NotFound, Rejected: It cannot go there.
    """
    is_folder = source.endswith("/.") or (os.path.isdir(source) and not os.path.islink(source))
    bare, where = path.rstrip("/"), shown(place, path)
    parent, name = posixpath.dirname(bare) or ("/" if path.startswith("/") else "."), posixpath.basename(bare)
    if kind == "folder":
        return path, "." if content_only(source) else os.path.basename(os.path.abspath(source))
    if kind and is_folder:
        raise Rejected(f"cannot copy the folder {source!r} onto the file {where}", "name a folder")
    if kind and path.endswith("/"):
        raise Rejected(f"{where} is no folder", "leave out the `/`")
    if path.endswith("/") and not is_folder:
        raise NotFound(f"{where} is no folder there", "make it, or leave out the `/`")
    return parent, name


def place_here(place: Place, path: str, is_folder: bool, target: str) -> tuple[Path, Rename]:
    """The folder of this machine to unpack in, and what the archive's entries are called in it.

    Args:
        place: The container.
        path: What is copied, in it.
        is_folder: Whether that is a folder.
        target: Where to, on this machine.

    Raises:
        NotFound, Rejected: It cannot go there.
    """
    here = Path(target)
    if here.is_dir():
        return here, _without_first if content_only(path) else str
    if here.exists() and is_folder:
        raise Rejected(f"cannot copy the folder {shown(place, path)} onto the file {target!r}", "name a folder")
    if target.endswith("/") and (here.exists() or not is_folder):
        raise NotFound(f"{target!r} is no folder here", "make it, or leave out the `/`")
    if not here.parent.is_dir():
        raise NotFound(f"there is no folder {str(here.parent)!r} here", "make it first")
    return here.parent, lambda name: "/".join([here.name, *name.split("/")[1:]])


def check_found(place: Place, path: str, found: Json) -> bool:
    """See that what is at a path in a container can be copied; True for a folder.

    Raises:
        InvalidRequest: It has no content that a copy could have.
    """
    if found["kind"] == "other" and not found["link"]:
        what = f"{shown(place, path)} is a device, a pipe or a socket"
        raise _without_content(what, "path", "read it there: exec(container, …)")
    return found["kind"] == "folder" and (not found["link"] or path.endswith(("/", "/.")))


def shown(place: Place, path: str) -> str:
    """A path in a container, as `nebu cp` and `docker cp` write it."""
    return f"{place.name}:{path}"


def _without_content(what: str, argument: str, hint: str) -> InvalidRequest:
    message = f"{what}: only files, folders and links are copied"
    return InvalidRequest(message, hint, [([argument], message)])


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
            PartlyCopied: Something was left out. Rejected: something is in the way. OSError: it cannot be written.
        """
        self.close()
        self.check()
        if self._left_out:
            what = "; ".join(self._left_out)
            message = f"left out, because it would leave the target: {what}"
            raise PartlyCopied(message, "everything else is copied", self._left_out)

    def _do(self) -> None:
        with os.fdopen(self._theirs, "rb") as stream:
            try:
                self._left_out = tars.unpack(stream, self._folder, self._rename)
            except tars.Misfit as error:
                where = str(self._folder)
                raise Rejected(f"{where!r}: {error}", "copy to another place, or remove what is in the way") from error
