"""Containers through the typed client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Unpack

from nebulous import waiting
from nebulous.client._async import waits
from nebulous.client._async.arrivals import AsyncArrivals
from nebulous.client._async.follow import AsyncLog, AsyncLogText, AsyncStream, AsyncWatch
from nebulous.client._async.inside import AsyncInside
from nebulous.client._async.places import PLURAL, life_of, over
from nebulous.client.replies import Applied, Container, ContainerChange, Plan, record
from nebulous.client.wire import Json, Place
from nebulous.errors import InvalidRequest, NotFound
from nebulous.models import asked
from nebulous.models.asked import ContainerFields, Fields
from nebulous.models.containers import Attempt, ContainerSpec
from nebulous.models.resources import Event, MetadataRequest
from nebulous.models.seen import seen
from nebulous.waiting import Limit, Until


class AsyncContainerWatch(AsyncStream[ContainerChange]):
    """Changes of containers, for ever; `cursor` says where another watch goes on."""

    def __init__(self, changes: AsyncWatch) -> None:
        super().__init__()
        self._changes = changes

    @property
    def cursor(self) -> str | None:
        """The place behind the last change received; None before the first."""
        return self._changes.cursor

    async def _items(self) -> AsyncGenerator[ContainerChange]:
        async with self._changes as changes:
            async for change in changes:
                yield ContainerChange.of(change)


class AsyncContainers(AsyncArrivals, AsyncInside):
    """What can be done with containers.

    A container is named by its name (`namespace` and `owner` then say where, else the client's own are meant;
    `Agentsea/foo` is foo of organization Agentsea), or by a `Container`, which means that life of it and no later
    one of the same name.
    """

    async def create(
        self,
        spec: ContainerSpec | Fields | None = None,
        *,
        wait: bool | Until = False,
        limit: Limit = None,
        idempotency_key: str | None = None,
        **fields: Unpack[ContainerFields],
    ) -> Container:
        """Create a container; the same again, while it lives, gives the same one.

        Args:
            spec: A specification, or the same as in a file; `fields` win over it.
            wait: True waits until it has finished, or with restart Always until it runs; a word, for that status.
            limit: How long to wait at most; a number is seconds.
            idempotency_key: Whoever repeats it gets the first life, finished or not; default one of this call's own.
            fields: Of a specification and its metadata: `name`, `image`, `command`, …

        Raises:
            InvalidRequest: Fields are wrong; most is told before anything is sent.
            Conflict: The name belongs to a living container of another specification.
            Ended, NotReady: As `wait` does.
        """
        until = waiting.check_until(wait) if isinstance(wait, str) else None
        wanted = self._scope.within(asked.container_spec(spec, fields))
        owner = self._scope.asked_of(wanted.metadata)
        made = await self._api.create(PLURAL, asked.document(wanted), owner, idempotency_key)
        container = Container.of(made.resource)
        if not wait:
            return container
        goal = until or waiting.usual(wanted.restart)
        begun = made.outcome != "next"
        return await waits.until_reached(self._api, self._place(container), container, goal, limit, begun=begun)

    async def apply(
        self,
        spec: ContainerSpec | Fields | None = None,
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
        **fields: Unpack[ContainerFields],
    ) -> Applied:
        """Make a container what the specification says: create it, or change in place what can change.

        Args:
            spec: As in `create`, with a name; with a `resource_version` it is refused if it changed since.
            replace: Begin a new life where the change needs one.
            idempotency_key: As in `create`.
            fields: As in `create`.

        Raises:
            InvalidRequest: Fields are wrong.
            Conflict: It needs a new life and `replace` is not true, or it changed since it was read.
        """
        place, document = self._named(asked.container_spec(spec, fields))
        made = await self._api.apply(place, document, replace=replace, key=idempotency_key)
        return Applied(Container.of(made.resource), made.outcome)

    async def patch(
        self,
        container: Container | str,
        fields: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str | None] | None = None,
        resource_version: str | None = None,
        idempotency_key: str | None = None,
        namespace: str | None = None,
        owner: str | None = None,
        **more: Any,  # noqa: ANN401 - any field, and None
    ) -> Container:
        """Change some fields of a living container in place, and leave all others as they are.

        Args:
            container: Which one.
            fields: As in a file, with `more`, `labels` and version on top; None takes a field back to its default.
            labels: These are added or changed; None takes one away.
            resource_version: Refuse it if the container was changed since it had this one.
            idempotency_key: As in `create`.
            namespace: Of a name.
            owner: Of a name.
            more: Fields that change in place: `timeout="2h"`, `restart="Always"`, …

        Raises:
            InvalidRequest, Rejected: A field cannot be so.
            Conflict: A field needs a new life, or it was changed since.
        """
        place = await self._living(container, namespace, owner)
        document = asked.merge_patch({**(fields or {}), **more}, labels, resource_version)
        return Container.of((await self._api.patch(place, document, key=idempotency_key)).resource)

    async def plan(self, spec: ContainerSpec | Fields | None = None, **fields: Unpack[ContainerFields]) -> Plan:
        """What `apply` would change; nothing is done."""
        place, document = self._named(asked.container_spec(spec, fields))
        return record(Plan, await self._api.plan(place, document))

    async def get(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Container:
        """One container as it is now, by name or by how it was.

        Raises:
            NotFound: There is none (any more).
        """
        found = Container.of(await self._api.get(self._place(container, namespace, owner)))
        if life_of(container) not in ("", found.metadata.id):
            raise over(container)
        return found

    async def by_id(self, life: str) -> Container:
        """One container, by its `metadata.id`; a moment after its creation it may not be found yet.

        Raises:
            NotFound: This life is over, or never was.
        """
        return Container.of(await self._api.get(Place(PLURAL, life, owner=self._scope.organization)))

    async def list(
        self,
        *,
        namespace: str | None = None,
        owner: str | None = None,
        status: str | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str | None = None,
        page: int | None = None,
    ) -> AsyncGenerator[Container]:
        """The containers of the organization, newest first, in all namespaces unless one is given.

        Asks for the next page (of `page` containers, at most 1,000) when the last one is used up.
        """
        filters = _filters(namespace, owner or self._scope.organization, labels)
        async for row in self._api.rows(PLURAL, status=status, queue=queue, limit=page, **filters):
            yield Container.of(row)

    async def stop(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Container:
        """Ask for the end of its command and of its machine, and return at once; the row and the logs stay."""
        return await self._act("stop", container, namespace, owner)

    async def start(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Container:
        """Ask for another run of one that has ended, on a new machine; return once it has left its end.

        Without a worker that does something about it, return after some seconds: the wish is remembered.
        """
        found = await self._act("start", container, namespace, owner)
        return await waits.until_left(self._api, self._place(found), found) if found.finished else found

    async def restart(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Container:
        """Ask for the end of its command and another start on the same machine, and return at once."""
        return await self._act("restart", container, namespace, owner)

    async def delete(
        self,
        container: Container | str,
        *,
        wait: bool = False,
        limit: Limit = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> None:
        """Ask for its end and return at once, or with `wait` once it is proven that nothing is left of it.

        Raises:
            NotFound: There is none.
            NotReady: It is not gone yet after `limit`; the deletion goes on.
        """
        place = await self._living(container, namespace, owner)
        row: Json = await self._api.delete(place)
        if wait:
            await waits.until_gone(self._api, place, life_of(container) or str(row["metadata"]["id"]), limit)

    def logs(
        self,
        container: Container | str,
        *,
        follow: bool = False,
        tail: int | None = None,
        offset: int | None = None,
        namespace: str | None = None,
        owner: str | None = None,
    ) -> AsyncLog:
        """What its command wrote: iterate for bytes, or over `lines()`; `read()` gives all.

        Args:
            container: Its logs are there until it is deleted, and those of a `Container` even after that.
            follow: Go on until the command ends; then `end` says how. Survives broken connections.
            tail: Begin with this many last lines.
            offset: With `follow`: begin there, as the `offset` of another log counted.
            namespace: Of a name.
            owner: Of a name.
        """
        place, life = self._place(container, namespace, owner), life_of(container)
        if follow:
            return self._api.follow(place, life or None, tail=tail, offset=offset)
        return AsyncLogText(lambda: self._text(place, life, tail))

    async def events(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Sequence[Event]:
        """The last things that happened to it, oldest first."""
        history = await self._api.history(await self._living(container, namespace, owner))
        return [seen(Event, each) for each in history["events"]]

    async def attempts(
        self, container: Container | str, *, namespace: str | None = None, owner: str | None = None
    ) -> Sequence[Attempt]:
        """The offers that were tried for it, with price and error, oldest first."""
        history = await self._api.history(await self._living(container, namespace, owner))
        return [seen(Attempt, each) for each in history["attempts"]]

    def watch(
        self,
        *,
        name: str | None = None,
        namespace: str | None = None,
        owner: str | None = None,
        labels: Mapping[str, str] | None = None,
        cursor: str | None = None,
    ) -> AsyncContainerWatch:
        """What is there (`added`), then `synced`, then every change, for ever.

        Survives broken connections and misses nothing; where that is impossible `reset` comes first and everything
        present again.

        Args:
            name: Only this one.
            namespace: Only here; default everywhere in the organization.
            owner: Organization.
            labels: Only those with all of these.
            cursor: Of an earlier watch: only what changed since is told.
        """
        filters = _filters(namespace, owner or self._scope.organization, labels)
        return AsyncContainerWatch(self._api.watch("container", cursor, name=name, **filters))

    def _named(self, spec: ContainerSpec) -> tuple[Place, Json]:
        """Where a specification belongs, and what is sent there."""
        spec = self._scope.within(spec)
        metadata = spec.metadata or MetadataRequest()
        if metadata.name is None:
            message = "metadata.name: is required to say which container is meant"
            raise InvalidRequest(message, "give name=…", [(["metadata", "name"], "is required")])
        place = self._scope.place(PLURAL, metadata.name, metadata.namespace, metadata.owner)
        return place, asked.document(spec)

    async def _act(self, verb: str, container: Container | str, namespace: str | None, owner: str | None) -> Container:
        return Container.of(await self._api.act(await self._living(container, namespace, owner), verb))

    async def _text(self, place: Place, life: str, tail: int | None) -> AsyncGenerator[bytes]:
        """The log of this life; by its name where its id is not found, which a new one's may not be for a moment."""
        try:
            async for chunk in self._api.logs(Place(PLURAL, life, owner=place.owner) if life else place, tail=tail):
                yield chunk
        except NotFound:
            if not life or (await self._api.get(place))["metadata"]["id"] != life:
                raise
            async for chunk in self._api.logs(place, tail=tail):
                yield chunk


def _filters(namespace: str | None, owner: str | None, labels: Mapping[str, str] | None) -> dict[str, Any]:
    pairs = [f"{key}={value}" for key, value in (labels or {}).items()]
    return {"namespace": namespace, "owner": owner, "label": pairs or None}
