"""The archive, in a folder and in a bucket: what is written is read, whole or not at all, and by whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nebulous.archive import Archive, Whose, open_archive, s3
from nebulous.archive.store import blocks
from nebulous.errors import NotFound, Rejected, Unavailable
from nebulous.models.resources import Metadata
from nebulous.settings import Settings
from tests import bucket
from tests.bucket import S3

METADATA = Metadata(name="foo", namespace="default", owner="acme", id="abc234defgh5")
PART = 64 * 1024  # of the test's uploads
LARGE = b"".join(b"line %06d\n" % number for number in range(30_000))  # several parts and several blocks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with bucket.serving(tmp_path_factory.mktemp("bucket")) as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An archive, and what lies in it by names and bytes."""
    if request.param == "folder":
        archive = open_archive(Settings(data_dir=tmp_path, archive=str(tmp_path / "kept")))
        yield archive, lambda: sizes(tmp_path / "kept")
        return
    store: S3 = request.getfixturevalue("store")
    for name, value in bucket.ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "PART_BYTES", PART)
    prefix = f"team/{tmp_path.name}"
    archive = open_archive(Settings(archive=f"s3://{bucket.NAME}/{prefix}", archive_endpoint=store.url))
    yield archive, lambda: store.there(f"{prefix}/")


def sizes(root: Path) -> dict[str, int]:
    files = (path for path in root.rglob("*") if path.is_file()) if root.exists() else ()
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in files}


@pytest.fixture
def archive(place: tuple[Archive, Any]) -> Archive:
    return place[0]


@pytest.fixture
def there(place: tuple[Any, Callable[[], dict[str, int]]]) -> Callable[[], dict[str, int]]:
    return place[1]


async def pieces(text: bytes, size: int = 10_000) -> AsyncGenerator[bytes]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


async def keep(archive: Archive, text: bytes, attempt: int = 1, **more: Any) -> int:
    return await archive.store(Metadata(**{**METADATA.model_dump(), **more}), attempt, pieces(text), lambda _: None)


async def read(archive: Archive, attempt: int = 1, offset: int = 0) -> bytes:
    return b"".join([data async for data in archive.of(METADATA.id).read(attempt, offset)])


