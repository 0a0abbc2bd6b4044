"""What the typed client sends: a specification or its fields as a document, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel

from nebulous import contexts, ids
from nebulous.client.errors import InvalidRequest
from nebulous.client.wire import Json, Place
from nebulous.models.base import InvalidDocument, check
from nebulous.models.containers import (
    ContainerSpec,
    EnvVar,
    HealthCheck,
    Meter,
    Port,
    Registry,
    Resources,
    SshKey,
    VolumePath,
)
from nebulous.models.resources import MetadataRequest

M = TypeVar("M", bound=BaseModel)

#: A part of a specification: its model, or the same as in a file.
Fields = Mapping[str, object]


class ContainerFields(TypedDict, total=False):
    """The fields of a container's file as arguments, those of its metadata among them; None is as if left out."""

    name: str | None
    namespace: str | None
    owner: str | None
    labels: Mapping[str, str] | None
    owner_ref: str | None
    resource_version: str | None

    image: str | None
    command: str | Sequence[str] | None
    args: Sequence[str] | None
    platform: str | None
    env_vars: Sequence[EnvVar | Fields] | None
    volumes: Sequence[VolumePath | Fields] | None
    accelerators: Sequence[str] | None
    resources: Resources | Fields | None
    queue: str | None
    priority: int | None
    restart: Literal["Never", "OnFailure", "Always"] | None
    max_retries: int | None
    timeout: str | None
    stop_grace: str | None
    provision_timeout: str | None
    ttl_after_finished: str | None
    meters: Sequence[Meter | Fields] | None
    ports: Sequence[Port | Fields] | None
    health_check: HealthCheck | Fields | None
    ssh_keys: Sequence[SshKey | Fields] | None
    spot: bool | None
    regions: Sequence[str] | None
    max_usd_per_hour: float | None
    disk: float | None
    shm_size: float | None
    registry: Registry | Fields | None
    keep_on_failure: str | None
    notify: str | None
    proxy_port: int | None
    authz: Fields | None


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


def container_spec(spec: ContainerSpec | Fields | None, fields: Mapping[str, object]) -> ContainerSpec:
    """One specification of what was given: `fields` win over `spec`.

    Raises:
        InvalidRequest: It does not fit the model; the message is the one that the API would send.
    """
    base: Json = _plain(spec) if spec is not None else {}
    more = {key: _plain(value) for key, value in fields.items()}
    labelled = {key: more.pop(key) for key in MetadataRequest.model_fields if key in more}
    document: Json = {**base, **more}
    if labelled:
        document["metadata"] = {**(document.get("metadata") or {}), **labelled}
    return checked(ContainerSpec, document)


def checked(model: type[M], document: Mapping[str, object]) -> M:
    """The document as its model.

    Raises:
        InvalidRequest: It does not fit.
    """
    try:
        return check(model, dict(document))
    except InvalidDocument as error:
        problems = [(list(each.path), each.message) for each in error.problems]
        raise InvalidRequest(error.message, error.hint, problems) from error


def document(spec: BaseModel) -> Json:
    """What is sent: absent fields left out."""
    return spec.model_dump(mode="json", exclude_none=True)


def within(spec: ContainerSpec, scope: Scope) -> ContainerSpec:
    """The specification, with the client's namespace where it names none."""
    metadata = spec.metadata or MetadataRequest()
    if metadata.namespace or not scope.namespace:
        return spec
    return spec.model_copy(update={"metadata": metadata.model_copy(update={"namespace": scope.namespace})})


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a specification
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    return value
