"""A specification as programs give it: a model, or its fields as arguments; checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel

from nebulous.errors import InvalidRequest
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
    idle_timeout: str | None
    notify: str | None
    proxy_port: int | None
    authz: Fields | None


def container_spec(spec: ContainerSpec | Fields | None, fields: Mapping[str, object]) -> ContainerSpec:
    """One specification of what was given: `fields` win over `spec`.

    Raises:
        InvalidRequest: It does not fit the model; the message is the one that the API would send.
    """
    base: dict[str, Any] = _plain(spec) if spec is not None else {}
    more = {key: _plain(value) for key, value in fields.items()}
    labelled = {key: more.pop(key) for key in MetadataRequest.model_fields if key in more}
    document: dict[str, Any] = {**base, **more}
    if labelled:
        document["metadata"] = {**(document.get("metadata") or {}), **labelled}
    return checked(ContainerSpec, document)


def merge_patch(
    fields: Mapping[str, object], labels: Mapping[str, str | None] | None, resource_version: str | None
) -> dict[str, Any]:
    """The changes as a JSON merge patch: labels and version are added to what the fields say of the metadata."""
    changes: dict[str, Any] = _plain(fields)
    metadata: dict[str, Any] = {**(changes.pop("metadata", None) or {})}
    if labels:
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    if resource_version is not None:
        metadata["resource_version"] = resource_version
    return {**changes, "metadata": metadata} if metadata else changes


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


def document(spec: BaseModel) -> dict[str, Any]:
    """What is sent: absent fields left out."""
    return spec.model_dump(mode="json", exclude_none=True)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field of a specification
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    return value
