"""The archive in a bucket of Amazon S3, or of anything that speaks like it.

The SDK blocks, so its calls are made in threads of their own. It costs a third of a second and some 40 MB, so nothing
imports this module unless the settings name a bucket. Its own repetitions are off: here they can be cancelled, and a
log that is half written is not begun anew for one lost answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar, cast

from nebulous.archive.s3_failures import PastTheEnd, UploadLost, translated
from nebulous.archive.store import blocks
from nebulous.errors import NebulousError, Unavailable
from nebulous.settings import Bucket

#: All parts but the last have one size (some stores want that), and there may be 10,000: 80 GB a log.
PART_BYTES = 8 * 1024 * 1024
READ_BYTES = 256 * 1024
#: Logs written at the same time by one store; each holds two parts in memory.
WRITES_AT_ONCE = 6
THREADS = 16
CONNECT_S, ANSWER_S = 5, 30
#: How long a call is repeated while the store does not answer; a machine may be kept, and paid for, meanwhile.
PATIENCE_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0

T = TypeVar("T")


class S3Store:
    """A bucket, below a prefix; implements `Store`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
        self._room = asyncio.Semaphore(WRITES_AT_ONCE)
        self._making = Lock()
        self._made: Any = None

    @property
    def place(self) -> str:
        """The bucket as a URL, and where it is unless that is with Amazon."""
        url = f"s3://{self._bucket.name}/{self._bucket.prefix}".rstrip("/")
        return f"{url} at {self._bucket.endpoint}" if self._bucket.endpoint else url

    async def write(self, path: str, stream: AsyncIterator[bytes], *, patient: bool = True) -> int:
        """Write a small file with one request, a large one part by part: nobody sees it before the last."""
        key = f"{self._bucket.prefix}{path}"
        async with self._room, contextlib.aclosing(blocks(stream, PART_BYTES)) as parts:
            first = await anext(parts)
            if len(first) == PART_BYTES:
                return await self._write_parts(key, first, parts)
            await (self._call if patient else self._once)("put_object", Key=key, Body=first)
            return len(first)

    async def read(self, path: str, offset: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Read over as many connections as it takes: a slow reader's is closed by the store."""
        key, at, opened_at = f"{self._bucket.prefix}{path}", offset, -1
        while end is None or at < end:
            if (body := await self._open(key, at, end)) is None:
                return
            try:
                opened_at = at
                while data := await self._thread(lambda body=body: body.read(READ_BYTES)):
                    at += len(data)
                    yield data
                return
            except Unavailable:
                if at == opened_at:  # nothing came: it is no use to go on
                    raise
            finally:
                body.close()

    async def sizes(self, folder: str) -> dict[str, int]:
        """Ask for the objects below a prefix, as many pages as there are."""
        prefix = f"{self._bucket.prefix}{folder}/"
        found: dict[str, int] = {}
        more: dict[str, Any] = {}
        while True:
            page: Any = await self._once("list_objects_v2", Prefix=prefix, **more)
            found |= {each["Key"].removeprefix(prefix): each["Size"] for each in page.get("Contents", ())}
            if not page.get("IsTruncated"):
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}

    # --- writing a large one --------------------------------------------------------------------------

    async def _write_parts(self, key: str, first: bytes, rest: AsyncIterator[bytes]) -> int:
        await self._forget(key)
        upload = (await self._call("create_multipart_upload", Key=key))["UploadId"]
        try:
            sent = [await self._write_part(key, upload, 1, first)]
            size = len(first)
            async for part in rest:
                sent.append(await self._write_part(key, upload, len(sent) + 1, part))
                size += len(part)
            whole = {"Parts": sent}
            await self._call("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload=whole)
        except BaseException:
            await _finished(self._abort(key, upload))
            raise
        return size

    async def _write_part(self, key: str, upload: str, number: int, part: bytes) -> dict[str, Any]:
        done = await self._call("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=part)
        return {"PartNumber": number, "ETag": done["ETag"]}

    async def _forget(self, key: str) -> None:
        """Give up what killed tries left of this log; where we may not ask for it, a rule of the bucket has to."""
        with contextlib.suppress(NebulousError):
            left: Any = await self._once("list_multipart_uploads", Prefix=key)
            for each in left.get("Uploads", ()):
                if each["Key"] == key:
                    await self._abort(key, each["UploadId"])

    async def _abort(self, key: str, upload: str) -> None:
        with contextlib.suppress(NebulousError):
            await self._once("abort_multipart_upload", Key=key, UploadId=upload)

    # --- calls ----------------------------------------------------------------------------------------

    async def _open(self, key: str, start: int, end: int | None) -> Any:  # noqa: ANN401 - a body of the untyped SDK
        """The body of an object from a byte on; None where it has ended before."""
        wanted = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            return (await self._once("get_object", Key=key, **({"Range": wanted} if start or end else {})))["Body"]
        except PastTheEnd:
            return None

    async def _call(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - answers of the untyped SDK
        """Call until it is done, or refused, or the patience is over; cancelled, end only once the request has."""
        end, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            try:
                return await _finished(self._once(name, **arguments))
            except Unavailable as error:
                if isinstance(error, UploadLost) or time.monotonic() + pause_s > end:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _once(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - answers of the untyped SDK
        return await self._thread(lambda: getattr(self._client(), name)(Bucket=self._bucket.name, **arguments))

    async def _thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._translated, work)

    def _translated(self, work: Callable[[], T]) -> T:
        with translated(self.place, self._bucket.name):
            return work()

    def _client(self) -> Any:  # noqa: ANN401 - the SDK makes its classes as it runs
        with self._making:
            if self._made is None:
                self._made = _connect(self._bucket.endpoint)
            return self._made


def _connect(endpoint: str | None) -> Any:  # noqa: ANN401 - the SDK makes its classes as it runs
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=ANSWER_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=THREADS,
        signature_version="s3v4",
        # Many a store that is not Amazon's knows no checksums in trailers, and sends the whole one with a range.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return cast(Any, Session()).client("s3", endpoint_url=endpoint, config=config)


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a call to its end, also when cancelled: a part that arrives after an abort would stay, and cost."""
    call = asyncio.create_task(work)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call})
        raise
