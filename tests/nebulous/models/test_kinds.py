"""The registry of kinds."""

import subprocess
import sys

import pytest

from nebulous.errors import Rejected
from nebulous.models.base import Spec
from nebulous.models.kinds import KINDS, LATER, find


@pytest.mark.parametrize("word", ["container", "containers", "co", "Container", "CONTAINERS", "Co", " container "])
def test_a_kind_is_found_by_every_word_for_it_in_any_case(word: str):
    assert find(word).name == "Container"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_a_model_that_names_it(kind):
    assert issubclass(kind.model, Spec)
    assert kind.model.model_fields["kind"].default == kind.name == kind.workflow


def test_no_word_means_two_kinds():
    words = [word for kind in KINDS for word in kind.words] + [word for words in LATER.values() for word in words]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("word", ["processor", "CLUSTERS", "svc", "q", "ns", "org", "vol"])
def test_a_kind_of_a_later_release_is_refused_as_such(word: str):
    with pytest.raises(Rejected, match="is not in this release yet") as refused:
        find(word)
    assert refused.value.hint == "this release has Container, Secret"


def test_a_misspelt_kind_is_refused_with_the_nearest():
    with pytest.raises(Rejected, match="unknown kind 'containr'") as refused:
        find("containr")
    assert refused.value.hint == "did you mean Container?"


def test_a_word_like_no_kind_is_refused_with_all_of_them():
    with pytest.raises(Rejected, match="unknown kind 'xyz'") as refused:
        find("xyz")
    assert refused.value.hint == "kinds are Container, Secret"


def test_files_and_kinds_are_read_without_pydantic_which_takes_long_to_import():
    code = (
        "import sys, nebulous.models.documents as d\n"
        "d.read('kind: Container\\nimage: x', 'f')\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
