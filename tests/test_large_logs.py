"""A log of a gigabyte passes through neither memory nor history: real processes, and a real bucket as the archive."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from nebulous import ids, temporal
from nebulous.ids import Address
from tests import bucket
from tests.bucket import S3
from tests.served import Server, until

LINE = "a line of a log that is longer than any memory should be asked for\n"
SIZE = 1024**3
READ_AT_FIRST = 4 * 1024**2
MOST_MORE_MEMORY = 96 * 1024**2  # while six logs at once may be written, each with two parts of 8 MB
MOST_HISTORY = 48 * 1024
LIMIT_S = 300.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with bucket.serving(tmp_path_factory.mktemp("bucket")) as server:
        yield server


@pytest.fixture(scope="module")
def server(store: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    archive = {"NEBU_ARCHIVE": f"s3://{bucket.NAME}/team", "NEBU_ARCHIVE_ENDPOINT": store.url}
    made = Server(tmp_path_factory.mktemp("large"), {**bucket.ENV, **archive})
    try:
        made.ready = made.up()
        yield made
    finally:
        made.close()
        for name in store.there():  # a gigabyte is not for pytest's folder of the last runs
            store.client.delete_object(Bucket=bucket.NAME, Key=name)


class Memory:
    """The most that each process has had resident, beyond what it had at first."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        self._processes = processes
        self._first = {name: process.memory_info().rss for name, process in processes.items()}
        self.more = dict.fromkeys(processes, 0)
        self._over = threading.Event()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for name, process in self._processes.items():
                self.more[name] = max(self.more[name], process.memory_info().rss - self._first[name])

    @contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


@contextmanager
def slow_follower(server: Server, name: str) -> Iterator[None]:
    """The real CLI, whose reader takes a little and then nothing more."""
    command = [sys.executable, "-m", "nebulous", "logs", "-f", name]
    process = subprocess.Popen(command, env=server.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert len(process.stdout.read(READ_AT_FIRST)) == READ_AT_FIRST
        yield
    finally:
        process.kill()
        process.communicate()


def bytes_of(server: Server, path: str) -> int:
    """How many bytes come, all of them in whole lines as they were written."""
    expected = LINE.encode() * 4096
    size = 0
    headers = {"Authorization": f"Bearer {server.ready['token']}"}
    with httpx.stream("GET", f"{server.ready['api']}{path}", headers=headers, timeout=LIMIT_S) as reply:
        for data in reply.iter_raw():
            at = size % len(LINE)
            assert data == expected[at : at + len(data)]
            size += len(data)
    return size


async def history_bytes(server: Server, name: str) -> int:
    client = await temporal.connect(server.ready["temporal"])
    life = client.get_workflow_handle(str(Address("container", "local", ids.DEFAULT_NAMESPACE, name)))
    return (await life.describe()).raw_description.workflow_execution_info.history_size_bytes


def test_a_gigabyte_is_written_archived_and_read_within_a_bound(server: Server, store: S3) -> None:
    memory = Memory({name: psutil.Process(server.marks()[name]["pid"]) for name in ("worker", "api")})
    with memory.watched():
        command = f"yes '{LINE.strip()}' | head -c {SIZE}"
        made = server.nebu("create", "container", "--name", "large", "--platform", "local", "--cmd", command)
        assert made.returncode == 0, made.stderr
        with slow_follower(server, "large"):
            until(lambda: "Released" in server.nebu("events", "large").stdout, "its machine is given back", LIMIT_S)
            assert server.status("large")["status"] == "completed"
            (log,) = (size for name, size in store.there("team/logs/").items() if name.endswith(".log"))
            assert log == SIZE
            assert bytes_of(server, "/v1/containers/default/large/logs") == SIZE
    assert max(memory.more.values()) < MOST_MORE_MEMORY, memory.more
    assert asyncio.run(history_bytes(server, "large")) < MOST_HISTORY


def test_its_last_lines_are_those_that_were_written_last(server: Server) -> None:
    ended = server.nebu("logs", "large", "--tail", "2")
    assert ended.stdout == LINE + LINE[: SIZE % len(LINE)]


def test_a_deleted_ones_is_read_from_the_bucket_by_its_id(server: Server, tmp_path: Path) -> None:
    made = server.nebu("create", "container", "--name", "gone", "--platform", "local", "--cmd", "echo farewell")
    assert made.returncode == 0, made.stderr
    server.until_status("gone", "completed")
    life = json.loads(server.nebu("get", "containers", "gone", "-o", "json").stdout)["metadata"]["id"]
    assert server.nebu("delete", "containers", "gone", "--yes").returncode == 0
    assert server.nebu("logs", life).stdout == "farewell\n"


def test_doctor_names_the_bucket(server: Server, store: S3) -> None:
    lines = [line.split(maxsplit=2) for line in server.nebu("doctor").stdout.splitlines()]
    assert ["ok", "archive:", f"s3://logs/team at {store.url}"] in lines
