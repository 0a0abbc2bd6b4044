"""What a program does with the published client, step by step; prints what it saw as JSON, in its last line."""

from __future__ import annotations

import json
import os
import sys
import time

import requests
from nebu import (
    Container,
    V1Container,
    V1ContainerResources,
    V1Containers,
    V1EnvVar,
    V1Meter,
    V1PortRequest,
    V1SSHKey,
    V1VolumePath,
)

LIMIT_S = 20
PLATFORM = sys.argv[1]
URL = f"{os.environ['NEBU_SERVER']}/v1/containers"
AUTH = {"Authorization": f"Bearer {os.environ['NEBU_API_KEY']}"}

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"


def whole(**changed: object) -> Container:
    """The container of this story, with every field that the client compares."""
    fields = {
        "image": "busybox",
        "env": [V1EnvVar(key="GREETING", value="hello")],
        "command": "echo $GREETING",
        "volumes": [V1VolumePath(source="s3://bucket/data", dest="/data")],
        "accelerators": ["1:A100_SXM"],
        "resources": V1ContainerResources(min_cpu=1, max_memory=8.5),
        "meters": [V1Meter(cost=0.1, currency="USD", unit="second", metric="runtime")],
        "restart": "OnFailure",
        "timeout": "1h 30m",
        "ssh_keys": [V1SSHKey(public_key=PUBLIC_KEY)],
        "ports": [V1PortRequest(port=8000)],
    }
    return Container(name="story", namespace="tales", platform=PLATFORM, **{**fields, **changed})


def there(name: str) -> list[V1Container]:
    listed = V1Containers.model_validate(requests.get(URL, headers=AUTH, timeout=10).json())
    return [each for each in listed.containers if each.metadata.name == name]


def begun(container: Container) -> None:
    """Wait until the life that was announced is the one in the list: the old one is proven gone first."""
    end = time.monotonic() + LIMIT_S
    while [each.metadata.id for each in there("story")] != [container.container.metadata.id]:
        assert time.monotonic() < end, "the new life does not begin"
        time.sleep(0.05)


def later() -> list[list[object]]:
    """A later client: no namespace, every field it knows sent as null, and a POST for what is there already."""
    names = ("env", "command", "args", "volumes", "resources", "meters", "queue", "timeout", "ssh_keys", "ports")
    nulls = dict.fromkeys((*names, "proxy_port", "health_check", "authz", "accelerators", "restart"))
    metadata = {"name": "later", "namespace": None, "labels": None, "owner": None, "owner_ref": None}
    body = {"kind": "Container", "platform": PLATFORM, "metadata": metadata, "image": "busybox", **nulls}
    replies = [requests.post(URL, json=body, headers=AUTH, timeout=10) for _ in range(2)]
    containers = [V1Container.model_validate(reply.json()) for reply in replies]
    return [
        [reply.status_code, each.metadata.namespace, each.metadata.id]
        for reply, each in zip(replies, containers, strict=True)
    ]


def main() -> None:
    first, again = whole(), whole()
    changed = whole(command="echo good-bye")
    begun(changed)
    fewer = Container(name="story", namespace="tales", restart="OnFailure")  # what is not said is kept
    seen = {
        "ids": [each.container.metadata.id for each in (first, again, changed, fewer)],
        "command": fewer.container.command,
        "owner": first.container.metadata.owner,
        "times": [first.container.metadata.created_at, first.container.metadata.updated_at],
        "later": later(),
    }
    changed.delete()
    print(json.dumps(seen))


main()
