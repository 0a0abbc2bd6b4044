# Made of _async/copies.py by `make client`; change that file, not this one.
"""Copies files and folders into and out of a container, piece by piece."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from functools import partial

from nebulous.client import copying
from nebulous.client._sync.api import Api
from nebulous.client._sync.aside import aside
from nebulous.client.wire import Place
from nebulous.errors import NebulousError, NotFound


def upload(api: Api, place: Place, source: str, path: str) -> None:
    """Copy from this machine to a path in the container."""
    copying.check_source(source)
    folder, name = copying.place_there(source, place, path, _kind(api, place, path))
    packing = copying.Packing(source, name)
    try:
        with closing(_pieces(packing)) as archive:
            api.write_files(place, folder, archive)
    except NebulousError:
        packing.check()  # what could not be read here is why the rest failed
        raise
    finally:
        aside(packing.close)


def download(api: Api, place: Place, path: str, target: str) -> None:
    """Copy from a path in the container to this machine."""
    is_folder = copying.check_found(place, path, api.stat(place, path))
    folder, rename = copying.place_here(place, path, is_folder, target)
    # with `/.` an Engine would leave the folder's name out of the archive; `/` still means what a link points to
    asked = (path.removesuffix(".") or "./") if copying.content_only(path) else path
    unpacking: copying.Unpacking | None = None
    try:
        with api.read_files(place, asked) as pieces:
            unpacking = copying.Unpacking(folder, rename)
            for piece in pieces:
                aside(partial(unpacking.write, piece))
        aside(unpacking.finish)
    finally:
        if unpacking:
            aside(unpacking.close)


def _kind(api: Api, place: Place, path: str) -> str | None:
    try:
        return (api.stat(place, path))["kind"]
    except NotFound:
        return None


def _pieces(packing: copying.Packing) -> Generator[bytes]:
    while piece := aside(packing.read):
        yield piece
