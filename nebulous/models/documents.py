"""YAML and JSON files as documents that remember where everything stood, so that errors can name line and column.

Plain scalars follow YAML 1.2: `on`, `yes` and `1:30` are text. What is text by meaning (labels, and everything
called `value`) stays as it was written, `007` too. `$VAR` is not expanded. Importing this loads no pydantic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, cast

import yaml

from nebulous.errors import Rejected
from nebulous.models import printed, syntax
from nebulous.models.kinds import KINDS, Kind, find

if TYPE_CHECKING:
    from nebulous.models.base import Spec

LARGEST_FILE = 1_000_000  # bytes
MOST_NODES = 200_000  # once aliases are expanded: `*a` of `*b` of … grows beyond any memory
DEEPEST = 60
SURROGATES = re.compile(r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})")

Path = Sequence[str | int]


@dataclass
class Place:
    """Where something begins, and where what is in it begins."""

    line: int  # from 1
    column: int  # from 1
    inside: dict[str | int, Place] = field(default_factory=dict[str | int, "Place"])


@dataclass
class Document:
    """One document of a file."""

    data: dict[str, Any]
    source: str
    place: Place

    @cached_property
    def kind(self) -> Kind:
        """The kind that it names; `read` has checked that there is one."""
        return find(self.data["kind"])

    def line_of(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of the field at the path, or of the nearest thing around it that is there."""
        place = self.place
        for part in path:
            known = part if part in place.inside else self._other_spelling(part, place)
            if known is None:
                break
            place = place.inside[known]
        return place.line, place.column

    def _other_spelling(self, part: str | int, place: Place) -> str | None:
        """Problems name a field by its canonical word; the file may use an alias."""
        return next(
            (alias for alias, name in _aliases(self.kind.model) if name == part and alias in place.inside), None
        )

    def where(self, path: Path = ()) -> str:
        """`train.yaml:7:3`, as editors and terminals link it."""
        line, column = self.line_of(path)
        return f"{self.source}:{line}:{column}"


def read(text: str, source: str) -> list[Document]:
    """Read all documents of a YAML or JSON file; what `nebu get` printed, a list too, reads as it was asked for.

    Args:
        text: The contents.
        source: What to call the file in messages.

    Raises:
        Rejected: It is malformed, too large, empty, gives a key or a resource twice, or names no known kind. The
            message begins with `source:line:column`.
    """
    if len(text.encode(errors="replace")) > LARGEST_FILE:
        raise Rejected(f"{source} is larger than {LARGEST_FILE // 1_000_000} MB", "split it into several files")
    nodes = [node for node in _nodes(_plain(text), source) if not _is_empty(node)]
    documents = [document for node in nodes for document in _documents(node, source)]
    if not documents:
        raise Rejected(f"{source} is empty", "write what to create, beginning with `kind: Container`")
    check_twice(documents)
    return documents


def _plain(text: str) -> str:
    """Strip the byte order mark; in JSON rewrite the two things that YAML refuses: tabs, and pairs of surrogates."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return SURROGATES.sub(lambda pair: pair[1] + json.loads(f'"{pair[2]}"'), text.replace("\t", " "))


def _nodes(text: str, source: str) -> Iterator[yaml.Node]:
    try:
        _check_depth(text, source)
        yield from yaml.compose_all(text, Loader=syntax.Loader)
    except yaml.YAMLError as error:
        line, column, reason = syntax.explain(error, text)
        raise Rejected(f"{source}:{line}:{column}: {reason}") from error


def _check_depth(text: str, source: str) -> None:
    """Refuse deep nesting before composing: that recurses in C, and 5,000 brackets end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=syntax.Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            _refuse(event, source, f"nested deeper than {DEEPEST} levels")


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or node.tag == syntax.NULL


def _documents(node: yaml.Node, source: str) -> Iterator[Document]:
    """The document, or those in a list as `nebu get` prints many."""
    whole = _mapping(node, source)
    kind = printed.listed(whole.data)
    if kind is None:
        yield _checked(whole)
        return
    items: object = whole.data[kind.plural]
    if not isinstance(items, list):
        raise Rejected(f"{whole.where([kind.plural])}: {kind.plural} should be a list, as `nebu get` prints it")
    for position, item in enumerate(cast("list[object]", items)):
        if not isinstance(item, dict):
            raise Rejected(f"{whole.where([kind.plural, position])}: an entry must be `key: value` lines")
        place = whole.place.inside[kind.plural].inside[position]
        yield _checked(Document(cast("dict[str, Any]", item), source, place))


def _checked(document: Document) -> Document:
    """The document as it was asked for, once it says of what kind it is."""
    _check_kind(document)
    try:
        document.data = printed.written(document.data)
    except printed.Ambiguous as error:
        raise Rejected(f"{document.where([error.field])}: {error}") from error
    return document


def _mapping(node: yaml.Node, source: str) -> Document:
    if not isinstance(node, yaml.MappingNode):
        what = "a list; separate documents with a line `---`" if isinstance(node, yaml.SequenceNode) else "text"
        _refuse(node, source, f"a document must be `key: value` lines, beginning with `kind:`, not {what}")
    reading = Reading(source)
    data, place = reading.mapping(node, ())
    return Document(data, source, place)


