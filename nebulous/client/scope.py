"""Where a request of the typed client goes."""

from __future__ import annotations

from dataclasses import dataclass

from nebulous import contexts, ids
from nebulous.client.wire import Place
from nebulous.errors import InvalidRequest
from nebulous.models.containers import ContainerSpec
from nebulous.models.resources import MetadataRequest


@dataclass(frozen=True)
class Scope:
    """Where a client looks when nothing else is said; None leaves it to the server."""

    organization: str | None = None
    namespace: str | None = None

    def place(self, plural: str, name: str, namespace: str | None = None, owner: str | None = None) -> Place:
        """Where a resource of this name is; `ORGANIZATION/NAME` says the organization too.

        Raises:
            InvalidRequest: No resource can be called so.
        """
        try:
            said, bare = ids.split_owner(name)
        except ValueError as error:
            raise InvalidRequest(f"name: {error}", None, [(["name"], str(error))]) from error
        within = namespace or self.namespace or contexts.DEFAULT_NAMESPACE
        return Place(plural, bare, within, said or owner or self.organization)

    def asked_of(self, metadata: MetadataRequest | None) -> str | None:
        """The organization of a request; what the metadata says needs no second word."""
        return None if metadata and metadata.owner else self.organization

    def within(self, spec: ContainerSpec) -> ContainerSpec:
        """The specification, with the client's namespace where it names none."""
        metadata = spec.metadata or MetadataRequest()
        if metadata.namespace or not self.namespace:
            return spec
        return spec.model_copy(update={"metadata": metadata.model_copy(update={"namespace": self.namespace})})
