"""Names, addresses and keys."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebulous import ids
from nebulous.ids import Address

ENDS = st.sampled_from("abcXYZ019")
MIDDLES = st.text("abcXYZ019._-", max_size=61)
NAMES = st.one_of(st.builds(lambda a, b, c: a + b + c, ENDS, MIDDLES, ENDS), ENDS).filter(
    lambda name: name.lower() not in ids.RESERVED_NAMES
)
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@given(NAMES)
def test_a_good_name_keeps_its_spelling(name: str):
    assert ids.check_name(name) == name


@given(NAMES)
def test_every_good_name_becomes_a_dns_label(name: str):
    assert DNS_LABEL.fullmatch(ids.dns_label(name))


@given(st.text(max_size=70))
def test_any_other_text_is_refused_with_words_and_never_crashes(text: str):
    said = ""
    try:
        ids.check_name(text)
    except ValueError as error:
        said = str(error)
    assert said.startswith("name ") if said else re.fullmatch(r"[A-Za-z0-9._-]{1,63}", text)


@pytest.mark.parametrize("name", ["foo\n", "-foo", "foo-", ".foo", "a b", "", "föö", "ſoo", "a/b", "a" * 64])
def test_bad_names_are_refused(name: str):
    with pytest.raises(ValueError, match="name"):
        ids.check_name(name)


def test_a_long_name_is_refused_with_its_length_and_without_all_of_it():
    with pytest.raises(ValueError, match=r"has 64 characters; at most 63 are allowed") as refused:
        ids.check_name("a" * 64)
    assert "a" * 21 not in str(refused.value)


@pytest.mark.parametrize("name", ["logs", "Exec", "SEARCH"])
def test_reserved_names_are_refused_in_any_case(name: str):
    with pytest.raises(ValueError, match="is reserved; reserved are events, exec, files, logs"):
        ids.check_name(name)


def test_a_namespace_may_be_called_like_a_route():
    assert ids.check_name("logs", "namespace") == "logs"


def test_one_slash_splits_organization_and_name():
    assert ids.split_owner("Agentsea/foo") == ("Agentsea", "foo")
    assert ids.split_owner("foo") == (None, "foo")


@pytest.mark.parametrize("name", ["a/b/c", "/b", "a/", "/", "//"])
def test_two_slashes_or_an_empty_half_are_refused(name: str):
    with pytest.raises(ValueError, match="with one slash at most"):
        ids.split_owner(name)


@given(NAMES, NAMES, NAMES)
def test_an_address_comes_back_from_its_workflow_id_without_case(organization: str, namespace: str, name: str):
    address = Address("container", organization, namespace, name)
    assert Address.parse(str(address)) == Address("container", organization.lower(), namespace.lower(), name.lower())


@pytest.mark.parametrize("workflow_id", ["", "container/a/b", "container/a/b/c/d", "container//b/c"])
def test_what_is_no_address_is_refused(workflow_id: str):
    with pytest.raises(ValueError, match="is not kind/organization/namespace/name"):
        Address.parse(workflow_id)


def test_the_same_intent_gives_the_same_rental_key_and_any_other_another():
    intent = ("install", "life", 1, "docker:host", "", "")
    key = ids.rental_key(*intent)
    assert ids.rental_key(*intent) == key
    changed = [(*intent[:at], "x" if isinstance(part, str) else 2, *intent[at + 1 :]) for at, part in enumerate(intent)]
    assert len({key, *(ids.rental_key(*other) for other in changed)}) == 1 + len(intent)  # type: ignore[arg-type]


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_rental_key_is_a_dns_label_whatever_goes_into_it(life: str, region: str):
    assert DNS_LABEL.fullmatch(ids.rental_key("install", life, 1, "ec2:1", region, ""))


def test_an_idempotency_key_means_one_life_for_each_caller_and_install():
    lives = {ids.id_from_idempotency_key(install, caller, "k") for install in "ab" for caller in "cd"}
    assert len(lives) == 4
    assert ids.id_from_idempotency_key("a", "c", "k") in lives


def test_generated_names_are_names():
    for _ in range(50):
        assert ids.check_name(ids.two_words())


def test_a_host_keeps_its_id_and_a_boot_has_its_own(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("abc\n")
    assert ids.host_id(tmp_path) == ids.host_id(tmp_path)
    first = ids.host_id(tmp_path)
    (tmp_path / "etc/machine-id").write_text("def\n")
    assert ids.host_id(tmp_path) != first
    assert ids.boot_id(tmp_path) == ""
