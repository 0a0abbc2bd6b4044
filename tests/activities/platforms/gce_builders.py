"""What tests of Google Compute Engine are told in: launches, orders and offers of one account on the double."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.gce import GceCloud
from activities.platforms.gce_api import ENDPOINT
from activities.platforms.machine_cloud import Order
from activities.platforms.origin import Origin
from nebulous import ids
from nebulous.accounts import GceAccount
from nebulous.models.container_fields import Port
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, Offer
from nebulous.models.resources import Metadata
from tests.doubles.gce import Gce
from tests.doubles.gce_world import sold_out as sold_out

INSTALL = "testinstall2"
HERE = "198.51.100.7"
SCRIPT = "#!/bin/sh\necho hello\n"


@contextmanager
def double(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[Gce]:
    """The cloud, as the SDK finds it; what was wrong with requests or replies fails the test."""
    with Gce(**options) as cloud:
        monkeypatch.setenv(ENDPOINT, cloud.url)
        yield cloud
        assert cloud.wrong == []


def client(cloud: Gce, folder: Path, ssh_from: str = HERE, install: str = INSTALL, **account: Any) -> GceCloud:
    fields = {"credentials": cloud.key(folder), **account}
    return GceCloud("test", install, GceAccount(**fields), Origin(ssh_from, "http://127.0.0.1:9/"))


def connected(cloud: Gce, folder: Path) -> GceCloud:
    """One that goes on with this double when another is made."""
    made = client(cloud, folder)
    made._api.connected()
    return made


def launch(key: str | None = None, *, name: str = "", owner: str = "local", **spec: Any) -> Launch:
    life = ids.new_id()
    name = name or f"c-{life}"
    return Launch(
        metadata=Metadata(name=name, namespace="default", owner=owner, id=life),
        spec={"image": "busybox", "command": "true", **spec},
        key=key or f"nebu-{ids.new_id()}",
        install=INSTALL,
        workflow=f"container/{owner}/default/{name}",
        platform="gce",
    )


def order(key: str | None = None, *, disk_gib: int = 100, ports: list[Port] | None = None, **more: Any) -> Order:
    fields = {name: more.pop(name) for name in ("user_data", "lifetime_s") if name in more}
    asked = launch(key, **more)
    tags = {
        ids.TAG_INSTALL: asked.install,
        ids.TAG_WORKFLOW: asked.workflow,
        ids.TAG_ID: asked.metadata.id,
        ids.TAG_KEY: asked.key,
    }
    return Order(asked, tags, fields.pop("user_data", SCRIPT), disk_gib, ports=ports or [], **fields)


def offer(
    instance_type: str = "g2-standard-4",
    accelerator: str = "L4",
    count: int = 1,
    zone: str = "us-central1-a",
    **fields: Any,
) -> Offer:
    return Offer(
        platform="gce",
        account="gce:test",
        region=zone.rpartition("-")[0],
        zone=zone,
        instance_type=instance_type,
        accelerator=accelerator or None,
        accelerator_count=count,
        **fields,
    )


async def gone(cloud: GceCloud, key: str) -> None:
    """Delete until it is proven, as the release does."""
    while await cloud.find(key):
        await cloud.delete(key)


def machine(key: str, zone: str = "us-central1-a") -> Instance:
    return Instance(key=key, id="1", account="gce:test", region=zone.rpartition("-")[0], zone=zone)
