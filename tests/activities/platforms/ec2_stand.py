"""An account of Amazon EC2 for tests: the double, credentials in the environment, and orders to give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.ec2 import Ec2Cloud
from activities.platforms.machine_cloud import Order
from activities.platforms.origin import Origin
from nebulous import ids
from nebulous.accounts import Ec2Account
from nebulous.models.containers import Launch
from nebulous.models.platforms import Offer
from nebulous.models.resources import Metadata
from tests.doubles.ec2 import Ec2Double

INSTALL = "testinstall2"
HERE = "203.0.113.7/32"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Amazon:
    """What a test of EC2 needs."""

    double: Ec2Double
    clock: Clock = field(default_factory=Clock)
    clouds: list[Ec2Cloud] = field(default_factory=list[Ec2Cloud])

    def cloud(self, here: str = HERE, name: str = "default", **account: Any) -> Ec2Cloud:
        """One worker's view of the account."""
        made = Ec2Cloud(name, INSTALL, Ec2Account(**account), Origin(here, "http://127.0.0.1:9/"), clock=self.clock)
        self.clouds.append(made)
        return made

    def offer(self, zone: str = "us-east-1a", kind: str = "g5.xlarge", **fields: Any) -> Offer:
        return Offer(
            platform="ec2",
            account="ec2:default",
            region=zone[:-1],
            zone=zone,
            instance_type=kind,
            accelerator=fields.pop("accelerator", "A10G"),
            accelerator_count=1,
            **fields,
        )

    def order(self, key: str | None = None, **fields: Any) -> Order:
        """An order of a fresh life, or of the key."""
        life = ids.new_id()
        key = key or f"nebu-{life}"
        launch = Launch(
            metadata=Metadata(name="train", namespace="default", owner="local", id=life),
            spec={"image": "busybox", "env_vars": [{"key": "PASSWORD", "value": "hunter2"}]},
            key=key,
            install=INSTALL,
            workflow="container/local/default/train",
        )
        tags = {
            ids.TAG_INSTALL: INSTALL,
            ids.TAG_WORKFLOW: launch.workflow,
            ids.TAG_ID: life,
            ids.TAG_KEY: key,
        }
        return Order(**{"launch": launch, "tags": tags, "user_data": "#!/bin/sh\ntrue\n", "disk_gib": 100, **fields})


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ec2Double]:
    """An empty account, which the SDK finds through the environment."""
    with Ec2Double().served() as double:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", double.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        yield double


@pytest.fixture
async def amazon(ec2: Ec2Double) -> AsyncIterator[Amazon]:
    made = Amazon(ec2)
    yield made
    for cloud in made.clouds:
        await cloud.close()
