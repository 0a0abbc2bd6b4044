"""What a type checker knows of the client: `make check` runs pyright over this, nothing else does."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import assert_type

import nebulous
from nebulous.client import (
    Accelerator,
    AsyncLog,
    Container,
    ContainerChange,
    Executed,
    Log,
    Me,
    Offer,
    Plan,
    Platform,
    Secret,
)
from nebulous.models.container_fields import EnvVar, Port
from nebulous.models.containers import ContainerSpec, ContainerStatus, Status
from nebulous.models.platforms import Usage
from nebulous.models.resources import Event, Metadata


def blocking(client: nebulous.Client) -> None:
    container = client.containers.create(
        name="a",
        image="busybox",
        command=["echo", "hello"],
        env_vars=[EnvVar(key="A", value="1"), {"key": "B", "secret_name": "b"}],
        ports=[Port(port=80)],
        restart="OnFailure",
        wait="running",
    )
    assert_type(container, Container)
    assert_type(container.metadata, Metadata)
    assert_type(container.spec, ContainerSpec)
    assert_type(container.status, ContainerStatus)
    assert_type(container.status.status, Status)
    assert_type(client.containers.list(), Generator[Container])
    assert_type(client.containers.logs(container), Log)
    assert_type([*client.containers.logs(container)], list[bytes])
    assert_type([*client.containers.logs(container).lines()], list[str])
    assert_type(client.containers.events("a"), Sequence[Event])
    assert_type([*client.containers.watch()], list[ContainerChange])
    assert_type(client.containers.plan(name="a"), Plan)
    assert_type(client.secrets.create("a", "b"), Secret)
    assert_type(client.platforms(), list[Platform])
    assert_type(client.accelerators(), list[Accelerator])
    assert_type(client.me(), Me)
    client.containers.create(imagee="busybox")  # pyright: ignore[reportCallIssue] - no such field
    client.containers.create(image=3)  # pyright: ignore[reportArgumentType] - not text
    client.containers.create(image="busybox", restart="never")  # pyright: ignore[reportArgumentType] - no such word
    client.containers.wait(container, "runing")  # pyright: ignore[reportCallIssue, reportArgumentType] - no such status
    assert_type(client.containers.get(container), Container)
    assert_type(client.containers.wait(container), Container)
    assert_type(client.containers.wait(["a", container]), Sequence[Container])
    assert_type([*client.containers.as_completed(["a"])], list[Container])
    assert_type(client.containers.exec("a", ["true"]), Executed)
    assert_type(client.containers.stats("a"), Usage)
    assert_type(client.containers.patch("a", timeout="2h"), Container)
    assert_type(client.offers("1:L40S").offers, list[Offer])


async def asynchronous(client: nebulous.AsyncClient) -> None:
    container = await client.containers.create(image="busybox")
    assert_type(container, Container)
    assert_type(await client.containers.wait(container, "running"), Container)
    assert_type(await client.containers.wait([container], "running"), Sequence[Container])
    assert_type(client.containers.as_completed([container]), AsyncGenerator[Container])
    assert_type(client.containers.list(), AsyncGenerator[Container])
    assert_type(client.containers.logs(container, follow=True), AsyncLog)
    assert_type([chunk async for chunk in client.containers.logs(container)], list[bytes])
    assert_type([line async for line in client.containers.logs(container).lines()], list[str])
    async for change in client.containers.watch():
        assert_type(change.container, Container | None)
