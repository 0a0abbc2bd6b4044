"""Waiting until containers have come to something, or are gone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from nebulous import waiting
from nebulous.client._async.api import AsyncApi
from nebulous.client._async.looks import AsyncLooks, Look
from nebulous.client._async.places import over
from nebulous.client.replies import Container
from nebulous.client.wire import Place
from nebulous.errors import Ended, NotReady
from nebulous.waiting import Limit

NAMED = 3  # of those that are late, in a message


@dataclass
class Waited:
    """One life that is waited for, as last seen."""

    place: Place
    container: Container
    begun: bool = True  # False: its name may have another life before it

    def arrived(self, look: Look, until: str) -> bool:
        """Take a look at it; True once it has come to what is waited for.

        Raises:
            Ended, NotFound: It can no longer come to that.
        """
        life = look.row["metadata"]["id"] if look.row else ""
        if look.gone and (not life or life == self.container.metadata.id):
            return self._ended_before(look.gone, look, until)
        if look.gone or life != self.container.metadata.id:
            if self.begun and not look.gone:
                raise over(self.container)
            return False
        self.container, self.begun = Container.of(look.row), True
        return self._reached(until)

    def _ended_before(self, gone: Exception, look: Look, until: str) -> bool:
        """It was deleted; what it had come to before counts, though nobody looked in time."""
        last = Container.of(look.row) if look.row else self.container
        if not last.finished:  # a deletion ends what runs, which is no end of its own
            raise gone
        self.container = last
        return self._reached(until)

    def _reached(self, until: str) -> bool:
        try:
            return waiting.reached(until, self.container.status, str(self.container))
        except Ended as error:
            error.containers = [self.container]
            raise


async def each_reached(api: AsyncApi, waited: Sequence[Waited], until: str, limit: Limit) -> AsyncGenerator[Waited]:
    """Each life as soon as it has come to what is waited for.

    Raises:
        Ended, NotReady, NotFound: As `containers.wait` says.
    """
    left = [*waited]
    looks = AsyncLooks(api, [one.place for one in left], limit)
    async with aclosing(looks.looks()) as each:
        async for look in each:
            for one in [one for one in left if one.place == look.place and one.arrived(look, until)]:
                left.remove(one)
                yield one
            if not any(one.place == look.place for one in left):
                looks.let_go(look.place)
    if left:
        raise _late(left, until, limit)


def _late(left: Sequence[Waited], until: str, limit: Limit) -> NotReady:
    shown = [f"{one.container} is {waiting.described(one.container.status)}" for one in left[:NAMED]]
    more = [f"{len(left) - NAMED} more are under way"] if len(left) > NAMED else []
    goes_on = "it goes on" if len(left) == 1 else "they go on"
    words = "; ".join([*shown, *more])
    late = NotReady(f"{words}, and not {until} after {waiting.shown(limit)}", f"{goes_on}: wait again, or longer")
    late.containers = [one.container for one in left]
    return late


async def until_reached(
    api: AsyncApi, place: Place, container: Container, until: str, limit: Limit, *, begun: bool = True
) -> Container:
    """Wait until this life has come to what is waited for.

    Raises:
        Ended, NotReady, NotFound: As `containers.wait` says.
    """
    one = Waited(place, container, begun)
    async for _ in each_reached(api, [one], until, limit):
        pass
    return one.container


async def until_gone(api: AsyncApi, place: Place, life: str, limit: Limit) -> None:
    """Wait until nothing is left of this life.

    Raises:
        NotReady: Something is, after the limit.
    """
    async with aclosing(AsyncLooks(api, [place], limit).looks()) as looks:
        async for look in looks:
            now = str(look.row["metadata"]["id"]) if look.row else ""
            if (look.gone and now in ("", life)) or (life and now != life):
                return
    raise NotReady(f"container/{place.name} is not gone yet after {waiting.shown(limit)}", "its deletion goes on")


async def until_left(api: AsyncApi, place: Place, ended: Container) -> Container:
    """Wait a moment until one that has ended runs again, so that whoever waits next does not meet the old end."""
    container = ended
    async with aclosing(AsyncLooks(api, [place], waiting.LEAVES_WITHIN).looks()) as looks:
        async for look in looks:
            if look.gone:
                raise look.gone
            container = Container.of(look.row)
            if not container.finished or container.status.attempt != ended.status.attempt:
                break
    return container
