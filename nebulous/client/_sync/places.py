# Made of _async/places.py by `make client`; change that file, not this one.
"""Where the typed client finds a container, and which of its lives is meant."""

from __future__ import annotations

from nebulous.client._sync.api import Api
from nebulous.client.replies import Container
from nebulous.client.scope import Scope
from nebulous.client.wire import Json, Place
from nebulous.errors import NotFound

PLURAL = "containers"


class Places:
    """What everything that is done with a container begins with."""

    def __init__(self, api: Api, scope: Scope) -> None:
        self._api, self._scope = api, scope

    def _place(self, container: Container | str, namespace: str | None = None, owner: str | None = None) -> Place:
        if isinstance(container, str):
            return self._scope.place(PLURAL, container, namespace, owner)
        metadata = container.metadata
        return Place(PLURAL, metadata.name, metadata.namespace, metadata.owner)

    def _living(
        self, container: Container | str, namespace: str | None, owner: str | None, within: float | None = None
    ) -> Place:
        """Where it is; a `Container` only as long as its own life has the name. `within` seconds it is asked for once.

        Raises:
            NotFound: That life is over.
        """
        place, life = self._place(container, namespace, owner), life_of(container)
        if life and (self._row(place, within))["metadata"]["id"] != life:
            raise over(container)
        return place

    def _row(self, place: Place, within: float | None) -> Json:
        if within is None:
            return self._api.get(place)
        return self._api.glance(place.path, within, owner=place.owner)


def life_of(container: Container | str) -> str:
    """The one life that is meant; "" is whichever has the name."""
    return "" if isinstance(container, str) else container.metadata.id


def over(container: Container | str) -> NotFound:
    """What is said of a life that another has followed."""
    return NotFound(f"this life of {container} is over: another has begun under its name")
