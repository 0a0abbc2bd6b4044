"""Waiting for containers through the typed client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import overload

from nebulous import waiting
from nebulous.client._async import waits
from nebulous.client._async.places import PLURAL, AsyncPlaces
from nebulous.client.replies import Container
from nebulous.waiting import Limit, Until


class AsyncArrivals(AsyncPlaces):
    """Until one container, or each of several, has come to something."""

    @overload
    async def wait(
        self,
        container: Container | str,
        until: Until = "finished",
        *,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> Container: ...

    @overload
    async def wait(
        self,
        container: Sequence[Container | str],
        until: Until = "finished",
        *,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> Sequence[Container]: ...

    async def wait(
        self,
        container: Container | str | Sequence[Container | str],
        until: Until = "finished",
        *,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> Container | Sequence[Container]:
        """Wait until it has a status and return it then; `finished` is any end, good or bad.

        Of several it waits for all, and returns them in the order in which they were given. All share one connection,
        on which the server tells what changes; it goes on through a restart of the server.

        Args:
            container: One, or a list of them.
            until: A status, or `finished`.
            limit: How long to wait at most; a number is seconds.
            namespace: Of names.
            owner: Of names.

        Raises:
            Ended: One has ended otherwise, so it can no longer come to that; the error's `containers` is that one.
            NotReady: Some are not there yet after `limit`; the error's `containers` are those.
            NotFound: One was deleted, and had not come to that before.
        """
        several = [container] if isinstance(container, (Container, str)) else [*container]
        waited = await self._waited(several, until, namespace, owner)
        async with aclosing(waits.each_reached(self._api, waited, until, limit)) as each:
            async for _ in each:
                pass
        found = [one.container for one in waited]
        return found[0] if isinstance(container, (Container, str)) else found

    async def as_completed(
        self,
        containers: Iterable[Container | str],
        until: Until = "finished",
        *,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> AsyncGenerator[Container]:
        """Each of several as soon as it has come to that, as it is then; arguments and errors as of `wait`."""
        waited = await self._waited(containers, until, namespace, owner)
        async with aclosing(waits.each_reached(self._api, waited, until, limit)) as each:
            async for one in each:
                yield one.container

    async def _waited(
        self, containers: Iterable[Container | str], until: str, namespace: str | None, owner: str | None
    ) -> list[waits.Waited]:
        """The lives that are meant; what has only a name is looked up first."""
        waiting.check_until(until)
        waited: list[waits.Waited] = []
        for each in containers:
            found = each
            if isinstance(found, str):
                found = Container.of(await self._api.get(self._scope.place(PLURAL, found, namespace, owner)))
            waited.append(waits.Waited(self._place(found), found))
        return waited
