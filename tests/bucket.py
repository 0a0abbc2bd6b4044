"""A real S3 server on loopback: rclone serves a folder, with signatures checked. A bucket is a folder in it."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3.session
from botocore.config import Config

from tests.served import until

ACCESS, SECRET = "testaccess", "testsecret"
#: What the SDK reads; the last keeps it from asking the network for a role when a test takes the key away.
ENV = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NAME = "logs"


@dataclass
class S3:
    """The server, which can be killed and started again on its port."""

    root: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(default_factory=Path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bucket(self) -> Path:
        return self.root / NAME

    @cached_property
    def client(self) -> Any:
        keys = {"aws_access_key_id": ACCESS, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        config = Config(response_checksum_validation="when_required")
        return boto3.session.Session(**keys).client("s3", endpoint_url=self.url, config=config)

    def there(self, prefix: str = "") -> dict[str, int]:
        """All objects with their bytes, and uploads that are not finished, with -1."""
        listed = self.client.list_objects_v2(Bucket=NAME, Prefix=prefix).get("Contents", ())
        begun: list[Any] = []
        with suppress(self.client.exceptions.NoSuchUpload):  # what rclone says before the first one
            begun = self.client.list_multipart_uploads(Bucket=NAME, Prefix=prefix).get("Uploads", [])
        found = {each["Key"]: each["Size"] for each in listed} | {each["Key"] + " unfinished": -1 for each in begun}
        return {name.removeprefix(prefix): size for name, size in found.items()}

    def start(self) -> None:
        self.log = self.root.with_suffix(".log")
        rclone = Path(sysconfig.get_path("scripts")) / "rclone"
        served = ["serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{self.port}"]
        with self.log.open("wb") as output:
            command = [rclone, *served, "--auth-key", f"{ACCESS},{SECRET}", self.root]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self.port = int(until(self._listens, "rclone listens"))

    def _listens(self) -> str:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.log.read_text().partition("[http://127.0.0.1:")[2].partition("/")[0]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(folder: Path) -> Generator[S3]:
    """One with an empty bucket."""
    server = S3(folder / "s3")
    server.bucket.mkdir(parents=True)
    server.start()
    try:
        yield server
    finally:
        server.kill()
