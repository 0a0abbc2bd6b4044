"""The client of a Nebulous server: `Client` and `AsyncClient`, typed from the models; below them `Api` and `AsyncApi`.

    with nebulous.Client() as client:
        container = client.containers.create(name="hello", image="busybox", command="echo hello", wait=True)
        print(container.status.exit_code, client.containers.logs(container).read())

`_async` is written by hand, `_sync` is made of it (`build.py`); what neither waits nor sends is shared: `wire.py`
(requests, replies, pauses), `events.py` and `watching.py` (server-sent events), `scope.py` (where a request goes),
`replies.py` (what comes back). What goes wrong is in `nebulous.errors`. The command line uses `Api` and what copies
files, no more of this.

A `Client` may be used by several threads at once, an `AsyncClient` by several tasks of one event loop; a log or a
watch belongs to one of them.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, cast

# httpx imports its own command line when it can (rich, pygments, click: 0.2 s), and does without when not.
sys.modules.setdefault("httpx._main", cast(Any, None))

import httpx  # noqa: E402 - whoever needs it takes it from here, for the line above

from nebulous.client._sync.api import Api  # noqa: E402
from nebulous.client.wire import Created, Json, Place  # noqa: E402
from nebulous.errors import Ended, InvalidRequest, Unreachable  # noqa: E402

if TYPE_CHECKING:
    from nebulous.client._async.api import AsyncApi
    from nebulous.client._async.client import AsyncClient
    from nebulous.client._async.follow import AsyncLog, AsyncLogFollow
    from nebulous.client._sync.client import Client
    from nebulous.client._sync.follow import Log, LogFollow
    from nebulous.client.executing import Executed
    from nebulous.client.replies import (
        Accelerator,
        Applied,
        Container,
        ContainerChange,
        Me,
        Offer,
        Offers,
        Plan,
        Platform,
        Secret,
    )

__all__ = [
    "Accelerator",
    "Api",
    "Applied",
    "AsyncApi",
    "AsyncClient",
    "AsyncLog",
    "AsyncLogFollow",
    "Client",
    "Container",
    "ContainerChange",
    "Created",
    "Ended",
    "Executed",
    "InvalidRequest",
    "Json",
    "Log",
    "LogFollow",
    "Me",
    "Offer",
    "Offers",
    "Place",
    "Plan",
    "Platform",
    "Secret",
    "Unreachable",
    "httpx",
]

#: What needs pydantic or asyncio is imported on first use, so that a command starts fast.
_LATER = {
    "AsyncApi": "_async.api",
    "AsyncClient": "_async.client",
    "AsyncLog": "_async.follow",
    "AsyncLogFollow": "_async.follow",
    "Client": "_sync.client",
    "Log": "_sync.follow",
    "LogFollow": "_sync.follow",
    "Executed": "executing",
    **dict.fromkeys(
        (
            "Accelerator",
            "Applied",
            "Container",
            "ContainerChange",
            "Me",
            "Offer",
            "Offers",
            "Plan",
            "Platform",
            "Secret",
        ),
        "replies",
    ),
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
