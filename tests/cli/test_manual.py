"""Every verb has a page and an example, and the examples are ones that the commands take."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from nebulous.cli import failures, manual
from nebulous.cli.examples import EXAMPLES
from nebulous.cli.main import VERBS, Verbs
from nebulous.models.kinds import KINDS, LATER

ALL = [verb for section in VERBS.values() for verb in section]
LINES = [line for lines in EXAMPLES.values() for line, _ in lines]


@pytest.mark.parametrize("verb", ALL)
def test_every_verb_has_an_example_in_its_help_and_a_page(nebu, verb):
    assert EXAMPLES.get(verb), f"add an example of {verb!r} to nebulous/cli/examples.py"
    shown = nebu(verb, "--help")
    assert shown.code == 0
    for line, _ in EXAMPLES[verb]:
        assert line in shown.out, "whole, on one line"
    assert f"\n## nebu {verb}\n" in manual.page()


@pytest.mark.parametrize("line", LINES)
def test_the_commands_take_their_examples(line):
    words = shlex.split(line.replace("$(", "").replace(')"', '"').split(" > ")[0])
    words = words[words.index("nebu") + 1 :] if "nebu" in words else words[1].split()[1:]
    command = Verbs().get_command(None, words[0])
    rest = words[1:]
    if inner := getattr(command, "commands", None):
        command, rest = inner[rest[0]], rest[1:]
    assert command.make_context(words[0], list(rest)).args == []


def test_no_example_is_of_a_verb_that_there_is_not():
    assert set(EXAMPLES) <= set(ALL)


def test_the_page_names_every_exit_code_and_every_spelling_of_a_kind():
    page = manual.page()
    codes = {value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)}
    assert codes | {0} == set(failures.MEANINGS)
    for code in failures.MEANINGS:
        assert f"\n| {code} | " in page
    for kind in KINDS:
        assert all(f"`{word}`" in page for word in kind.words)


@pytest.mark.parametrize("word", [word.upper() if number % 2 else word for number, word in enumerate(KINDS[0].words)])
def test_a_kind_in_any_spelling_and_case(nebu, server, double, word):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    assert nebu("get", word, "foo", "-o", "name").out == "container/foo\n"
    assert nebu("get", f"{word}/foo", "-o", "name").out == "container/foo\n"


@pytest.mark.parametrize("word", [words[-1] for words in LATER.values()])
def test_a_kind_of_a_later_release_says_so(nebu, server, word):
    ended = nebu("get", word)
    assert ended.code == 2
    assert "is not in this release yet" in ended.err


def test_delete_of_many_says_what_became_of_each(nebu, server, double):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    for name in ("a", "c"):
        path = f"/v1/containers/default/{name}"
        server.on("DELETE", path, double.Reply(202, double.container(name, status="stopping")))
    ended = nebu("delete", "containers", "a", "b", "c", "d")
    assert ended.code == 3
    assert ended.out == "container/a deleted\ncontainer/c deleted\n"
    assert ended.err.count("does not exist") == 2


def test_the_guide_points_to_the_page():
    guide = Path(__file__).parents[2] / "docs" / "guide.md"
    assert "(cli.md)" in guide.read_text()