@pytest.mark.parametrize("text", [b"", b"hello\n", b"x" * PART, LARGE], ids=["nothing", "a line", "one part", "parts"])
async def test_what_is_written_is_read_back_from_any_byte(archive: Archive, text: bytes) -> None:
    assert await keep(archive, text) == len(text)
    assert await archive.of(METADATA.id).attempts() == {1: len(text)}
    for offset in {0, 1, len(text) // 2, max(0, len(text) - 1), len(text), len(text) + 5}:
        assert await read(archive, offset=offset) == text[offset:]


async def test_its_last_lines_are_found(archive: Archive) -> None:
    await keep(archive, LARGE)
    logs = archive.of(METADATA.id)
    for count in (0, 1, 100, 29_999, 30_000, 40_000):
        found = await logs.last_lines(1, len(LARGE), count)
        assert (found.count, LARGE[found.offset :].count(b"\n")) == (min(count, 30_000), min(count, 30_000))


async def test_attempts_come_in_order_and_a_repeated_one_replaces_the_earlier(archive: Archive) -> None:
    for attempt, text in ((10, b"ten"), (2, b"two, but not all"), (12345, b"many"), (2, b"two")):
        await keep(archive, text, attempt)
    assert await archive.of(METADATA.id).attempts() == {2: 3, 10: 3, 12345: 4}
    assert list(await archive.of(METADATA.id).attempts()) == [2, 10, 12345]
    assert await read(archive, 2) == b"two"


async def test_it_knows_whose_they_are(archive: Archive) -> None:
    await keep(archive, b"x")
    assert await archive.of(METADATA.id).whose() == Whose("acme", "default", "foo")
    for other in ("", "..", "../x", "a/b", "A" * 70, "abc234defgh", "about.txt"):
        logs = archive.of(other)
        assert (await logs.whose(), await logs.attempts()) == (None, {})


async def test_a_life_whose_id_is_a_path_is_not_kept(archive: Archive, there: Callable[[], dict[str, int]]) -> None:
    for odd in ("../../etc", "", "a/b", "A"):
        with pytest.raises(Rejected, match="cannot name a folder"):
            await keep(archive, b"x", id=odd)
    assert there() == {}


async def test_what_was_never_written_is_not_there(archive: Archive) -> None:
    await keep(archive, b"x")
    with pytest.raises(NotFound):
        await read(archive, 2)


@pytest.mark.parametrize("failure", [NotFound("the machine is gone"), Unavailable("the line broke")])
async def test_one_that_breaks_off_leaves_the_earlier_and_nothing_else(
    archive: Archive, there: Callable[[], dict[str, int]], failure: Exception
) -> None:
    await keep(archive, b"earlier")
    before = there()

    async def broken() -> AsyncIterator[bytes]:
        async for piece in pieces(LARGE):
            yield piece
        raise failure

    with pytest.raises(type(failure)):
        await archive.store(METADATA, 1, broken(), lambda _: None)
    assert there() == before
    assert await read(archive) == b"earlier"


async def test_one_that_is_cancelled_leaves_nothing(archive: Archive, there: Callable[[], dict[str, int]]) -> None:
    waiting, closed = asyncio.Event(), False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            async for piece in pieces(LARGE):
                yield piece
            waiting.set()
            await asyncio.Event().wait()
        finally:
            closed = True

    task = asyncio.create_task(archive.store(METADATA, 1, endless(), lambda _: None))
    await asyncio.wait_for(waiting.wait(), 20)
    assert len(there()) == 2  # whose it is, and what nobody reads yet
    assert await archive.of(METADATA.id).attempts() == {}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [name.rpartition("/")[2] for name in there()] == ["meta.json"]
    assert closed, "the line to the machine is let go"


async def test_what_a_killed_try_left_is_cleared_by_the_next(
    place: tuple[Archive, Callable[[], dict[str, int]]], request: pytest.FixtureRequest
) -> None:
    archive, there = place
    await keep(archive, b"x", 2)
    if "s3" in request.node.name:
        store: Any = archive._store  # type: ignore[reportPrivateUsage] - what a process does that is killed
        key = f"{store._bucket.prefix}logs/{METADATA.id}/0001.log"
        upload = (await store._once("create_multipart_upload", Key=key))["UploadId"]
        await store._once("upload_part", Key=key, UploadId=upload, PartNumber=1, Body=b"half" * 10_000)
    else:
        Path(archive.place, "logs", METADATA.id, "0001.log.abc.part").write_bytes(b"half")
    assert len(there()) == 3
    await keep(archive, LARGE)
    assert sorted(name.rpartition("/")[2] for name in there()) == ["0001.log", "0002.log", "meta.json"]


async def test_a_try_that_was_overtaken_by_another_ends_and_changes_nothing(archive: Archive) -> None:
    """A worker that was frozen for a while goes on where it was, while another one has begun anew."""
    stopped, go_on = asyncio.Event(), asyncio.Event()

    async def frozen() -> AsyncIterator[bytes]:
        async for piece in pieces(LARGE):
            yield piece
        stopped.set()
        await go_on.wait()
        yield b"late\n"

    first = asyncio.create_task(archive.store(METADATA, 1, frozen(), lambda _: None))
    await asyncio.wait_for(stopped.wait(), 20)
    assert await keep(archive, LARGE) == len(LARGE)
    go_on.set()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(first, 20)
    assert await read(archive) == LARGE


async def test_progress_is_told_in_bytes(archive: Archive) -> None:
    said: list[str] = []
    await archive.store(METADATA, 1, pieces(b"x" * 25_000), said.append)
    assert said == [f"archiving logs, {size} bytes" for size in (10_000, 20_000, 25_000)]


async def test_it_tells_that_it_can_be_used_where_a_worker_writes(archive: Archive) -> None:
    with pytest.raises(NotFound, match="no worker has written to the archive"):
        await archive.check_reading()
    await archive.check_writing()
    await archive.check_reading()


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([], [b""]),
        ([b""], [b""]),
        ([b"abc"], [b"abc"]),
        ([b"abcd", b"e"], [b"abcd", b"e"]),
        ([b"a"] * 8, [b"aaaa"] * 2),
    ],
)
async def test_blocks_have_one_size_but_the_last(given: list[bytes], made: list[bytes]) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for piece in given:
            yield piece

    assert [block async for block in blocks(stream(), 4)] == made
