"""`nebu cp`: files and folders into and out of a container, by the rules of `docker cp`.

What is copied travels as one tar stream and is never whole in memory. What comes out of a container is not trusted:
nothing is written outside of the target (`nebulous/tars.py`).
"""

from __future__ import annotations

import os
import posixpath
import shlex
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from nebulous import tars
from nebulous.cli import failures, options
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import Target, select
from nebulous.cli.screen import emit_bytes, note
from nebulous.client import Place
from nebulous.errors import NebulousError, NotFound, Rejected

STREAM = "-"
PIECE_BYTES = 256 * 1024
SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

Source = Annotated[str, typer.Argument(metavar="SRC", help="PATH, NAME:PATH, or - for a tar stream.")]
Destination = Annotated[str, typer.Argument(metavar="DST", help="PATH, NAME:PATH, or - for a tar stream.")]


@dataclass(frozen=True)
class There:
    """A path in a container."""

    target: Target
    path: str


def command(
    source: Source, destination: Destination, namespace: options.Namespace = None, owner: options.Owner = None
) -> int:
    """Copy files and folders: nebu cp SRC NAME:DST, or nebu cp NAME:SRC DST; a folder's content is FOLDER/. there."""
    theirs, ours = _there(source), _there(destination)
    there = _one_of(theirs, ours, source, destination)
    lookup = connect().within(namespace, owner)
    place = lookup.place_of(there.target.kind, lookup.find(there.target))
    try:
        if theirs:
            return _download(lookup, place, theirs.path, destination)
        return _upload(lookup, place, source, there.path)
    except (BrokenPipeError, failures.UsageError):
        raise
    except Rejected as error:  # by what stands there, not for what was written; and some may be copied
        raise NebulousError(error.message, error.hint) from error
    except OSError as error:
        raise _failure(error) from error


def _there(text: str) -> There | None:
    """Read NAME:PATH; a path with a colon of its own begins with `/` or `.`, as docker has it."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        return None
    if not path:
        raise failures.UsageError(f"{text!r} has no path", f"write {name}:/where/it/is")
    target = select([name]).only()
    if "logs" not in target.kind.verbs:
        raise failures.UsageError(f"there are no files in {target.kind.plural}")
    return There(target, path)


def _one_of(theirs: There | None, ours: There | None, source: str, destination: str) -> There:
    """The side that is in a container."""
    if theirs and ours:
        out, into = f"nebu cp {shlex.quote(source)} -", f"nebu cp - {shlex.quote(ours.target.name)}:FOLDER"
        message = f"{source!r} and {destination!r} are both in containers: one of SRC and DST must be on this machine"
        raise failures.UsageError(message, f"copy out and in again: {out} | {into}")
    there = theirs or ours
    if there is None:
        message = f"neither {source!r} nor {destination!r} is in a container: one of SRC and DST must be NAME:PATH"
        raise failures.UsageError(
            message, "name the container, as in nebu cp FILE foo:/tmp; on one machine, `cp` copies"
        )
    return there


# --- into a container ---------------------------------------------------------------------------------


def _upload(lookup: Lookup, place: Place, source: str, path: str) -> int:
    if source == STREAM:
        lookup.api.write_files(place, path, _pieces(sys.stdin.buffer))
        return 0
    if not os.path.lexists(source):
        raise NotFound(f"{source!r} does not exist", "give a file or folder of this machine")
    if special := _special(os.lstat(source).st_mode):
        raise failures.UsageError(
            f"{source!r} is {special}: only files, folders and links are copied",
            f"pass on what can be read from it: nebu exec -i {place.name} -- tee PATH < {shlex.quote(source)}",
        )
    is_folder = os.path.isdir(source) and not os.path.islink(source)
    folder, name = _place_there(lookup, place, source, is_folder or source.endswith("/."), path)
    with _Packed(source, name) as archive:
        try:
            lookup.api.write_files(place, folder, archive.pieces())
        except NebulousError:
            archive.check()  # what could not be read here is why the rest failed
            raise
    return 0


def _place_there(lookup: Lookup, place: Place, source: str, is_folder: bool, path: str) -> tuple[str, str]:
    """The folder in the container to unpack in, and the name of the archive's first entry."""
    own_name = "." if _content_only(source) else os.path.basename(os.path.abspath(source))
    try:
        kind = lookup.api.stat(place, path)["kind"]
    except NotFound as error:
        if path.endswith("/") and not is_folder:
            raise NotFound(f"{place.name}:{path} is no folder there", "make it, or leave out the `/`") from error
        return _parent(path), posixpath.basename(path.rstrip("/"))
    if kind == "folder":
        return path, own_name
    if is_folder:
        raise Rejected(f"cannot copy the folder {source!r} onto the file {place.name}:{path}", "name a folder")
    if path.endswith("/"):
        raise Rejected(f"{place.name}:{path} is no folder", "leave out the `/`")
    return _parent(path), posixpath.basename(path)


