"""Files into and out of a container through both clients, by docker's rules; a real API, a real worker, this host."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from activities.platforms.local import LocalPlatform
from nebulous import AsyncClient, ids
from nebulous.errors import Conflict, InvalidRequest, NotFound, PartlyCopied, Rejected, Unavailable
from tests.doubles.lossy_proxy import proxy
from tests.nebula import eventually
from tests.served_api import ServedApi, served_api
from worker.embedded import Engine

MTIME = 1_650_000_000
LARGE = 64 * 1024 * 1024
HUGE = 8 * 1024 * LARGE  # a file with a hole, so that no disk is filled


@pytest.fixture(scope="module")
def api(session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """With this host as its platform, where a container's files are files."""
    folder = tmp_path_factory.mktemp("api")
    local = LocalPlatform(ids.new_id(), folder, install="test")
    with served_api(session_engine.temporal_address, session_engine.redis_url, folder, local) as served:
        yield served


@pytest.fixture
async def running(client: Any, api: ServedApi) -> Any:
    made = await client.containers.create(
        command="sleep 600", platform=api.platform.account, stop_grace="0s", wait="running", limit=20
    )
    yield made
    await client.containers.stop(made)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder in the container, which on this platform is one of the host."""
    folder = tmp_path / "there"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "f").write_text("their f")
    (folder / "file").write_text("their file")
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "f").write_text("our f")
    (folder / "file").write_text("our file")
    (folder / "file").chmod(0o751)
    os.utime(folder / "file", (MTIME, MTIME))
    return folder


async def test_a_file_goes_in_and_comes_out_with_its_mode_and_time(client: Any, running: Any, here: Path, there: Path):
    await client.containers.upload(running, here / "file", PurePosixPath(f"{there}/new"))
    await client.containers.download(running.metadata.name, f"{there}/new", here / "back")
    for copy in (there / "new", here / "back"):
        assert (copy.read_text(), copy.stat().st_mode & 0o777, copy.stat().st_mtime) == ("our file", 0o751, MTIME)


@pytest.mark.parametrize(
    ("source", "target", "arrives"),
    [
        ("file", "", "file"),
        ("file", "/other", "other"),
        ("file", "/file", "file"),
        ("data", "", "data/deep/f"),
        ("data", "/new", "new/deep/f"),
        ("data", "/new/", "new/deep/f"),
        ("data/.", "/new", "new/deep/f"),
        ("data/.", "", "deep/f"),
    ],
)
async def test_what_is_copied_arrives_where_docker_would_put_it(
    client: Any, running: Any, here: Path, there: Path, source: str, target: str, arrives: str
):
    await client.containers.upload(running, f"{here}/{source}", f"{there}{target}")
    assert (there / arrives).read_text().startswith("our")
    (there / arrives).write_text("their own now")
    await client.containers.download(running, f"{there}/{source}", f"{here}{target}")
    assert (here / arrives).read_text().startswith("their")


async def test_the_working_folder_is_a_place_too(client: Any, running: Any, here: Path):
    await client.containers.exec(running, "mkdir sub; echo x >sub/x", check=True)
    await client.containers.download(running, ".", here / "new")
    await client.containers.download(running, ".", here / "data")
    assert (here / "new" / "sub" / "x").read_text() == (here / "data" / "sub" / "x").read_text() == "x\n"


async def test_a_large_file_is_never_whole_in_memory(client: Any, running: Any, here: Path, there: Path):
    os.truncate(here / "file", LARGE)
    tracemalloc.start()
    try:
        await client.containers.upload(running, here / "file", f"{there}/large")
        await client.containers.download(running, f"{there}/large", here / "back")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (here / "back").stat().st_size == LARGE
    assert peak < LARGE / 4  # the server's part included, which is in this process


@pytest.mark.parametrize(
    ("source", "path", "error", "said"),
    [
        ("{here}/nope", "{there}", NotFound, "nope' does not exist"),
        ("{here}/pipe", "{there}", InvalidRequest, "pipe' is a named pipe: only files, folders and links are copied"),
        ("{here}/file", "{there}/nope/", NotFound, ":{there}/nope/ is no folder there"),
        ("{here}/file", "{there}/file/", Rejected, ":{there}/file/ is no folder"),
        ("{here}/data", "{there}/file", Rejected, "cannot copy the folder .* onto the file"),
        ("{here}/file", "{there}/nope/deep/f", NotFound, "nope/deep"),
    ],
)
async def test_what_cannot_go_in_is_refused_in_words(
    client: Any, running: Any, here: Path, there: Path, source: str, path: str, error: Any, said: str
):
    os.mkfifo(here / "pipe")
    with pytest.raises(error, match=said.format(there=there)):
        await client.containers.upload(running, source.format(here=here), path.format(there=there))


@pytest.mark.parametrize(
    ("path", "target", "error", "said"),
    [
        ("{there}/nope", "{here}", NotFound, "nope"),
        ("{there}/pipe", "{here}", InvalidRequest, "only files, folders and links are copied"),
        ("{there}/data", "{here}/file", Rejected, "cannot copy the folder .* onto the file"),
        ("{there}/file", "{here}/nope/", NotFound, "is no folder here"),
        ("{there}/file", "{here}/nope/file", NotFound, "there is no folder .*nope' here"),
        ("{there}/links", "{here}", PartlyCopied, "would leave the target: links/out: .* absolute path"),
    ],
)
async def test_what_cannot_come_out_is_refused_in_words(
    client: Any, running: Any, here: Path, there: Path, path: str, target: str, error: Any, said: str
):
    os.mkfifo(there / "pipe")
    (there / "links").mkdir()
    (there / "links" / "out").symlink_to("/etc/passwd")
    (there / "links" / "kept").write_text("kept")
    with pytest.raises(error, match=said) as raised:
        await client.containers.download(running, path.format(there=there), target.format(here=here))
    if isinstance(raised.value, PartlyCopied):
        assert [entry.partition(": ")[0] for entry in raised.value.left_out] == ["links/out"]
        assert (here / "links" / "kept").read_text() == "kept"
        assert not (here / "links" / "out").is_symlink()


async def test_what_stands_in_the_way_is_said_on_both_sides(client: Any, running: Any, here: Path, there: Path):
    (here / "data" / "deep" / "f").unlink()
    (here / "data" / "deep" / "f").mkdir()
    with pytest.raises(Rejected, match="cannot put a file in the place of the folder"):
        await client.containers.download(running, f"{there}/data", here)
    (there / "data" / "deep" / "f").unlink()
    (there / "data" / "deep" / "f" / "g").mkdir(parents=True)
    (here / "data" / "deep" / "f").rmdir()
    (here / "data" / "deep" / "f").write_text("a file")
    with pytest.raises(Rejected, match="cannot put a file in the place of the folder"):
        await client.containers.upload(running, here / "data", there.as_posix())


async def test_nothing_is_copied_where_there_is_no_machine(client: Any, running: Any, here: Path, there: Path):
    await client.containers.stop(running)
    await client.containers.wait(running, limit=20)
    await eventually(given_back(client, running), what="its machine is given back")  # the outcome stands before
    with pytest.raises(Conflict, match="has no machine, and so no files"):
        await client.containers.upload(running, here / "file", f"{there}")
    with pytest.raises(Conflict, match="has no machine, and so no files"):
        await client.containers.download(running, f"{there}/file", here)
    with pytest.raises(NotFound, match="nobody"):
        await client.containers.download("nobody", "/etc/passwd", here)


def given_back(client: Any, container: Any) -> Any:
    async def no_rental() -> bool:
        return not (await client.containers.get(container)).raw["status"]["rentals"]

    return no_rental


async def part_of_it(folder: Path) -> None:
    """Wait until some of a file has been written in a folder."""

    async def some() -> bool:
        return any(file.stat().st_size for file in folder.glob(".nebu-*"))

    await eventually(some, what="the copy has begun")


async def test_a_copy_whose_connection_breaks_says_so_and_leaves_nothing_half(
    api: ServedApi, organization: str, connect: Any, running: Any, here: Path, there: Path
):
    os.truncate(there / "file", HUGE)
    with proxy(api.url) as between:
        client = connect(between.url, api.token(organization))
        copying = asyncio.create_task(client.containers.download(running, f"{there}/file", here / "back"))
        await part_of_it(here)
        between.cut()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(copying, 20)
        await client.aclose()
    assert sorted(path.name for path in here.iterdir()) == ["data", "file"]


@pytest.mark.parametrize("kind", ["async"])  # what blocks cannot be cancelled
async def test_cancelling_ends_a_copy_both_ways(
    api: ServedApi, organization: str, running: Any, here: Path, there: Path
):
    os.truncate(there / "file", HUGE)
    os.truncate(here / "file", HUGE)
    async with AsyncClient(api.url, api.token(organization)) as client:
        for work, folder in (
            (client.containers.download(running, f"{there}/file", here / "back"), here),
            (client.containers.upload(running, here / "file", f"{there}/back"), there),
        ):
            copying = asyncio.create_task(work)
            await part_of_it(folder)
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(copying, 20)
            await eventually(only_files(folder), what="nothing is left half")


def only_files(folder: Path) -> Any:
    async def there() -> bool:
        return not [*folder.glob(".nebu-*")] and not (folder / "back").exists()

    return there
