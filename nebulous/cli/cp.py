"""`nebu cp`: files and folders into and out of a container, by the rules of `docker cp`, as the client copies them.

What is copied travels as one tar stream and is never whole in memory. What comes out of a container is not trusted:
nothing is written outside of the target (`nebulous/tars.py`).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Annotated, Any

import typer

from nebulous.cli import failures, options
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import Target, select
from nebulous.cli.screen import emit_bytes, note
from nebulous.client import Place
from nebulous.client._sync import copies
from nebulous.client.copying import PIECE_BYTES
from nebulous.errors import InvalidRequest, NebulousError, NotFound, PartlyCopied, Rejected

STREAM = "-"

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
            _download(lookup, place, theirs.path, destination)
        else:
            _upload(lookup, place, source, there.path)
    except (BrokenPipeError, failures.UsageError):
        raise
    except PartlyCopied as error:
        for entry in error.left_out:
            note(f"left out, because it would leave the target: {entry}")
        return failures.FAILED
    except Rejected as error:  # by what stands there, not for what was written; and some may be copied
        raise NebulousError(error.message, error.hint) from error
    except OSError as error:
        raise _failure(error) from error
    return 0


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


def _upload(lookup: Lookup, place: Place, source: str, path: str) -> None:
    if source == STREAM:
        lookup.api.write_files(place, path, _pieces(sys.stdin.buffer))
        return
    try:
        copies.upload(lookup.api, place, source, path)
    except InvalidRequest as error:
        passed = f"nebu exec -i {place.name} -- tee PATH < {shlex.quote(source)}"
        raise failures.UsageError(error.message, f"pass on what can be read from it: {passed}") from error


def _download(lookup: Lookup, place: Place, path: str, destination: str) -> None:
    if destination == STREAM:
        with lookup.api.read_files(place, path) as pieces:
            for piece in pieces:
                emit_bytes(piece)
        return
    try:
        copies.download(lookup.api, place, path, destination)
    except InvalidRequest as error:
        passed = f"nebu exec {place.name} -- cat {shlex.quote(path)}"
        raise failures.UsageError(error.message, f"pass on what can be read from it: {passed}") from error


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    reader: Any = stream
    while piece := reader.read1(PIECE_BYTES):
        yield piece


def _failure(error: OSError) -> NebulousError:
    where = f"{error.filename!r}: " if error.filename else ""
    kind = NotFound if isinstance(error, FileNotFoundError) else NebulousError
    return kind(f"{where}{error.strerror or error}", "this is about the files of this machine")
