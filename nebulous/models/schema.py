"""The JSON schema of every kind, made of its model, aliases included: for editors, generators and `nebu schema`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nebulous.models.base import Spec, model_in
from nebulous.models.kinds import Kind, find

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: Kind | str) -> dict[str, Any]:
    """Make the JSON schema of a file that holds one resource of this kind.

    It accepts what `documents.read` and the model accept, the later upstream spellings included.

    Raises:
        Rejected: No such kind.
    """
    found = find(kind) if isinstance(kind, str) else kind
    made: dict[str, Any] = {"$schema": DIALECT, **found.model.model_json_schema(), "title": found.name}
    made["required"] = ["kind", *(name for name in made.get("required", []) if name != "kind")]
    objects: dict[str, dict[str, Any]] = {found.model.__name__: made, **made.get("$defs", {})}
    for model in models(found.model):
        _accept_aliases(model, objects[model.__name__])
        _accept_plain_labels(objects[model.__name__])
    return made


def models(model: type[Spec]) -> Iterator[type[Spec]]:
    """Every model that a document of this one may hold, itself first, each once."""
    seen: list[type[Spec]] = []
    pending = [model]
    while pending:
        current = pending.pop(0)
        if current in seen:
            continue
        seen.append(current)
        yield current
        inner = (model_in(field.annotation) for field in current.model_fields.values())
        pending += [found for found in inner if found and issubclass(found, Spec)]


def _accept_aliases(model: type[Spec], made: dict[str, Any]) -> None:
    properties: dict[str, Any] = made["properties"]
    for alias, name in model.aliases.items():
        properties[alias] = {**properties[name], "title": alias, "description": f"The same as `{name}`."}
        if name in made.get("required", []):
            made["required"].remove(name)  # one of the two; the model says so when both are missing
            made.setdefault("allOf", []).append({"anyOf": [{"required": [name]}, {"required": [alias]}]})


def _accept_plain_labels(made: dict[str, Any]) -> None:
    """Labels may be written as numbers and booleans, and become text."""
    for branch in made["properties"].get("labels", {}).get("anyOf", []):
        if branch.get("type") == "object":
            branch["additionalProperties"] = {"type": ["string", "number", "boolean"]}
