"""What the words after a verb mean: `foo`, `containers foo bar`, `secret/token`, `Agentsea/foo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nebulous import ids
from nebulous.cli.failures import UsageError
from nebulous.errors import Rejected
from nebulous.models import kinds
from nebulous.models.kinds import Kind

_ALIKE = 0.8  # how like a kind's word a first word must be to be taken for a slip


@dataclass(frozen=True)
class Target:
    """One resource as it was named."""

    kind: Kind
    name: str
    owner: str | None = None  # the organization of ORGANIZATION/NAME

    def __str__(self) -> str:
        return f"{self.kind.id}/{self.name}"


@dataclass(frozen=True)
class Selection:
    """A kind, and those of it that were named."""

    kind: Kind
    targets: tuple[Target, ...]

    def only(self) -> Target:
        """The single target.

        Raises:
            UsageError: None or several were named.
        """
        if len(self.targets) == 1:
            return self.targets[0]
        if self.targets:
            raise UsageError(f"one NAME is expected, not {', '.join(target.name for target in self.targets)}")
        word = self.kind.id
        raise UsageError(
            f"which {word}? give its NAME",
            f"`nebu get {self.kind.plural}` lists them; one that is itself called {word!r} is {word}/{word}",
        )


def kind_of(word: str) -> Kind:
    """The kind that a word names.

    Raises:
        UsageError: None does; with the nearest.
    """
    try:
        return kinds.find(word)
    except Rejected as error:
        raise UsageError(error.message, error.hint) from error


def select(words: Sequence[str]) -> Selection:
    """Read `NAME…`, `KIND NAME…` or `KIND/NAME…`; a NAME may be `ORGANIZATION/NAME`; default kind Container.

    Raises:
        UsageError: A name has too many slashes, or the first word looks like a mistyped kind.
    """
    container = kinds.find("container")
    if not words:
        return Selection(container, ())
    if is_kind(words[0]):
        kind = kind_of(words[0])
        return Selection(kind, tuple(_target(kind, word) for word in words[1:]))
    if len(words) > 1:
        _guard_against_slip(words[0])
    targets = tuple(_target_with_kind(word, container) for word in words)
    return Selection(targets[0].kind, targets)


def is_kind(word: str) -> bool:
    """True for every word that names a kind of this release."""
    return any(word.lower() in kind.words for kind in kinds.KINDS)


def _target_with_kind(word: str, default: Kind) -> Target:
    first, slash, rest = word.partition("/")
    if slash and is_kind(first):
        return _target(kind_of(first), rest)
    return _target(default, word)


def _target(kind: Kind, word: str) -> Target:
    try:
        owner, name = ids.split_owner(word)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not name:
        raise UsageError(f"an empty name names no {kind.id}")
    return Target(kind, name, owner)


def _guard_against_slip(word: str) -> None:
    """`delete contaner foo` must not delete `foo` and then wonder about a container called `contaner`."""
    later = [word for words in kinds.LATER.values() for word in words]
    if word.lower() in later:
        kind_of(word)
    for known in (*(known for kind in kinds.KINDS for known in kind.words), *later):
        if len(known) > 3 and SequenceMatcher(None, word.lower(), known).ratio() >= _ALIKE:
            hint = f"did you mean {known}? a container of that name is container/{word}"
            raise UsageError(f"unknown kind {word!r}", hint)
