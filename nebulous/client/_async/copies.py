"""Copies files and folders into and out of a container, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from nebulous.client import copying
from nebulous.client._async.api import AsyncApi
from nebulous.client._async.aside import aside
from nebulous.client.wire import Place
from nebulous.errors import NebulousError, NotFound


async def upload(api: AsyncApi, place: Place, source: str, path: str) -> None:
    """Copy from this machine to a path in the container."""
    copying.check_source(source)
    folder, name = copying.place_there(source, place, path, await _kind(api, place, path))
    packing = copying.Packing(source, name)
    try:
        async with aclosing(_pieces(packing)) as archive:
            await api.write_files(place, folder, archive)
    except NebulousError:
        packing.check()  # what could not be read here is why the rest failed
        raise
    finally:
        await aside(packing.close)


async def download(api: AsyncApi, place: Place, path: str, target: str) -> None:
    """Copy from a path in the container to this machine."""
    is_folder = copying.check_found(place, path, await api.stat(place, path))
    folder, rename = copying.place_here(place, path, is_folder, target)
    # with `/.` an Engine would leave the folder's name out of the archive; `/` still means what a link points to
    asked = (path.removesuffix(".") or "./") if copying.content_only(path) else path
    unpacking: copying.Unpacking | None = None
    try:
        async with api.read_files(place, asked) as pieces:
            unpacking = copying.Unpacking(folder, rename)
            async for piece in pieces:
                await aside(partial(unpacking.write, piece))
        await aside(unpacking.finish)
    finally:
        if unpacking:
            await aside(unpacking.close)


async def _kind(api: AsyncApi, place: Place, path: str) -> str | None:
    try:
        return (await api.stat(place, path))["kind"]
    except NotFound:
        return None


async def _pieces(packing: copying.Packing) -> AsyncGenerator[bytes]:
    while piece := await aside(packing.read):
        yield piece
