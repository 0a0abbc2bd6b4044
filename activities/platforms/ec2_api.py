"""Calls to Amazon: boto3 in threads of its own, errors translated, retries ours.

The SDK is imported with the first call. Reads are repeated briefly where Amazon asks for patience; what changes
something is one call, because only the workflow knows whether it may be sent again.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

from activities.platforms import ec2_errors
from nebulous.accounts import Ec2Account
from nebulous.errors import AuthFailed, NebulousError, Unavailable
from nebulous.models.platforms import Offer

CONNECT_S, ANSWER_S = 5.0, 15.0
CALLS_AT_ONCE = 12
TRIES, FIRST_PAUSE_S, NO_MORE_TRIES_AFTER_S = 4, 0.2, 6.0
IDENTITY_FRESH_S = 60.0
FIRST_REGION = "us-east-1"  # who is asked what concerns no region, where nothing else is said

Fields = dict[str, Any]

_MAKING = threading.Lock()  # a client is thread-safe once it is made; making one is not


def many(fields: Fields, name: str) -> list[Any]:
    """A list of an answer; what is empty is often left out."""
    found: Any = fields.get(name)
    return list(found or ())


@cache
def _loader() -> Any:  # noqa: ANN401 - as boto3 has it
    import botocore.loaders

    return cast(Any, botocore.loaders).create_loader()


class Api:
    """One account's clients, made when they are needed. Raises only NebulousError."""

    def __init__(self, account: Ec2Account, clock: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._clock = clock
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="ec2")
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._identity: tuple[float, str] | None = None

    async def call(
        self,
        operation: str,
        region: str,
        params: Fields | None = None,
        *,
        service: str = "ec2",
        offer: Offer | None = None,
    ) -> Fields:
        """Send one request, once.

        Args:
            operation: As Amazon writes it: RunInstances.
            region: Where.
            params: Of the request.
            service: As boto3 calls it.
            offer: What was to be rented, for the words of errors.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._send, service, region, operation, params or {}
            )
        except NebulousError:
            raise
        except Exception as error:  # the SDK's own, and whatever comes out of its sockets
            failure = ec2_errors.translate(error, service, operation, region, offer)
            if isinstance(failure, AuthFailed):
                self._forget_credentials(failure)
            raise failure from error

    async def read(self, operation: str, region: str, params: Fields | None = None, *, service: str = "ec2") -> Fields:
        """Ask for something; again, with a growing pause, while Amazon has no time for it."""
        began = self._clock()
        for tries in range(1, TRIES + 1):
            try:
                return await self.call(operation, region, params, service=service)
            except Unavailable:
                if tries == TRIES or self._clock() - began > NO_MORE_TRIES_AFTER_S:
                    raise
            await asyncio.sleep(FIRST_PAUSE_S * 2 ** (tries - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        raise AssertionError("every try returns or raises")

    async def pages(
        self, operation: str, region: str, rows: str, params: Fields | None = None, *, service: str = "ec2"
    ) -> list[Any]:
        """Ask for a list, page by page."""
        found: list[Any] = []
        token: Fields = {}
        while True:
            page = await self.read(operation, region, {**(params or {}), **token}, service=service)
            found += many(page, rows)
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    async def identity(self, *, anew: bool = False) -> str:
        """The number of the account that the credentials belong to."""
        if not anew and self._identity and self._clock() - self._identity[0] < IDENTITY_FRESH_S:
            return self._identity[1]
        answer = await self.read("GetCallerIdentity", await self.home(), service="sts")
        self._identity = (self._clock(), str(answer["Account"]))
        return self._identity[1]

    async def home(self) -> str:
        """The region to ask what concerns none: the SDK's, which knows the partition (China, GovCloud)."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._home)

    def close(self) -> None:
        """Let go of connections; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _home(self) -> str:
        from botocore.exceptions import BotoCoreError

        try:
            with _MAKING:
                return str(self._opened().region_name or FIRST_REGION)
        except BotoCoreError as error:
            raise ec2_errors.translate(error, "sts", "GetCallerIdentity", "any region") from error

    def _send(self, service: str, region: str, operation: str, params: Fields) -> Fields:
        import botocore

        client = self._client(service, region)
        method: str = cast(Any, botocore).xform_name(operation)
        return getattr(client, method)(**params)

    def _client(self, service: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        from botocore.config import Config

        with _MAKING:
            client = self._clients.get((service, region))
            if client is None:
                config = Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=ANSWER_S,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    max_pool_connections=CALLS_AT_ONCE,
                    user_agent_extra="nebulous",
                )
                client = self._opened().client(service, region_name=region, config=config)
                self._clients[service, region] = client
            return client

    def _opened(self) -> Any:  # noqa: ANN401 - as above
        """The session, with which credentials are found; Amazon's description of its API is read once a process."""
        import boto3
        import botocore.session

        if self._session is None:
            core: Any = cast(Any, botocore.session).Session(profile=self._account.profile)
            loader = _loader()
            core.register_component("data_loader", loader)
            self._session = cast(Any, boto3).session.Session(botocore_session=core)
            loader.search_paths[:] = dict.fromkeys(loader.search_paths)  # each session adds boto3's again
        return self._session

    def _forget_credentials(self, failure: AuthFailed) -> None:
        """Read them again for the next call: they may have been renewed. A missing permission is not about them."""
        if ec2_errors.code(failure) not in ec2_errors.FORBIDDEN | ec2_errors.NOT_OPEN:
            with _MAKING:
                self._session, self._identity = None, None
                self._clients = {}
