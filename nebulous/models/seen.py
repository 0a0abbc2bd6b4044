"""What somebody else has checked and shows, read without a second check, so that a newer server is understood."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel

from nebulous.models.base import model_in

M = TypeVar("M", bound=BaseModel)


def seen(model: type[M], data: Mapping[str, Any]) -> M:
    """The model of it: known fields, models in models, known words as the enum's; all else stays as it is."""
    values = {name: _seen(field.annotation, data[name]) for name, field in model.model_fields.items() if name in data}
    return model.model_construct(**values)


def _seen(annotation: Any, value: Any) -> Any:  # noqa: ANN401 - a type expression, and any JSON
    inner = model_in(annotation)
    if inner is not None and isinstance(value, dict):
        return seen(inner, cast("dict[str, Any]", value))
    if inner is not None and isinstance(value, list):
        return [_seen(inner, each) for each in cast("list[Any]", value)]
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Enum) and value in {each.value for each in kind}:
            return kind(value)
    return value
