"""What the routes work with, built once for an application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from redis.asyncio import Redis
from starlette.requests import HTTPConnection
from temporalio.client import Client

from api.changes import Changes
from api.lists import Lists
from api.reports import Reports
from api.store import Store
from nebulous import seal, tokens
from nebulous.archive import Archive, open_archive
from nebulous.settings import Settings


@dataclass
class Services:
    """Settings, Temporal, Redis and keys."""

    settings: Settings
    store: Store
    reports: Reports
    changes: Changes
    redis: Redis
    archive: Archive
    signing_key: bytes  # of tokens
    secret_key: bytes  # of secrets
    followers: set[object] = field(default_factory=set[object])
    executions: set[object] = field(default_factory=set[object])
    known_organizations: set[str] = field(default_factory=set[str])

    @classmethod
    def over(cls, settings: Settings, client: Client, redis: Redis) -> Services:
        """Put them together.

        Raises:
            ValueError: A key in the settings is none.
        """
        signing_key = tokens.signing_key(settings)
        changes = Changes(client)
        lists = Lists(client, signing_key, changes.wrote)
        store = Store(client, lists)
        keys = signing_key, seal.secret_key(settings)
        return cls(settings, store, Reports(lists), changes, redis, open_archive(settings), *keys)


def services(connection: HTTPConnection) -> Services:
    """The application's services, as a dependency of requests and websockets."""
    found: Services = connection.app.state.services
    return found


Uses = Annotated[Services, Depends(services)]
