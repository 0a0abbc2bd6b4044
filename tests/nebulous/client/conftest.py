"""One suite for both clients: the blocking one is dressed so that tests await it like the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nebulous import AsyncClient, Client
from nebulous.client import wire
from nebulous.client._async import follow as async_follow
from nebulous.client._sync import follow as sync_follow
from tests.served_api import ServedApi, served_api
from worker.embedded import Engine

PLAIN = (str, bytes, int, float, bool, type(None), dict, list, tuple, set)
END = object()


class Awaited:
    """A blocking object whose calls can be awaited, and whose iterators can be iterated over asynchronously."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, {"aclose": "close"}.get(name, name))
        if not inspect.ismethod(value):
            return Awaited(value) if type(value).__module__.startswith("nebulous.client._sync") else value
        lazily = inspect.isgeneratorfunction(value) or name in ("logs", "watch", "follow")
        if lazily:
            return lambda *given, **named: Awaited(value(*given, **named))

        async def call(*given: Any, **named: Any) -> Any:
            return await asyncio.to_thread(value, *given, **named)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self if name == "_blocking" else self._blocking, name, value)

    async def __aenter__(self) -> Any:
        self._blocking.__enter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self._blocking.__exit__, *error)

    async def __aiter__(self) -> AsyncIterator[Any]:
        iterator = iter(self._blocking)
        while (item := await asyncio.to_thread(next, iterator, END)) is not END:
            yield item


@pytest.fixture(scope="module")  # its thread draws random numbers, which properties in other modules forbid
def api(session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    folder = tmp_path_factory.mktemp("api")
    with served_api(session_engine.temporal_address, session_engine.redis_url, folder) as served:
        yield served


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the developer's own contexts."""
    config = tmp_path / "nebu" / "config.yaml"
    for name in ("NEBU_SERVER", "NEBU_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEBU_CONFIG", str(config))
    return config


@pytest.fixture(params=["async", "blocking"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def connect(kind: str) -> AsyncIterator[Callable[..., Any]]:
    """Makes a client of either kind."""
    made: list[Any] = []

    def make(*given: Any, **named: Any) -> Any:
        client = AsyncClient(*given, **named) if kind == "async" else Awaited(Client(*given, **named))
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def organization(api: ServedApi) -> str:
    return api.organization()


@pytest.fixture
async def client(api: ServedApi, organization: str, connect: Callable[..., Any]) -> Any:
    """An admin of a fresh organization, on the real API."""
    return connect(api.url, api.token(organization))


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions as in life, but sooner."""
    monkeypatch.setattr(wire, "PAUSES", (0.01, 0.01, 0.01))
    for module in (async_follow, sync_follow):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
