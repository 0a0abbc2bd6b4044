"""How YAML is read here: safe nodes, the plain scalars of YAML 1.2, and syntax errors in plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    Base = yaml.SafeLoader
else:
    Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads a megabyte in a blink

_CORE = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, STR = (_CORE + word for word in ("null", "bool", "int", "float", "str"))
MAP, SEQ, MERGE = _CORE + "map", _CORE + "seq", _CORE + "merge"
SCALARS = (NULL, BOOL, INT, FLOAT, STR)


class Loader(Base):
    """Composes nodes; YAML 1.1's booleans, dates, octals and base-60 numbers are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    (NULL, r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (BOOL, r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    (INT, r"^([-+]?[0-9]{1,30}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30})$", list("-+0123456789")),
    (FLOAT, r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?$", list("-+.0123456789")),
    (MERGE, r"^<<$", ["<"]),
):
    Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class Dumper(yaml.SafeDumper):
    """Writes what readers of YAML 1.1 and of 1.2, this one too, take for the same."""


def _quoted_where_needed(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """A text as it is, unless it looks like something else to us: PyYAML knows only what 1.1 would make of it."""
    known = Loader.yaml_implicit_resolvers.get(value[:1], [])
    style = "'" if any(pattern.match(value) for _, pattern in known) else None
    return dumper.represent_scalar(STR, value, style=style)


Dumper.add_representer(str, _quoted_where_needed)


def dump(content: object) -> str:
    """The content as YAML, in its own order."""
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def text(node: yaml.Node) -> str:
    """The scalar as it was written."""
    return str(node.value)


def scalar(node: yaml.Node) -> str | int | float | bool | None:
    """The value of a scalar node.

    Raises:
        ValueError: An explicit tag (`!!int`) does not fit the text.
    """
    value = text(node)
    if node.tag == NULL:
        return None
    if node.tag == BOOL:
        if value.lower() not in {"true", "false"}:
            raise ValueError(f"{value!r} is neither true nor false")
        return value.lower() == "true"
    if node.tag == INT:
        return _integer(value)
    return _fraction(value) if node.tag == FLOAT else value


def _integer(value: str) -> int:
    try:
        return int(value, {"0o": 8, "0x": 16}.get(value[:2], 10))
    except ValueError:
        raise ValueError(f"{value!r} is no whole number") from None


def shown_tag(tag: str) -> str:
    """`!!python/object` of `tag:yaml.org,2002:python/object`."""
    return "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag


def _fraction(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None


#: (what libyaml or PyYAML says, what it means for whoever wrote the file); {n}: the line where it began.
_REASONS: tuple[tuple[str, str], ...] = (
    ("found a tab character", "a tab: indent with spaces"),
    ("found unexpected end of stream", "a quote that is opened at line {n} is never closed"),
    ("found unexpected document indicator", "a quote that is opened at line {n} is never closed"),
    ("did not find expected ',' or ']'", "a '[' that is opened at line {n} is not closed, or a ',' is missing"),
    ("did not find expected ',' or '}'", "a '{{' that is opened at line {n} is not closed, or a ',' is missing"),
    ("did not find expected key", "bad indentation: this line does not line up with the keys from line {n} on"),
    ("did not find expected '-' indicator", "bad indentation: this does not line up with the list from line {n} on"),
    ("mapping values are not allowed", "a ':' that makes no key here: check the indentation, or quote the value"),
    ("could not find expected ':'", "this is no `key: value`: a ':' with a space behind it is missing"),
    ("block sequence entries are not allowed", "a '-' where no list can begin: put it on a line of its own"),
    ("block mapping", "bad indentation: this line does not line up with the keys from line {n} on"),
    ("found undefined alias", "an alias (*) without its anchor (&) above; text that begins with '*' needs quotes"),
    ("found undefined tag handle", "a tag that is not defined; text that begins with '!' needs quotes"),
    ("found unknown escape character", "an unknown escape after '\\': write '\\\\', or use single quotes"),
    ("while parsing a quoted scalar", "this quoted text is malformed"),
)


def explain(error: yaml.YAMLError, source: str) -> tuple[int, int, str]:
    """Say where the syntax breaks (line and column, from 1) and why, in plain words."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return _bad_character(source)
    line, column = error.problem_mark.line, error.problem_mark.column
    began = error.context_mark.line if error.context_mark else line
    problem = error.problem or str(error)
    if "cannot start any token" in problem:
        return line + 1, column + 1, _bad_start(source, line, column)
    reason = next((meaning for said, meaning in _REASONS if said in problem), problem)
    if "never closed" in reason and error.context_mark:
        line, column = began, error.context_mark.column
    return line + 1, column + 1, reason.format(n=began + 1)


def _bad_start(source: str, line: int, column: int) -> str:
    lines = source.splitlines()
    letter = lines[line][column : column + 1] if line < len(lines) else ""
    if letter == "\t":
        return "a tab: indent with spaces"
    return f"a value cannot begin with {letter!r}: put it in quotes"


def _bad_character(source: str) -> tuple[int, int, str]:
    """Find the character that the reader refused before any syntax."""
    match: Any = yaml.reader.Reader.NON_PRINTABLE.search(source)
    at = match.start() if match else 0
    line, column = source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at)
    return line, column, f"the character {source[at : at + 1]!r} is not allowed in a text file"
