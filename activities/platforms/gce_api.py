"""How Google Compute Engine is spoken to: Google's SDK over REST, in threads, with time-outs and retries of ours.

The SDK's own waiting for operations is not used: it asks through clients that know nothing of another endpoint.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

from activities.platforms.gce_errors import Where, translate
from nebulous.accounts import GceAccount
from nebulous.errors import AuthFailed, NebulousError, Unavailable

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import compute_v1

#: Another endpoint than Google's, for tests and private gateways: `http://127.0.0.1:PORT`.
ENDPOINT = "NEBU_GCE_ENDPOINT"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
RESOURCES = "https://cloudresourcemanager.googleapis.com"

#: Less than a heartbeat's time-out: no request goes on after the activity that sent it was given to somebody else.
WRITE_S = 4.0
READ_S = 10.0
READ_TRIES = 3
READ_PAUSE_S = 0.3
THREADS = 16

T = TypeVar("T")


class Limits(TypedDict):
    """How long a call may take; the SDK's own retries are off."""

    timeout: float
    retry: None


class Clients:
    """The SDK's clients of one account, each made when it is first used; all of them honour the endpoint."""

    def __init__(self, credentials: Credentials, project: str, endpoint: str) -> None:
        """Loads the SDK: seconds, and 160 MB, for those who use it."""
        from google.cloud import compute_v1

        self._sdk = compute_v1
        self.project = project
        self.reads = Limits(timeout=READ_S, retry=None)
        self.writes = Limits(timeout=WRITE_S, retry=None)
        self._credentials, self._endpoint = credentials, endpoint

    def _client(self, kind: Callable[..., T]) -> T:
        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        return kind(credentials=self._credentials, transport="rest", client_options=options)

    @cached_property
    def instances(self) -> compute_v1.InstancesClient:
        """Machines."""
        return self._client(self._sdk.InstancesClient)

    @cached_property
    def zone_operations(self) -> compute_v1.ZoneOperationsClient:
        """What is being done in a zone."""
        return self._client(self._sdk.ZoneOperationsClient)

    @cached_property
    def global_operations(self) -> compute_v1.GlobalOperationsClient:
        """What is being done to firewalls."""
        return self._client(self._sdk.GlobalOperationsClient)

    @cached_property
    def firewalls(self) -> compute_v1.FirewallsClient:
        """Who may reach machines."""
        return self._client(self._sdk.FirewallsClient)

    @cached_property
    def networks(self) -> compute_v1.NetworksClient:
        """Where machines are."""
        return self._client(self._sdk.NetworksClient)

    @cached_property
    def images(self) -> compute_v1.ImagesClient:
        """What machines boot."""
        return self._client(self._sdk.ImagesClient)

    @cached_property
    def machine_types(self) -> compute_v1.MachineTypesClient:
        """Which types each zone has."""
        return self._client(self._sdk.MachineTypesClient)

    @cached_property
    def accelerator_types(self) -> compute_v1.AcceleratorTypesClient:
        """Which accelerators each zone has for N1 machines."""
        return self._client(self._sdk.AcceleratorTypesClient)

    @cached_property
    def projects(self) -> compute_v1.ProjectsClient:
        """Who we are."""
        return self._client(self._sdk.ProjectsClient)

    @cached_property
    def regions(self) -> compute_v1.RegionsClient:
        """Quotas."""
        return self._client(self._sdk.RegionsClient)

    @cached_property
    def session(self) -> AuthorizedSession:
        """For what is not Compute Engine's: which permissions we have."""
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(self._credentials)

    @property
    def resources(self) -> str:
        """Where the Resource Manager answers."""
        return self._endpoint or RESOURCES


class GceApi:
    """One account's connection: calls run in threads of their own, and raise what the table of errors says."""

    def __init__(self, name: str, account: GceAccount) -> None:
        """Connects, and loads the SDK, on first use."""
        self.where = Where(name, account.project or "")
        self._account = account
        self._clients: Clients | None = None
        self._making = Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gce")

    async def project(self) -> str:
        """The id of the project: that of the account, else of its credentials."""
        return await self.read(lambda clients: clients.project)

    async def read(self, call: Callable[[Clients], T], where: Where | None = None) -> T:
        """Ask for something that changes nothing; a few tries, unless Google says that it is no use.

        Raises:
            NebulousError: By the table of `gce_errors.py`.
        """
        for pauses in reversed(range(READ_TRIES)):
            try:
                return await self.write(call, where)
            except Unavailable as error:
                if not pauses:
                    raise
                await asyncio.sleep(min(error.retry_after or READ_PAUSE_S, 2 * READ_PAUSE_S) * random.uniform(0.5, 1))  # noqa: S311 - a pause
        raise AssertionError("the last try returns or raises")

    async def write(self, call: Callable[[Clients], T], where: Where | None = None) -> T:
        """Ask once: who sends it again knows why that is safe.

        Raises:
            NebulousError: By the table of `gce_errors.py`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, call, where or self.where)

    def _call(self, call: Callable[[Clients], T], where: Where) -> T:
        clients = self.connected()
        try:
            return call(clients)
        except Exception as error:
            raise translate(error, replace(where, project=clients.project)) from error

    def connected(self) -> Clients:
        """The clients, made on first use.

        Raises:
            AuthFailed: There are no credentials, or they belong to no project.
        """
        with self._making:
            if self._clients is None:
                try:
                    credentials, project = _credentials(self._account)
                except NebulousError:
                    raise
                except Exception as error:
                    raise translate(error, self.where) from error
                if not project:
                    raise AuthFailed(
                        f"no project is known for {self.where.account}", "set project for the account to its id"
                    )
                self._clients = Clients(credentials, project, os.environ.get(ENDPOINT, ""))
            return self._clients

    async def close(self) -> None:
        """Let go of the threads; a call that is on its way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _credentials(account: GceAccount) -> tuple[Credentials, str]:
    if account.credentials is None:
        import google.auth

        credentials, project = cast("tuple[Credentials, str | None]", google.auth.default(scopes=[SCOPE]))
        return credentials, account.project or project or ""
    from google.oauth2 import service_account

    path = account.credentials.expanduser()
    try:
        key = json.loads(path.read_text())
        made = service_account.Credentials.from_service_account_info(key, scopes=[SCOPE])
    except (OSError, ValueError, AttributeError) as error:
        raise AuthFailed(
            f"{path} is no key of a service account: {error}", "make a JSON key for it, and name it"
        ) from error
    return made, account.project or str(key.get("project_id", ""))
