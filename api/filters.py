"""What a list of resources may be narrowed by."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from api.lists import Wanted
from nebulous import ids, temporal
from nebulous.errors import Rejected
from nebulous.models.base import nearest
from nebulous.models.kinds import Kind


class Filters:
    """What a list may be narrowed by."""

    def __init__(
        self,
        namespace: str | None = None,
        status: str | None = None,
        label: Annotated[list[str] | None, Query(description="k=v; repeatable")] = None,
        queue: str | None = None,
        name: str | None = None,
        limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
        cursor: Annotated[str | None, Query(max_length=4096)] = None,
    ) -> None:
        self.namespace = namespace
        self.status = status
        self.labels = label or []
        self.queue = queue
        self.name = name
        self.limit = limit
        self.cursor = cursor

    def wanted(self, kind: Kind, statuses: Sequence[str]) -> Wanted:
        """The filters, checked.

        Raises:
            Rejected: A status that the kind has not, or a label that is not k=v.
        """
        given = {
            temporal.NAMESPACE: namespace_of(self.namespace).lower() if self.namespace else None,
            temporal.STATUS: _status(kind, statuses, self.status) if self.status else None,
            temporal.QUEUE: self.queue,
            temporal.NAME: self.name.lower() if self.name else None,
        }
        fields = {key: value for key, value in given.items() if value}
        if any("\0" in value for value in [*fields.values(), *self.labels]):
            raise Rejected("a filter contains a NUL character", "no name or label does")
        return Wanted(fields, list(map(_label, self.labels)), self.limit, self.cursor)


def _status(kind: Kind, statuses: Sequence[str], word: str) -> str:
    if word.lower() in statuses:
        return word.lower()
    guess = nearest(word, statuses)
    advice = f"did you mean {guess!r}?" if guess else f"choose one of {', '.join(statuses)}"
    raise Rejected(f"status {word[:60]!r} is none of a {kind.id}", advice)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals or '"' in text:  # SQLite's full-text search takes a quote for its own syntax
        raise Rejected(f"label {text[:60]!r} is not KEY=VALUE", "write for example label=team=research")
    return key, value


def namespace_of(given: str | None) -> str:
    """The namespace meant; absent and `-` are the default."""
    return ids.DEFAULT_NAMESPACE if given in (None, "", "-") else str(given)
