"""From what was named to where it is: contexts, namespaces, and names that live somewhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nebulous import contexts, ids
from nebulous.cli.failures import UsageError
from nebulous.cli.names import Target
from nebulous.cli.screen import note
from nebulous.client import Api, Json, Place
from nebulous.errors import NotFound
from nebulous.models.kinds import Kind

_ID = re.compile(r"[2-9a-z]{12}")


def connect() -> Lookup:
    """The server of the context in force; nothing is sent yet.

    Raises:
        Rejected: The file of contexts is malformed.
    """
    context = contexts.load().active()
    return Lookup(Api(context.server, context.token, notice=lambda text: note(f"note: {text}")), context)


@dataclass
class Lookup:
    """Finds resources on one server, for one caller."""

    api: Api
    context: contexts.Context
    namespace: str | None = None  # -n
    owner: str | None = None  # --owner

    def within(self, namespace: str | None, owner: str | None) -> Lookup:
        """The same, as `-n` and `--owner` narrow it."""
        return Lookup(self.api, self.context, namespace, owner)

    @property
    def default_namespace(self) -> str:
        """Where a NAME without -n is looked up first."""
        return self.context.namespace or contexts.DEFAULT_NAMESPACE

    def placed(self, data: Json) -> Json:
        """A document that says no namespace, with the context's; the server's default needs no words."""
        metadata: Any = data.get("metadata") or {}
        if (
            not self.context.namespace
            or not isinstance(metadata, dict)
            or metadata.get("namespace") not in (None, "", "-")
        ):  # pyright: ignore[reportUnknownMemberType]
            return data
        return {**data, "metadata": {**metadata, "namespace": self.context.namespace}}

    def organization(self, target: Target | None = None) -> str | None:
        """The organization asked for; None is the caller's own.

        Raises:
            UsageError: The name says another one than `--owner`.
        """
        named = target.owner if target else None
        if named and self.owner and named.lower() != self.owner.lower():
            raise UsageError(f"{target} is asked for in {named!r} and with --owner {self.owner!r}: give one of them")
        return named or self.owner or self.context.organization

    def place(self, target: Target) -> Place:
        """Where the target is if it is where it is looked up first."""
        kind = target.kind
        namespace = (self.namespace or self.default_namespace) if kind.namespaced else None
        return Place(kind.plural, target.name, namespace, self.organization(target))

    def find(self, target: Target) -> Json:
        """The resource, for reading: in the namespace given, else the default one, else where it is unique.

        Raises:
            NotFound: There is none. UsageError: Several namespaces have one.
        """
        try:
            return self.api.get(self.place(target))
        except NotFound as error:
            found = self._elsewhere(target) or self._by_id(target)
            if len(found) > 1:
                places = ", ".join(sorted(row["metadata"]["namespace"] for row in found))
                raise UsageError(f"{target} is in {places}", "say which one with -n NAMESPACE") from error
            if not found:
                raise self._missing(target) from error
            return found[0]

    def missing(self, target: Target) -> NotFound:
        """Why there is nothing to act on: it is in another namespace, which a write must name, or nowhere."""
        found = [row["metadata"]["namespace"] for row in self._elsewhere(target)]
        if found:
            hint = " or ".join(f"use -n {namespace}" for namespace in sorted(found))
            return NotFound(
                f"{target} is not in {self.default_namespace}: it is in {' and '.join(sorted(found))}", hint
            )
        return self._missing(target)

    def place_of(self, kind: Kind, row: Json) -> Place:
        """Where a row came from."""
        metadata = row["metadata"]
        namespace = metadata["namespace"] if kind.namespaced else None
        return Place(kind.plural, metadata["name"], namespace, metadata["owner"])

    def rows(self, kind: Kind, labels: list[str] | None = None, **filters: Any) -> list[Json]:  # noqa: ANN401 - query
        """All of a kind in the namespace given, else in all namespaces."""
        check_labels(labels)
        namespace = self.namespace if kind.namespaced else None
        return self.api.list(kind.plural, namespace=namespace, owner=self.organization(), label=labels, **filters)

    def options(self, namespace: str, owner: str | None = None) -> str:
        """What must follow a NAME so that the next command finds it again."""
        text = "" if namespace == self.default_namespace else f" -n {namespace}"
        asked = self.owner or owner
        return text + (f" --owner {asked}" if asked and asked != self.context.organization and self.owner else "")

    def _elsewhere(self, target: Target) -> list[Json]:
        if self.namespace or not target.kind.namespaced:
            return []
        wanted = target.name.lower()
        rows = self.api.list(target.kind.plural, owner=self.organization(target), name=target.name)
        return [row for row in rows if row["metadata"]["name"].lower() == wanted]

    def _by_id(self, target: Target) -> list[Json]:
        if not looks_like_id(target.name):
            return []
        try:
            return [self.api.get(Place(target.kind.plural, target.name, owner=self.organization(target)))]
        except NotFound:
            return []

    def _missing(self, target: Target) -> NotFound:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return NotFound(f"{target} does not exist{where}", f"`nebu get {target.kind.plural}` lists what there is")


def check_labels(labels: list[str] | None) -> None:
    """See whether each is something that a list can be narrowed by.

    Raises:
        UsageError: One is not; or it says what not to list, which the server cannot look for.
    """
    for label in labels or []:
        key, equals, value = label.partition("=")
        if equals and key.endswith("!"):
            hint = f"-l {key[:-1]}=OTHER selects; to leave some out, choose from -o json"
            raise UsageError(f"-l {label}: labels select, they cannot exclude", hint)
        if equals and value.startswith("="):
            raise UsageError(f"-l {label}: one = is enough", f"write -l {key}{value}")
        if not key or not equals:
            raise UsageError(f"{label!r} is not a label: write -l KEY=VALUE")


def looks_like_id(name: str) -> bool:
    """True for what may be a `metadata.id`, which outlives its resource in the archive of logs."""
    return bool(_ID.fullmatch(name)) and ids.NAME.match(name) is not None
