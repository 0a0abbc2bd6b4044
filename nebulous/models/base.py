"""The strict base of every model that people write, and validation errors that people can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from nebulous import durations
from nebulous.errors import Rejected


class Record(BaseModel):
    """What our own programs exchange: tolerant of fields that a newer version added."""

    model_config = ConfigDict(extra="ignore")


class Spec(BaseModel):
    """What a person writes: unknown keys are errors, later upstream spellings are accepted as aliases."""

    model_config = ConfigDict(extra="forbid")

    #: alias -> canonical field
    aliases: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename_aliases(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was written
        if not isinstance(data, dict) or not cls.aliases:
            return data
        renamed: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
        for alias, name in cls.aliases.items():
            if alias not in renamed:
                continue
            if renamed.get(name) is not None and renamed[alias] not in (None, renamed[name]):
                raise ValueError(f"{alias!r} and {name!r} are the same field: give one of them")
            value = renamed.pop(alias)
            if renamed.get(name) is None:
                renamed[name] = value
        return renamed


def _check_duration(text: str) -> str:
    durations.parse(text)
    return text


#: A duration kept as it was written; `durations.parse` gives its length.
Duration = Annotated[
    str,
    AfterValidator(_check_duration),
    Field(json_schema_extra={"format": "duration", "examples": ["30s", "5m", "1h30m", "7d"]}),
]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with what was sent."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return f"{render_path(self.path)}: {self.message}" if self.path else self.message


class InvalidDocument(Rejected):
    """What was sent does not fit its model; `problems` says where and why, all of it."""

    def __init__(self, problems: Sequence[Problem], hint: str | None = None) -> None:
        super().__init__("; ".join(map(str, problems)), hint)
        self.problems = list(problems)

    @property
    def type(self) -> str:
        """For the wire this is a rejection like any other."""
        return "Rejected"


def render_path(path: Iterable[str | int]) -> str:
    """`("env_vars", 0, "key")` as `env_vars[0].key`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one, or None when none is alike."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's errors: which field, which value, what would be right."""
    return [_problem(model, detail) for detail in error.errors(include_url=False)]


def _problem(model: type[BaseModel], detail: Any) -> Problem:  # noqa: ANN401 - pydantic's ErrorDetails
    path = tuple(part for part in detail["loc"] if not _is_branch(part))
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        guess = nearest(str(path[-1]), known)
        advice = f"did you mean {guess!r}?" if guess else f"known fields are {', '.join(sorted(known))}"
        return Problem(path, f"unknown field; {advice}")
    if kind == "missing":
        return Problem(path, "is required")
    if kind == "literal_error":
        expected = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        guess = nearest(str(given), expected)
        advice = f"did you mean {guess!r}? " if guess else ""
        return Problem(path, f"{given!r} is not allowed; {advice}choose one of {', '.join(expected)}")
    if kind == "value_error":
        return Problem(path, str(context["error"]))
    message = str(detail["msg"]).removeprefix("Input should be ")
    return Problem(path, f"should be {message}, not {_shown(given)}" if message != detail["msg"] else message)


def _is_branch(part: str | int) -> bool:
    """Pydantic names the tried member of a union in the path; people never wrote that."""
    return isinstance(part, str) and (part in {"str", "int", "float", "bool"} or "[" in part or "-" in part)


def _shown(value: Any) -> str:  # noqa: ANN401 - anything a person may have written
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """The keys that may stand at this place in a document."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(current.aliases.get(part, part) if issubclass(current, Spec) else part)
        current = _model_in(field.annotation) if field else None
    if current is None:
        return set()
    return set(current.model_fields) | (set(current.aliases) if issubclass(current, Spec) else set())


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type expression
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if found := _model_in(inner):
            return found
    return None


M = TypeVar("M", bound=BaseModel)


def check(model: type[M], data: object) -> M:
    """Validate `data` as `model`.

    Raises:
        InvalidDocument: With every problem, each naming its field, the value and the nearest valid one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidDocument(problems_of(error, model)) from error