def _special(mode: int) -> str:
    """What this is, in words, where it has no content that a copy could have."""
    return next((words for is_one, words in SPECIAL if is_one(mode)), "")


def _parent(path: str) -> str:
    return posixpath.dirname(path.rstrip("/")) or "."


def _content_only(path: str) -> bool:
    return path == "." or path.endswith("/.")


class _Packed:
    """An archive of something here, packed by a thread into a pipe."""

    def __init__(self, source: str, name: str) -> None:
        outer, inner = os.pipe()
        self._out = os.fdopen(outer, "rb")
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._pack, args=(source, name, inner), daemon=True)

    def __enter__(self) -> _Packed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()
        self._thread.join()

    def pieces(self) -> Iterator[bytes]:
        """The archive; a packer that fails breaks it off."""
        while piece := self._out.read1(PIECE_BYTES):
            yield piece
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise why it could not be packed."""
        if self._failure:
            raise self._failure

    def _pack(self, source: str, name: str, descriptor: int) -> None:
        try:
            with os.fdopen(descriptor, "wb") as inner:
                tars.pack(source, name, inner)
        except BrokenPipeError:
            return
        except OSError as error:
            self._failure = error


# --- out of a container -------------------------------------------------------------------------------


def _download(lookup: Lookup, place: Place, path: str, destination: str) -> int:
    if destination == STREAM:
        with lookup.api.read_files(place, path) as pieces:
            for piece in pieces:
                emit_bytes(piece)
        return 0
    found = lookup.api.stat(place, path)
    if found["kind"] == "other" and not found["link"]:
        raise failures.UsageError(
            f"{place.name}:{path} is a device, a pipe or a socket: only files, folders and links are copied",
            f"pass on what can be read from it: nebu exec {place.name} -- cat {shlex.quote(path)}",
        )
    is_folder = found["kind"] == "folder" and (not found["link"] or path.endswith(("/", "/.")))
    folder, rename = _place_here(f"{place.name}:{path}", is_folder, destination)
    # with `/.` an Engine would leave the folder's name out of the archive; `/` still means what a link points to
    with lookup.api.read_files(place, path.removesuffix(".") if _content_only(path) else path) as pieces:
        try:
            left_out = tars.unpack(_Stream(pieces), folder, rename)  # pyright: ignore[reportArgumentType] - reads only
        except tars.Misfit as error:
            raise Rejected(
                f"{destination!r}: {error}", "copy to another place, or remove what is in the way"
            ) from error
    for entry in left_out:
        note(f"left out, because it would leave the target: {entry}")
    return failures.FAILED if left_out else 0


def _place_here(source: str, is_folder: bool, destination: str) -> tuple[Path, Callable[[str], str]]:
    """The folder here to unpack in, and what the archive's entries are called in it."""
    target = Path(destination)
    if target.is_dir():
        return target, _without_first if _content_only(source.partition(":")[2]) else str
    if target.exists() and is_folder:
        raise Rejected(f"cannot copy the folder {source} onto the file {destination!r}", "name a folder")
    if destination.endswith("/") and (target.exists() or not is_folder):
        raise NotFound(f"{destination!r} is no folder here", "make it, or leave out the `/`")
    if not target.parent.is_dir():
        raise NotFound(f"there is no folder {str(target.parent)!r} here", "make it first")
    return target.parent, lambda name: "/".join([target.name, *name.split("/")[1:]])


def _without_first(name: str) -> str:
    return name.partition("/")[2]


class _Stream:
    """Pieces as something to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return piece


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    reader: Any = stream
    while piece := reader.read1(PIECE_BYTES):
        yield piece


def _failure(error: OSError) -> NebulousError:
    where = f"{error.filename!r}: " if error.filename else ""
    kind = NotFound if isinstance(error, FileNotFoundError) else NebulousError
    return kind(f"{where}{error.strerror or error}", "this is about the files of this machine")
