"""What a person may say of a secret, and that its value stays out of messages."""

from typing import Any

import pytest

from nebulous.models.base import InvalidDocument, check
from nebulous.models.secrets import LARGEST_VALUE, SecretSpec


def problems(**given: Any) -> list[str]:
    with pytest.raises(InvalidDocument) as refused:
        check(SecretSpec, given)
    return [str(problem) for problem in refused.value.problems]


def test_a_secret_needs_a_value():
    assert problems(metadata={"name": "a"}) == ["value: is required"]


def test_a_wrong_value_is_never_shown():
    assert problems(value=12345) == ["value: should be text"]
    assert problems(value="s" * (LARGEST_VALUE + 1)) == [f"value: should have at most {LARGEST_VALUE} characters"]


def test_the_value_of_a_variable_is_never_shown_either():
    from nebulous.models.containers import ContainerSpec

    with pytest.raises(InvalidDocument) as refused:
        check(ContainerSpec, {"image": "x", "env": [{"key": "A", "value": 12345}]})
    assert str(refused.value) == "env_vars[0].value: should be text"


def test_a_multi_line_value_is_kept_as_it_is():
    assert check(SecretSpec, {"value": "a\nb\n"}).value == "a\nb\n"
