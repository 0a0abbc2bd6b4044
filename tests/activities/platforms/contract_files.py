"""The part of the contract that is for platforms with Feature.FILES. `contract.py` mixes it in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from activities.platforms.base import KeepsFiles
from nebulous.errors import NotFound, Rejected
from nebulous.models.platforms import Feature

MTIME = 1_700_000_000


def archive(**files: bytes | None) -> bytes:
    """A tar archive; None is a folder, and `__` in a name is a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.mtime, entry.mode = MTIME, 0o640
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o750
            entry.size = len(content or b"")
            tar.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


class FilesContract:
    """Mixed into PlatformContract."""

    @pytest.fixture
    async def files(self: Any, platform: Any) -> Any:
        """A running instance, as (platform, instance)."""
        if Feature.FILES not in platform.features:
            assert not isinstance(platform, KeepsFiles)
            pytest.skip("it copies no files")
        assert isinstance(platform, KeepsFiles)
        return platform, await self.run(platform, self.stays())

    async def _read(self, files: Any, path: str) -> dict[str, tarfile.TarInfo]:
        platform, instance = files
        packed = b"".join([data async for data in platform.read_files(instance, path)])
        self.tar = tarfile.open(fileobj=io.BytesIO(packed))  # noqa: SIM115 - read from below
        return {entry.name.rstrip("/"): entry for entry in self.tar}

    def _content(self, entry: tarfile.TarInfo) -> bytes:
        content = self.tar.extractfile(entry)
        assert content
        return content.read()

    async def test_what_was_written_is_read_again_with_its_mode_and_time(self: Any, files: Any):
        platform, instance = files
        big = bytes(range(256)) * 8000
        await platform.write_files(instance, ".", pieces(archive(d=None, d__a=b"a", d__big=big), 50_000))
        read = await self._read(files, "d")
        assert set(read) == {"d", "d/a", "d/big"}
        assert self._content(read["d/big"]) == big
        assert (read["d/a"].mode & 0o777, read["d/a"].mtime) == (0o640, MTIME)
        assert (read["d"].mode & 0o777, read["d"].mtime) == (0o750, MTIME)
        assert set(await self._read(files, "d/a")) == {"a"}

    async def test_what_is_there_is_told(self: Any, files: Any):
        platform, instance = files
        await platform.write_files(instance, ".", pieces(archive(f=b"four")))
        found = await platform.stat(instance, "f")
        assert (found.kind, found.link, found.size, found.mode) == ("file", False, 4, 0o640)
        assert found.modified_at == MTIME
        assert (await platform.stat(instance, "/")).kind == "folder"
        await platform.write_files(instance, ".", pieces(self.linked("l", "f")))
        seen = await platform.stat(instance, "l")
        assert (seen.kind, seen.link) == ("file", True)

    @staticmethod
    def linked(name: str, to: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, to
            tar.addfile(link)
        return buffer.getvalue()

    async def test_what_is_not_there_is_not_found(self: Any, files: Any):
        platform, instance = files
        with pytest.raises(NotFound, match="nothing-here"):
            await platform.stat(instance, "nothing-here")
        with pytest.raises(NotFound, match="nothing-here"):
            await self._read(files, "nothing-here")
        with pytest.raises(NotFound, match="nothing-here"):
            await platform.write_files(instance, "nothing-here", pieces(archive(f=b"x")))

    async def test_a_file_is_no_folder_and_a_folder_is_no_file(self: Any, files: Any):
        platform, instance = files
        await platform.write_files(instance, ".", pieces(archive(f=b"x", d=None)))
        with pytest.raises((Rejected, NotFound)):
            await platform.write_files(instance, "f", pieces(archive(g=b"x")))
        with pytest.raises(Rejected):
            await platform.write_files(instance, ".", pieces(archive(d=b"x")))
        assert (await platform.stat(instance, "d")).kind == "folder"

    async def test_no_entry_leaves_the_folder(self: Any, files: Any):
        platform, instance = files
        await platform.write_files(instance, ".", pieces(archive(inner=None)))
        hostile = archive(**{"..__escaped": b"x"})
        with pytest.raises(Rejected):
            await platform.write_files(instance, "inner", pieces(hostile))
        with pytest.raises(NotFound):
            await platform.stat(instance, "escaped")

    async def test_nothing_is_written_through_a_link_that_arrived_with_it(self: Any, files: Any):
        platform, instance = files
        await platform.write_files(instance, ".", pieces(archive(inner=None, victim=None)))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo("way")
            link.type, link.linkname = tarfile.SYMTYPE, "../victim"
            tar.addfile(link)
            entry = tarfile.TarInfo("way/escaped")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
        with pytest.raises(Rejected):
            await platform.write_files(instance, "inner", pieces(buffer.getvalue()))
        with pytest.raises(NotFound):
            await platform.stat(instance, "victim/escaped")
