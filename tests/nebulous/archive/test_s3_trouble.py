"""A bucket that cannot be used: which, why and what to do; and a store that goes away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nebulous.archive import Archive, open_archive, s3
from nebulous.errors import AuthFailed, NebulousError, NotFound, RateLimited, Rejected, Unavailable
from nebulous.models.resources import Metadata
from nebulous.settings import Settings
from tests import bucket
from tests.bucket import S3
from tests.doubles import rest

METADATA = Metadata(name="foo", namespace="default", owner="acme", id="abc234defgh5")
NOBODY = "http://127.0.0.1:9"  # the port of `discard`
LIMIT_S = 30


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in bucket.ENV.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(s3, "PATIENCE_S", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3]:
    with bucket.serving(tmp_path) as server:
        yield server


@pytest.fixture
def script() -> Iterator[rest.Server]:
    with rest.rest_server() as server:
        yield server


def at(url: str, name: str = bucket.NAME) -> Archive:
    return open_archive(Settings(archive=f"s3://{name}/team", archive_endpoint=url))


async def trouble(archive: Archive) -> NebulousError:
    """What a worker is told; an API is told the same, and takes it for something that may pass."""
    with pytest.raises(NebulousError) as writing:
        await archive.check_writing()
    with pytest.raises(NebulousError) as reading:
        await archive.check_reading()
    assert type(reading.value) is type(writing.value)
    with pytest.raises(Unavailable):
        await archive.of(METADATA.id).attempts()
    return writing.value


async def test_a_bucket_that_is_not_there(store: S3) -> None:
    error = await trouble(at(store.url, "other"))
    assert type(error) is Rejected
    assert error.message == f"there is no bucket 'other' for the archive s3://other/team at {store.url}"
    assert error.hint == "make it, or change NEBU_ARCHIVE"


@pytest.mark.parametrize(
    ("variable", "said"),
    [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
)
async def test_credentials_that_are_wrong(store: S3, monkeypatch: Any, variable: str, said: str) -> None:
    monkeypatch.setenv(variable, "mistaken")
    error = await trouble(at(store.url))
    assert type(error) is AuthFailed
    assert f"does not take our credentials: {said}" in error.message
    assert "AWS_ACCESS_KEY_ID" in str(error.hint)


async def test_no_credentials_at_all(store: S3, monkeypatch: Any) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    error = await trouble(at(store.url))
    assert type(error) is AuthFailed
    assert error.message.startswith(f"no credentials for the archive s3://logs/team at {store.url}")
    assert "or give the machine a role" in str(error.hint)


async def test_a_profile_that_does_not_exist(store: S3, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    error = await trouble(at(store.url))
    assert type(error) is AuthFailed
    assert "(nope)" in error.message


async def test_a_store_that_does_not_answer() -> None:
    error = await trouble(at(NOBODY))
    assert type(error) is Unavailable
    assert error.message.startswith(f"the archive s3://logs/team at {NOBODY} does not answer: Could not connect")
    assert "NEBU_ARCHIVE_ENDPOINT" in str(error.hint)


def refused(status: int, code: str) -> rest.Reply:
    body = f"<Error><Code>{code}</Code><Message>said the store</Message></Error>".encode()
    return rest.Reply(status, body, [("Content-Type", "application/xml")])


@pytest.mark.parametrize(
    ("status", "code", "kind", "said", "hint"),
    [
        (403, "AccessDenied", AuthFailed, "our credentials may not PutObject in s3://logs/team", "s3:PutObject"),
        (503, "SlowDown", RateLimited, "asks for a pause: SlowDown: said the store", "None"),
        (500, "InternalError", Unavailable, "failed: InternalError: said the store", "None"),
        (404, "NoSuchKey", Rejected, "refused PutObject: NoSuchKey", "docs/settings.md"),
        (400, "InvalidArgument", Rejected, "refused PutObject: InvalidArgument: said the store", "docs/settings.md"),
        (403, "ExpiredToken", AuthFailed, "does not take our credentials: ExpiredToken", "AWS_PROFILE"),
    ],
)
async def test_refusals(script: rest.Server, status: int, code: str, kind: type, said: str, hint: str) -> None:
    script.on("PUT", "/logs/team/about.txt", refused(status, code))
    with pytest.raises(NebulousError) as failure:
        await at(script.url).check_writing()
    assert type(failure.value) is kind
    assert said in failure.value.message
    assert hint in str(failure.value.hint)


async def test_the_sdks_own_variables_count(store: S3, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url.replace("127.0.0.1", "localhost"))
    await open_archive(Settings(archive="s3://logs")).check_writing()
    assert list(store.there()) == ["about.txt"]


async def large(arrived: asyncio.Event, go_on: asyncio.Event) -> AsyncIterator[bytes]:
    for number in range(8):
        yield bytes([number]) * 50_000
        if number == 3:
            arrived.set()
            await go_on.wait()


async def _write(archive: Archive, arrived: asyncio.Event, go_on: asyncio.Event) -> int:
    return await archive.store(METADATA, 1, large(arrived, go_on), lambda _: None)


async def test_an_answer_that_gets_lost_begins_no_log_anew(script: rest.Server, monkeypatch: Any) -> None:
    monkeypatch.setattr(s3, "PATIENCE_S", LIMIT_S)
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.01)
    log = f"/logs/team/logs/{METADATA.id}/0001.log"
    script.on("PUT", f"/logs/team/logs/{METADATA.id}/meta.json", rest.Reply(200, b""))
    script.on("PUT", log, refused(503, "SlowDown"), rest.hang_up(), refused(500, "InternalError"), rest.Reply(200, b""))
    arrived, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()
    assert await _write(at(script.url), arrived, go_on) == 400_000
    assert [len(asked.body) for asked in script.requests("PUT", log)] == [400_000] * 4


async def test_a_store_that_is_away_for_a_while_in_the_middle_of_a_log_is_waited_for(
    script: rest.Server, monkeypatch: Any
) -> None:
    monkeypatch.setattr(s3, "PATIENCE_S", LIMIT_S)
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(s3, "PART_BYTES", 100_000)
    log = f"/logs/team/logs/{METADATA.id}/0001.log"
    xml = [("Content-Type", "application/xml")]
    begun = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
    done = b"<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>"
    part = rest.Reply(200, b"", [("ETag", '"e"')])
    script.on("PUT", f"/logs/team/logs/{METADATA.id}/meta.json", rest.Reply(200, b""))
    script.on("POST", log, rest.Reply(200, begun, xml), rest.Reply(200, done, xml))
    script.on("PUT", log, part, rest.hang_up(), rest.hang_up(), part)
    arrived, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()
    assert await _write(at(script.url), arrived, go_on) == 400_000
    sent = [asked.query["partNumber"] for asked in script.requests("PUT", log) if asked.query]
    assert sent == [["1"], ["2"], ["2"], ["2"], ["3"], ["4"]]
    (asked,) = script.requests("POST", log)[1:]
    assert asked.body.count(b"<PartNumber>") == 4


async def test_a_store_that_stays_away_ends_the_try(store: S3, monkeypatch: Any) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 100_000)
    arrived, go_on = asyncio.Event(), asyncio.Event()
    writing = asyncio.create_task(_write(at(store.url), arrived, go_on))
    await asyncio.wait_for(arrived.wait(), LIMIT_S)
    store.kill()
    go_on.set()
    with pytest.raises(Unavailable, match="does not answer"):
        await asyncio.wait_for(writing, LIMIT_S)
    store.start()
    with pytest.raises(NotFound):
        _ = [data async for data in at(store.url).of(METADATA.id).read(1)]


async def test_a_broken_download_goes_on_where_it_was(script: rest.Server) -> None:
    log = f"/logs/team/logs/{METADATA.id}/0001.log"
    text = b"0123456789" * 100_000
    xml = [("Content-Type", "text/plain")]

    def answer(asked: rest.Asked) -> rest.Reply:
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        cut = len(script.requests("GET", log)) < 4
        return rest.Reply(206, text[start : start + 300_000] if cut else text[start:], xml, cut=cut)

    script.on("GET", log, answer)
    got = b"".join([data async for data in at(script.url).of(METADATA.id).read(1)])
    assert got == text
    assert len(script.requests("GET", log)) == 4


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"archive": "s3://"}, "should be a folder or s3://BUCKET/PREFIX"),
        ({"archive": "s3://UPPER/x"}, "should be a folder or s3://BUCKET/PREFIX"),
        ({"archive": "s3://logs//x"}, "should be a folder or s3://BUCKET/PREFIX"),
        ({"archive": "gs://logs/x"}, "should be a folder or s3://BUCKET/PREFIX"),
        ({"archive": "s3://logs", "archive_endpoint": "localhost:9000"}, "should be a URL such as https://"),
        ({"archive_endpoint": "http://localhost:9000"}, "goes with NEBU_ARCHIVE=s3://BUCKET/PREFIX"),
        ({"archive": "logs", "archive_endpoint": "http://h:1"}, "goes with NEBU_ARCHIVE=s3://BUCKET/PREFIX"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_the_start(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**variables)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "name", "prefix"),
    [
        ("s3://logs", "logs", ""),
        ("s3://logs/", "logs", ""),
        ("s3://my.logs-1/a/b", "my.logs-1", "a/b/"),
        ("s3://logs/a/", "logs", "a/"),
    ],
)
def test_a_bucket_and_its_prefix(given: str, name: str, prefix: str) -> None:
    assert Settings(archive=given).archive_place[:2] == (name, prefix)  # type: ignore[index]
