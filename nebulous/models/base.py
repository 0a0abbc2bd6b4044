"""The strict base of every model that people write, and validation errors that people can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from nebulous import durations
from nebulous.errors import Rejected

#: Marks a field that a living resource takes without a new life: nothing that was rented or started depends on it,
#: only decisions still to come. In the JSON schema it stands as it is here.
IN_PLACE: dict[str, JsonValue] = {"in_place": True}


class Record(BaseModel):
    """What our own programs exchange: tolerant of fields that a newer version added."""

    model_config = ConfigDict(extra="ignore")


class Spec(BaseModel):
    """What a person writes: unknown keys are errors, later upstream spellings are accepted as aliases.

    Null is the same as leaving a field out: the published clients send every field that they know.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    #: alias -> canonical field
    aliases: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_spellings(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was written
        if not isinstance(data, dict):
            return cast("object", data)
        given = cast("dict[str, Any]", data)
        renamed = {key: value for key, value in given.items() if value is not None or not cls._has_default(key)}
        for alias, name in cls.aliases.items():
            if alias not in renamed:
                continue
            if renamed.get(name) is not None and renamed[alias] not in (None, renamed[name]):
                raise ValueError(f"{alias!r} and {name!r} are the same field: give one of them")
            value = renamed.pop(alias)
            if renamed.get(name) is None:
                renamed[name] = value
        return renamed

    @classmethod
    def _has_default(cls, name: str) -> bool:
        """True for a field that is something even when nobody says what."""
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required() and field.default is not None

    @classmethod
    def comparable(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """What two stored specs are compared by: every field, defaults filled in, but not who and where it is.

        What does not fit the model is compared as it is.
        """
        given = {name: value for name, value in stored.items() if name not in IDENTITY}
        try:
            return cls.model_validate(given).model_dump(mode="json", exclude=set(IDENTITY))
        except ValidationError:
            return given


#: Who and where a resource is, which is nothing that a spec asks for.
IDENTITY = ("kind", "metadata")


def _check_duration(given: object) -> object:
    durations.parse(given if isinstance(given, str) else repr(given))  # of `timeout: 30` it says what is missing
    return given


#: A duration kept as it was written; `durations.parse` gives its length.
Duration = Annotated[
    str,
    BeforeValidator(_check_duration),
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


#: A document can have thousands; each costs a millisecond to word, and nobody reads more.
PROBLEMS_SHOWN = 20


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's errors: which field, which value, what would be right; the first 20 of them."""
    faults: dict[tuple[str | int, ...], list[_Fault]] = {}
    for detail in error.errors(include_url=False)[:PROBLEMS_SHOWN]:
        fault = _fault(model, detail)
        faults.setdefault(fault.choice or (*fault.path, len(faults)), []).append(fault)
    problems = [problem for group in faults.values() for problem in _problems(model, group)]
    more = error.error_count() - PROBLEMS_SHOWN
    return [*problems, Problem((), f"and {more} more problems")] if more > 0 else problems


@dataclass(frozen=True)
class _Fault:
    """One of pydantic's errors, at the path that people wrote."""

    path: tuple[str | int, ...]
    choice: tuple[str | int, ...] | None  # where a union is of which this is one branch's complaint
    detail: Any


def _fault(model: type[BaseModel], detail: Any) -> _Fault:  # noqa: ANN401 - pydantic's ErrorDetails
    """Take out of the path what pydantic put there: the name of the union's member that it tried."""
    here: Any = model
    path: list[str | int] = []
    choice: tuple[str | int, ...] | None = None
    for part in detail["loc"]:
        if _is_choice(here):
            choice, here = tuple(path), None
            continue
        path.append(part)
        here = _inside(here, part)
    return _Fault(tuple(path), choice, detail)


def _is_choice(annotation: Any) -> bool:  # noqa: ANN401 - a type expression
    return get_origin(annotation) in (Union, UnionType)


def _inside(annotation: Any, part: str | int) -> Any:  # noqa: ANN401 - type expressions
    """The type of what stands at `part` in something of this type; None when unknown."""
    found: Any = None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        found = field.annotation if field else None
    elif get_origin(annotation) in (list, dict):
        found = get_args(annotation)[-1]
    if get_origin(found) is Annotated:
        found = get_args(found)[0]
    members = [member for member in get_args(found) if member is not type(None)] if _is_choice(found) else []
    return members[0] if len(members) == 1 else found


def _problems(model: type[BaseModel], faults: list[_Fault]) -> list[Problem]:
    """The problems of one place. Of a union's complaints the deepest count, else they are one line."""
    deepest = max(len(fault.path) for fault in faults)
    telling = [fault for fault in faults if len(fault.path) == deepest and fault.detail["type"] not in _TYPES]
    telling = telling or [fault for fault in faults if len(fault.path) == deepest]
    if len(telling) > 1 and all(fault.detail["type"] in _TYPES for fault in telling):
        return [_wrong_type(telling[0].path, [fault.detail for fault in telling])]
    return [_problem(model, fault.path, fault.detail) for fault in telling]


#: What pydantic says of a value of the wrong type, in the words of people.
_TYPES = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "`key: value` lines",
    "model_type": "`key: value` lines",
    "model_attributes_type": "`key: value` lines",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
}


def _problem(model: type[BaseModel], path: tuple[str | int, ...], detail: Any) -> Problem:  # noqa: ANN401
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _TYPES:
        return _wrong_type(path, [detail])
    if kind == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        guess = nearest(str(path[-1]), known)
        advice = f"did you mean {guess!r}?" if guess else _known(model, known)
        return Problem(path, f"unknown field; {advice}")
    if kind in _SAID:
        return Problem(path, _SAID[kind])
    if kind == "literal_error":
        expected = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        guess = nearest(str(given), expected)
        advice = f"did you mean {guess!r}? " if guess else ""
        return Problem(path, f"{given!r} is not allowed; {advice}choose one of {', '.join(expected)}")
    if kind == "value_error":
        return Problem(path, str(context["error"]))
    message = str(detail["msg"])
    for beginning in _BEGINNINGS:
        if message.startswith(beginning):
            return Problem(path, f"should {message.removeprefix(beginning)}{_not(path, given)}")
    return Problem(path, message)


def _known(model: type[BaseModel], fields: set[str]) -> str:
    """The fields that there are; of more than a person reads, where they stand."""
    if len(fields) > FIELDS_SHOWN:
        return f"`nebu schema {model.__name__.removesuffix('Spec').lower()}` and docs/fields.md list what there is"
    return f"known fields are {', '.join(sorted(fields))}"


#: Known fields that a message names; a container has three times as many.
FIELDS_SHOWN = 12

_SAID = {
    "missing": "is required",
    "too_short": "is empty: leave it out, or write at least one entry",
    "string_unicode": "holds text that is not Unicode",
}
_BEGINNINGS = ("Input should ", "String should ", "List should ", "Value should ")


def _wrong_type(path: tuple[str | int, ...], details: list[Any]) -> Problem:
    wanted = " or ".join(dict.fromkeys(_TYPES[detail["type"]] for detail in details))
    given = details[0]["input"]
    plain = isinstance(given, bool | int | float) and wanted.startswith("text")
    written = str(given).lower() if isinstance(given, bool) else str(given)
    quotes = f'; in quotes it is: "{written}"' if plain and not _is_secret(path) else ""
    return Problem(path, f"should be {wanted}{_not(path, given)}{quotes}")


def _not(path: tuple[str | int, ...], given: object) -> str:
    return "" if _is_secret(path) else f", not {_shown(given)}"


def _is_secret(path: tuple[str | int, ...]) -> bool:
    """What is called `value` is a secret's or a variable's, and stays out of messages and logs."""
    return path[-1:] == ("value",)


def _shown(value: Any) -> str:  # noqa: ANN401 - anything a person may have written
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """The keys that may stand at this place in a document."""
    here: Any = model
    for part in path:
        here = _inside(here, part)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return set()
    return set(here.model_fields) | (set(here.aliases) if issubclass(here, Spec) else set())


def model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type expression
    """Find the model in a type expression such as `list[EnvVar] | None`; None when there is none."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if found := model_in(inner):
            return found
    return None


_UNUSABLE = re.compile("[\0\ud800-\udfff]")

M = TypeVar("M", bound=BaseModel)


def check(model: type[M], data: object) -> M:
    """Validate `data` as `model`.

    Raises:
        InvalidDocument: With every problem, each naming its field, the value and the nearest valid one.
    """
    if refused := list(_unusable_text(data, ())):
        raise InvalidDocument(refused)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidDocument(problems_of(error, model)) from error


def _unusable_text(data: object, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """NUL ends a string for every program, and half a surrogate pair is no character: neither could be passed on."""
    if isinstance(data, str) and (found := _UNUSABLE.search(data)):
        yield Problem(path, f"holds the character {found[0]!r}, which cannot be passed on to a program")
    elif isinstance(data, dict):
        for key, value in cast("dict[str, object]", data).items():
            yield from _unusable_text(value, (*path, key))
    elif isinstance(data, list):
        for position, value in enumerate(cast("list[object]", data)):
            yield from _unusable_text(value, (*path, position))
