"""Files become documents, or an error that says where and why."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nebulous.errors import Rejected
from nebulous.models.documents import LARGEST_FILE, Document, read

HEAD = "kind: Container\nmetadata:\n  name: foo\n"  # what follows begins at line 4


def one(text: str) -> Document:
    (document,) = read(text, "train.yaml")
    return document


def refused(text: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(text, "train.yaml")
    return caught.value


def test_a_document_is_a_plain_dict():
    assert one(HEAD + "image: x\nspot: true\nmax_retries: 3\ndisk: 1.5\nqueue: ~\n").data == {
        "kind": "Container",
        "metadata": {"name": "foo"},
        "image": "x",
        "spot": True,
        "max_retries": 3,
        "disk": 1.5,
        "queue": None,
    }


def test_a_file_may_hold_many_documents_and_empty_ones_do_not_count():
    text = "---\nkind: Container\nimage: a\n---\n# nothing\n---\nkind: Secret\nvalue: b\n...\n"
    assert [document.kind.name for document in read(text, "f")] == ["Container", "Secret"]


def test_json_is_read_with_tabs_escapes_and_exponents():
    text = '{\n\t"kind": "Container",\n\t"image": "\\ud83d\\ude80\\/\\u00e9",\n\t"disk": 1e3, "command": "a\\\\ud83d"}'
    assert one(text).data == json.loads(text)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # the first draw imports much
@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 2, "\t"]),
)
def test_whatever_json_says_is_what_is_read(data: dict[str, object], indent):
    document = {"kind": "Container", **data}
    text = json.dumps(document, indent=indent)
    printable = all(ord(letter) >= 32 or letter in "\t\n\r" for letter in text)
    assert not printable or one(text).data == document


@pytest.mark.parametrize(
    "word", ["on", "off", "yes", "no", "Yes", "1:30", "2026-11-24", "0o9", ".inf", "1_000", "=", "~x"]
)
def test_words_that_yaml_1_1_would_turn_into_something_else_stay_text(word: str):
    assert one(f"{HEAD}image: {word}\n").data["image"] == word


@pytest.mark.parametrize(("written", "value"), [("007", 7), ("0x1F", 31), ("0o17", 15), ("1e3", 1000.0), ("-.5", -0.5)])
def test_numbers_are_those_of_yaml_1_2(written: str, value: float):
    assert one(f"{HEAD}disk: {written}\n").data["disk"] == value


def test_labels_and_values_stay_as_they_were_written():
    text = f"{HEAD}  labels: {{a: 3, b: true, c: 007, d: 1e3, e: on}}\nenv:\n  - key: PIN\n    value: 0042\n"
    data = one(text).data
    assert data["metadata"]["labels"] == {"a": "3", "b": "true", "c": "007", "d": "1e3", "e": "on"}
    assert data["env"] == [{"key": "PIN", "value": "0042"}]


def test_an_absent_value_is_none_and_no_text():
    assert one(f"{HEAD}env:\n  - key: A\n    value:\n    secret_name: s\n").data["env"][0]["value"] is None


def test_variables_are_not_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/root")
    assert one(f"{HEAD}command: echo $HOME ${{HOME}}\n").data["command"] == "echo $HOME ${HOME}"


def test_anchors_and_merges_work_and_own_keys_win():
    text = "kind: Container\nimage: x\nresources: &r {min_cpu: 1, max_cpu: 2}\nhealth_check:\n  <<: *r\n  max_cpu: 4\n"
    assert one(text).data["health_check"] == {"min_cpu": 1, "max_cpu": 4}


# --- where things are ------------------------------------------------------------------------------------------


PLACES = (
    HEAD  # 1-3
    + "image: x\n"  # 4
    + "env:\n"  # 5
    + "  - key: A\n"  # 6
    + "    value: b\n"  # 7
    + "accelerators: ['1:A', '2:B']\n"  # 8
)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), (1, 1)),
        (("image",), (4, 1)),
        (("metadata", "name"), (3, 3)),
        (("env", 0, "value"), (7, 5)),
        (("env_vars", 0, "value"), (7, 5)),  # problems use the canonical word
        (("env_vars", 0, "secret_name"), (6, 5)),  # what is missing is missing from there
        (("metadata", "owner"), (2, 1)),
        (("accelerators", 1), (8, 23)),
        (("nothing", "here"), (1, 1)),
    ],
)
def test_every_field_knows_its_line_and_column(path, place):
    assert one(PLACES).line_of(path) == place


def test_the_second_document_counts_lines_from_the_top_of_the_file():
    second = read(HEAD + "---\nkind: Container\nimage: x\n", "a.yaml")[1]
    assert second.where(["image"]) == "a.yaml:6:1"


# --- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resources:\n\tmin_cpu: 1\n", "train.yaml:5:1: a tab: indent with spaces"),
        ("\timage: x\n", "train.yaml:4:1: a tab: indent with spaces"),
        ("image: x\n  command: y\n", "train.yaml:5:10: a ':' that makes no key here: check the indentation, or quote"),
        ("command: echo a: b\n", "train.yaml:4:16: a ':' that makes no key here: check the indentation, or quote"),
        ("resources:\n    a: 1\n  b: 2\n", "train.yaml:6:3: bad indentation: this line does not line up with the keys"),
        ("env:\n  - key: A\n   value: b\n", "train.yaml:6:4: bad indentation: this does not line up with the list"),
        ('image: "abc\ncommand: x\n', "train.yaml:4:8: a quote that is opened at line 4 is never closed"),
        ("image: 'abc\n---\nkind: Secret\n", "train.yaml:4:8: a quote that is opened at line 4 is never closed"),
        ("args: [a, b\nimage: x\n", "train.yaml:5:6: a '[' that is opened at line 4 is not closed, or a ','"),
        ("resources: {a: 1\nimage: x\n", "train.yaml:5:6: a '{' that is opened at line 4 is not closed, or a ','"),
        ("image: @foo\n", "train.yaml:4:8: a value cannot begin with '@': put it in quotes"),
        ("image: *foo\n", "train.yaml:4:8: an alias (*) without its anchor (&) above"),
        ("image:x\n", "train.yaml:5:1: this is no `key: value`"),
        ("args: - a\n", "train.yaml:4:7: a '-' where no list can begin"),
        ('command: "a\\qb"\n', "train.yaml:4:12: an unknown escape after '\\'"),
        ("image: a\0b\n", "train.yaml:4:9: the character '\\x00' is not allowed in a text file"),
        ("? [a]\n: b\n", "train.yaml:4:3: a key must be plain text"),
        ("image: x\nimage: y\n", "train.yaml:5:1: key 'image' is given twice, at lines 4 and 5"),
        ("env:\n- {key: a, key: b}\n", "train.yaml:5:12: key 'key' is given twice, at lines 5 and 5"),
        ("image: !!python/object/apply:os.system [x]\n", "train.yaml:4:8: tag !!python/object/apply:os.system is not"),
        ("image: !mine x\n", "train.yaml:4:8: tag !mine is not allowed"),
        ("disk: !!int x\n", "train.yaml:4:7: 'x' is no whole number"),
        ("disk: !!float x\n", "train.yaml:4:7: 'x' is no number"),
        ("spot: !!bool x\n", "train.yaml:4:7: 'x' is neither true nor false"),
        ("a: &a [*a]\n", "train.yaml:4:4: nested deeper than 60 levels"),
        ("a: " + "[" * 100_000, "train.yaml:4:63: nested deeper than 60 levels"),
        ("a: " + "- " * 100_000, "train.yaml:4:4: a '-' where no list can begin"),
        ("<<: 5\n", "train.yaml:4:5: `<<` takes a mapping"),
    ],
)
def test_a_malformed_file_is_refused_with_line_column_and_reason(text: str, message: str):
    assert str(refused(HEAD + text)).startswith(message)


def test_aliases_that_multiply_without_bound_are_refused_soon():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "more than 200,000 values once aliases are expanded" in str(refused(HEAD + "\n".join(lines)))


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n", "---\n---\n", "null\n"])
def test_an_empty_file_is_refused_with_how_to_begin(text: str):
    error = refused(text)
    assert str(error) == "train.yaml is empty"
    assert error.hint == "write what to create, beginning with `kind: Container`"


@pytest.mark.parametrize(("text", "what"), [("- kind: Container\n", "a list; separate documents"), ("hello\n", "text")])
def test_what_is_no_mapping_is_refused(text: str, what: str):
    expected = f"train.yaml:1:1: a document must be `key: value` lines, beginning with `kind:`, not {what}"
    assert str(refused(text)).startswith(expected)


def test_a_missing_kind_is_refused_with_the_line_to_add():
    error = refused("image: x\n---\nkind: Secret\n")
    assert str(error) == "train.yaml:1:1: kind is missing"
    assert error.hint == "add a line such as `kind: Container`"


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("Containr", "unknown kind 'Containr'", "did you mean Container?"),
        ("Processor", "kind Processor is not in this release yet", "this release has Container, Secret"),
        ("container", "kind 'container' is written 'Container' in a file", None),
        ("co", "kind 'co' is written 'Container' in a file", None),
        ("5", "kind 5 is not a word", None),
    ],
)
def test_an_unknown_kind_is_refused_where_it_stands(kind: str, message: str, hint: str | None):
    error = refused(f"image: x\nkind: {kind}\n")
    assert (str(error), error.hint) == (f"train.yaml:2:1: {message}", hint)


@pytest.mark.parametrize("other", ["foo", "FOO"])
def test_one_resource_twice_in_a_file_is_refused_with_both_lines(other: str):
    error = refused(f"{HEAD}image: x\n---\nkind: Container\nmetadata: {{name: {other}}}\n")
    assert str(error) == f"train.yaml:7:12: Container {other!r} is given twice, at lines 3 and 7"


def test_the_organization_is_the_same_in_the_name_and_beside_it():
    text = "kind: Container\nmetadata: {name: A/foo}\n---\nkind: Container\nmetadata: {name: foo, owner: a}\n"
    assert "is given twice, at lines 2 and 5" in str(refused(text))


@pytest.mark.parametrize(
    "second", ["kind: Secret\nmetadata: {name: foo}", "kind: Container\nmetadata: {name: foo, namespace: b}"]
)
def test_other_kinds_and_namespaces_may_use_the_name(second: str):
    assert len(read(f"{HEAD}---\n{second}\n", "f")) == 2


def test_a_file_of_more_than_a_megabyte_is_refused():
    assert str(refused("x" * (LARGEST_FILE + 1))) == "train.yaml is larger than 1 MB"


@given(st.text("ab:-[]{}\"'&*!#|>%@ \n\t?<", max_size=40))
def test_any_text_is_read_or_refused_and_never_crashes(text: str):
    said = ""
    try:
        read(HEAD + text, "f.yaml")
    except Rejected as error:
        said = str(error)
    assert said == "" or said.startswith("f.yaml:")
