"""What differs between two specs, and which of it can change in place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from nebulous.models.changes import Wanted, against, between, cannot_change, in_place, lasting
from nebulous.models.containers import ContainerSpec
from nebulous.models.resources import Metadata, MetadataRequest
from nebulous.models.secrets import SecretSpec
from tests.specs import specs

IN_PLACE = {
    *("priority", "restart", "max_retries", "timeout", "stop_grace", "provision_timeout", "ttl_after_finished"),
    *("health_check", "max_usd_per_hour", "keep_on_failure", "notify", "idle_timeout"),
}


def stored(**given: Any) -> dict[str, Any]:
    return ContainerSpec.model_validate({"image": "x", **given}).model_dump(mode="json")


def fields(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = between(ContainerSpec, Wanted(before), Wanted(after))
    return {change.field: (change.before, change.after) for change in found}


def test_the_fields_that_change_in_place_are_these():
    """What is taken off this list, or put onto it, needs a word in the guide and code that acts on it."""
    assert {name for name in ContainerSpec.model_fields if in_place(ContainerSpec, name)} == IN_PLACE
    assert [name for name in MetadataRequest.model_fields if in_place(MetadataRequest, name)] == ["labels"]
    assert in_place(SecretSpec, "value")


def test_only_what_differs_is_named_down_to_the_smallest_part():
    before = stored(
        resources={"min_cpu": 1, "max_memory": 8}, env_vars=[{"key": "A", "value": "1"}], ports=[{"port": 1}]
    )
    after = stored(
        resources={"min_cpu": 2, "max_memory": 8}, env_vars=[{"key": "B", "value": "1"}], ports=[{"port": 2}]
    )
    assert fields(before, after) == {
        "env_vars.A": ({"value": "1", "secret_name": None}, None),
        "env_vars.B": (None, {"value": "1", "secret_name": None}),
        "resources.min_cpu": (1, 2),
        "ports": (before["ports"], after["ports"]),
    }


def test_what_nobody_wrote_is_no_difference():
    assert fields({"image": "x"}, stored()) == {}
    assert fields(stored(), {"image": "x", "metadata": {"labels": {"a": "b"}}, "kind": "Container"}) == {}
    assert fields(stored(restart="Never"), stored()) == {}
    labels = between(ContainerSpec, Wanted(stored(), None), Wanted(stored(), {}))
    assert labels == []


def test_the_order_of_variables_is_no_difference_and_that_of_accelerators_is_one():
    one, two = {"key": "A", "value": "1"}, {"key": "B", "value": "2"}
    assert fields(stored(env_vars=[one, two]), stored(env_vars=[two, one])) == {}
    assert list(fields(stored(accelerators=["1:L4", "1:T4"]), stored(accelerators=["1:T4", "1:L4"]))) == [
        "accelerators"
    ]


def test_a_new_resource_differs_by_all_that_is_said_of_it():
    found = between(ContainerSpec, None, Wanted(stored(timeout="1h"), {"team": "x"}))
    assert [change.shown() for change in found] == [
        {"field": "metadata.labels.team", "from": None, "to": "x", "in_place": True},
        {"field": "image", "from": None, "to": "x", "in_place": False},
        {"field": "timeout", "from": None, "to": "1h", "in_place": True},
    ]


def test_values_of_secrets_differ_by_their_digest_and_are_never_shown():
    (change,) = between(SecretSpec, Wanted({"digest": "d", "sealed": "s"}), Wanted({"digest": "e", "sealed": "t"}))
    assert change.shown() == {"field": "value", "from": "***", "to": "***", "in_place": True}
    assert between(SecretSpec, Wanted({"digest": "d", "sealed": "s"}), Wanted({"digest": "d", "sealed": "t"})) == []


def test_what_a_resource_belongs_to_is_compared_only_where_it_is_said():
    assert between(ContainerSpec, Wanted(stored(), owner_ref="a"), Wanted(stored())) == []
    (change,) = between(ContainerSpec, Wanted(stored(), owner_ref="a"), Wanted(stored(), owner_ref="b"))
    assert (change.name, change.in_place) == ("metadata.owner_ref", False)


def test_what_is_invalid_takes_nothing_in_place():
    pair = Wanted(stored()), Wanted(stored(timeout="1h"), {"a": "b"})
    assert lasting(against(ContainerSpec, "running", *pair)) == []
    assert lasting(against(ContainerSpec, "invalid", *pair)) == ["metadata.labels", "timeout"]
    assert cannot_change(["image", "command"]) == "image, command cannot change in place"


def test_a_spec_that_does_not_fit_its_model_is_compared_as_it_is():
    assert fields({"image": 7, "gone": 1}, stored(image="y"))["image"] == (7, "y")
    assert fields({"image": 7, "gone": 1}, stored(image="y"))["gone"] == (1, None)


@pytest.mark.parametrize(
    ("seen", "outdated"),
    [
        *[(version, False) for version in ("5", "7", "9", "life.7")],
        *[(version, True) for version in ("4", "10", "", "x", "-6", "other.7", "life.4", "9" * 30, "٧")],
    ],
)
def test_a_version_is_outdated_by_a_later_wish_and_not_by_a_status(seen, outdated):
    metadata = Metadata(name="n", namespace="d", owner="o", id="life", resource_version="9", spec_version="5")
    assert metadata.outdates(seen) is outdated
    assert metadata.outdated(seen).startswith("it ")


@given(specs(), specs())
def test_no_change_is_named_exactly_when_the_specs_are_the_same(before, after):
    same = comparable(before) == comparable(after)
    assert (fields(before, after) == {}) is same
    assert fields(before, before) == {}


@given(specs(), specs())
def test_the_way_back_is_the_way_there_reversed(before, after):
    there, back = fields(before, after), fields(after, before)
    assert there == {field: (old, new) for field, (new, old) in back.items()}


def comparable(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with its variables in one order."""
    read = ContainerSpec.comparable(spec)
    return {**read, "env_vars": sorted(read["env_vars"] or [], key=lambda each: each["key"])}
