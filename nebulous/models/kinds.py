"""The registry of kinds: every word that names one, where its model is, what workflow lives it.

A new kind is one line in `KINDS`. Importing this loads no model and no pydantic: the CLI reads it at start-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nebulous.errors import Rejected

if TYPE_CHECKING:
    from nebulous.models.base import Spec

#: Verbs that only some kinds know; create, get, describe, delete, wait and events are for all.
LIFE = frozenset({"stop", "start", "restart", "logs"})


@dataclass(frozen=True)
class Kind:
    """One kind of resource, as files, routes, commands and workflow ids name it."""

    name: str  # as `kind:` in a file has it; also the type of its workflow
    plural: str  # as routes and commands have it
    short: tuple[str, ...]
    source: str  # "module:Class" of its spec
    workflow: str
    namespaced: bool = True
    verbs: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """The word in workflow ids and in the search attribute NebuKind."""
        return self.name.lower()

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that people may write for it, lower case."""
        return (self.id, self.plural, *self.short)

    @cached_property
    def model(self) -> type[Spec]:
        """The model of its spec, imported on first use."""
        from importlib import import_module

        module, _, name = self.source.partition(":")
        model: type[Spec] = getattr(import_module(module), name)
        return model


KINDS: tuple[Kind, ...] = (
    Kind(
        "Container",
        "containers",
        ("co",),
        "nebulous.models.containers:ContainerSpec",
        "Container",
        verbs=LIFE,
    ),
    Kind("Secret", "secrets", ("sec",), "nebulous.models.secrets:SecretSpec", "Secret"),
)

#: Words of kinds that the design has and this release has not.
LATER: dict[str, tuple[str, ...]] = {
    "Processor": ("processor", "processors", "proc"),
    "Cluster": ("cluster", "clusters", "cl"),
    "Service": ("service", "services", "svc"),
    "Volume": ("volume", "volumes", "vol"),
    "Queue": ("queue", "queues", "q"),
    "Namespace": ("namespace", "namespaces", "ns"),
    "Organization": ("organization", "organizations", "org"),
}


def find(word: str) -> Kind:
    """Look up a kind by its name, plural or short form, in any case.

    Raises:
        Rejected: No such kind, with the nearest one; or one that this release does not have yet.
    """
    folded = word.strip().lower()
    for kind in KINDS:
        if folded in kind.words:
            return kind
    here = ", ".join(kind.name for kind in KINDS)
    for name, words in LATER.items():
        if folded in words:
            raise Rejected(f"kind {name} is not in this release yet", f"this release has {here}")
    guess = _nearest(folded)
    raise Rejected(f"unknown kind {word!r}", f"did you mean {guess}?" if guess else f"kinds are {here}")


def _nearest(word: str) -> str | None:
    from difflib import get_close_matches

    names = {known: kind.name for kind in KINDS for known in kind.words}
    found = get_close_matches(word, names, n=1, cutoff=0.6)
    return names[found[0]] if found else None
