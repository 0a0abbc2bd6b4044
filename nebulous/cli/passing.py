"""Verbs that pass words on to a command of the user's: `nebu exec NAME -- CMD…`, `nebu exec NAME CMD…`, `nebu ssh …`.

Without `--` the command begins at the first word behind the NAME that is no option of ours; from there on nothing is
ours any more.
"""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

from nebulous.cli.names import is_kind

#: The verbs that this concerns.
VERBS = frozenset({"exec", "ssh"})
WITH_VALUE = frozenset({"-n", "--namespace", "--owner", "--org"})
_CLUSTER = re.compile(r"-[a-z]+n")  # -itn NAMESPACE
_KEY = "nebulous.passed_on"


def marked(words: list[str]) -> list[str]:
    """The command line of such a verb with `--` where the user's command begins."""
    if not words or words[0] not in VERBS or "--" in words[: _command_begins(words)]:
        return words
    begins = _command_begins(words)
    return [*words[:begins], "--", *words[begins:]] if begins < len(words) else words


def _command_begins(words: list[str]) -> int:
    names_wanted = 1
    at = 1
    while at < len(words) and words[at] != "--":
        word = words[at]
        if word.startswith("-") and word != "-":
            at += 2 if word in WITH_VALUE or _CLUSTER.fullmatch(word) else 1
            continue
        if not names_wanted:
            return at
        names_wanted -= 0 if is_kind(word) and names_wanted else 1
        at += 1
    return at + 1 if at < len(words) else len(words)


class Passing(TyperCommand):
    """A verb whose words behind `--` are somebody else's."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's context has moved between versions
        """Keep them aside and read the rest."""
        own = args[: args.index("--")] if "--" in args else args
        ctx.meta[_KEY] = args[len(own) + 1 :]
        return super().parse_args(ctx, own)


def passed_on(ctx: Any) -> list[str]:  # noqa: ANN401 - as above
    """What stood behind `--`."""
    return list(ctx.meta.get(_KEY, []))
