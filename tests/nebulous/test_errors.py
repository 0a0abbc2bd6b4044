"""The tree of errors is what its docstring draws."""

import re

import pytest

from nebulous import errors
from nebulous.errors import BY_TYPE, NebulousError


def drawn_tree() -> dict[str, str]:
    """Child to parent, read from the drawing in the module's docstring."""
    parents: list[str] = ["NebulousError"]
    found: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:│   |    )*)(?:├──|└──) (\w+)", line)
        if match:
            depth = len(match[1]) // 4 + 1
            parents = [*parents[:depth], match[2]]
            found[match[2]] = parents[depth - 1]
    return found


def defined_tree() -> dict[str, str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NebulousError)]
    return {kind.__name__: kind.__bases__[0].__name__ for kind in kinds if kind is not NebulousError}


def test_the_docstring_draws_exactly_the_classes_that_exist():
    assert drawn_tree() == defined_tree()


def test_every_error_can_be_looked_up_by_the_word_that_crosses_wires():
    assert set(BY_TYPE) == set(defined_tree())
    for word, kind in BY_TYPE.items():
        assert kind("something").type == word


@pytest.mark.parametrize("word", sorted(BY_TYPE))
def test_only_what_may_work_later_is_transient(word: str):
    assert BY_TYPE[word].transient == (word in {"Unavailable", "RateLimited", "NotReady", "KeyMissing", "Unreachable"})


def test_an_error_shows_its_message_and_keeps_its_hint():
    error = errors.Rejected("image 'x' is empty", "leave it out")
    assert (str(error), error.message, error.hint) == ("image 'x' is empty", "image 'x' is empty", "leave it out")