def _check_kind(document: Document) -> None:
    kind = document.data.get("kind")
    if not kind:
        example = KINDS[0].name
        raise Rejected(f"{document.where()}: kind is missing", f"add a line such as `kind: {example}`")
    if not isinstance(kind, str):
        raise Rejected(f"{document.where(['kind'])}: kind {kind!r} is not a word")
    try:
        found = find(kind)
    except Rejected as error:
        raise Rejected(f"{document.where(['kind'])}: {error.message}", error.hint) from error
    if found.name != kind:
        raise Rejected(f"{document.where(['kind'])}: kind {kind!r} is written {found.name!r} in a file")


def check_twice(documents: list[Document]) -> None:
    """Refuse files that say two things about one resource.

    Raises:
        Rejected: It names both places.
    """
    seen: dict[tuple[str, ...], Document] = {}
    for document in documents:
        metadata = document.data.get("metadata")
        if not isinstance(metadata, dict):
            continue
        given: dict[str, Any] = metadata  # pyright: ignore[reportUnknownVariableType] - checked by the model
        if not isinstance(given.get("name"), str):
            continue
        owner, _, name = given["name"].rpartition("/")
        owner = owner or given.get("owner") or given.get("owner_id") or ""
        key = (document.kind.id, *(str(part).lower() for part in (owner, given.get("namespace") or "", name)))
        if first := seen.setdefault(key, document):
            _same_resource(first, document, given["name"])


def _same_resource(first: Document, second: Document, name: str) -> None:
    if first is second:
        return
    line, again = first.line_of(["metadata", "name"])[0], second.line_of(["metadata", "name"])[0]
    what = f"{second.kind.name} {name!r}"
    lines = f"at lines {line} and {again}" if first.source == second.source else f"also at {first.source}:{line}"
    raise Rejected(
        f"{second.where(['metadata', 'name'])}: {what} is given twice, {lines}",
        "rename one of them, or put them into different namespaces",
    )


class Reading:
    """Turns nodes into values and places, within bounds."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._nodes = 0

    def mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> tuple[dict[str, Any], Place]:
        """A mapping with its merged ones (`<<`), whose keys it may override."""
        self._bound(node, path)
        data, place = dict[str, Any](), _place(node)
        written: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == syntax.MERGE:
                self._merge(value, path, data, place, written)
                continue
            name = self._key(key)
            if name in written:
                lines = f"at lines {written[name]} and {key.start_mark.line + 1}"
                _refuse(key, self._source, f"key {name!r} is given twice, {lines}")
            written[name] = key.start_mark.line + 1
            data[name], inner = self.value(value, (*path, name))
            place.inside[name] = Place(*_at(key), inner.inside)
        return data, place

    def value(self, node: yaml.Node, path: tuple[str | int, ...]) -> tuple[Any, Place]:
        """Any node's value, and its place."""
        if isinstance(node, yaml.MappingNode):
            self._known_tag(node, syntax.MAP)
            return self.mapping(node, path)
        self._bound(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._known_tag(node, syntax.SEQ)
            items = [self.value(item, (*path, position)) for position, item in enumerate(node.value)]
            return [item for item, _ in items], Place(*_at(node), {at: place for at, (_, place) in enumerate(items)})
        self._known_tag(node, *syntax.SCALARS)
        return self._scalar(node, path), _place(node)

    def _scalar(self, node: yaml.Node, path: tuple[str | int, ...]) -> object:
        if node.tag != syntax.NULL and _is_text(path):
            return syntax.text(node)
        try:
            return syntax.scalar(node)
        except ValueError as error:
            _refuse(node, self._source, str(error))

    def _merge(
        self,
        node: yaml.Node,
        path: tuple[str | int, ...],
        data: dict[str, Any],
        place: Place,
        written: dict[str, int],
    ) -> None:
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                _refuse(source, self._source, "`<<` takes a mapping, such as `<<: *defaults`")
            merged, merged_place = self.mapping(source, path)
            for name in merged.keys() - data.keys() - written.keys():
                data[name], place.inside[name] = merged[name], merged_place.inside[name]

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            _refuse(node, self._source, "a key must be plain text")
        return syntax.text(node)

    def _bound(self, node: yaml.Node, path: tuple[str | int, ...]) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            _refuse(node, self._source, f"more than {MOST_NODES:,} values once aliases are expanded")
        if len(path) > DEEPEST:
            _refuse(node, self._source, f"nested deeper than {DEEPEST} levels")

    def _known_tag(self, node: yaml.Node, *known: str) -> None:
        if node.tag not in known:
            _refuse(node, self._source, f"tag {syntax.shown_tag(node.tag)} is not allowed: write plain values")


def _is_text(path: tuple[str | int, ...]) -> bool:
    return path[-1:] == ("value",) or path[-2:-1] == ("labels",)


def _place(node: yaml.Node) -> Place:
    return Place(*_at(node))


def _at(node: yaml.Node | yaml.Event) -> tuple[int, int]:
    mark = node.start_mark
    assert mark is not None, "whatever is read from a text stands somewhere in it"
    return mark.line + 1, mark.column + 1


def _refuse(node: yaml.Node | yaml.Event, source: str, reason: str) -> NoReturn:
    line, column = _at(node)
    raise Rejected(f"{source}:{line}:{column}: {reason}")


def _aliases(model: type[Spec]) -> list[tuple[str, str]]:
    """Every (alias, canonical name) in the model and in those of its fields."""
    from nebulous.models.base import Spec, model_in

    found = list(model.aliases.items())
    for field_info in model.model_fields.values():
        inner = model_in(field_info.annotation)
        if inner and issubclass(inner, Spec):
            found += _aliases(inner)
    return found
