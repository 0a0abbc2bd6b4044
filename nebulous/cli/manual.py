"""docs/cli.md: a page of every verb, made of the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from nebulous.cli.examples import EXAMPLES
from nebulous.cli.failures import MEANINGS, OWN_CODE
from nebulous.cli.main import VERBS, Verbs
from nebulous.models.kinds import KINDS

HEAD = """\
# The command line

Generated from the commands by `python -m nebulous.reference docs`; do not edit. In a terminal: `nebu VERB --help`.

`nebu VERB [KIND] NAME`: without a kind a NAME is a container's; `KIND NAME` and `KIND/NAME` name others, and
`ORGANIZATION/NAME` somebody else's. `-n` names the namespace. Results go to standard output, everything else to
standard error; where that is no terminal, progress is one line a change. `--debug` shows where an error came from.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, _kinds(), _codes(), _contents()]
    for section, verbs in VERBS.items():
        parts.append(f"# {section}\n")
        parts += [_verb(verb, meaning) for verb, meaning in verbs.items()]
    return "\n".join(parts)


def _kinds() -> str:
    rows = [f"| {kind.name} | {', '.join(f'`{word}`' for word in kind.words)} |" for kind in KINDS]
    return "\n".join(["## Kinds", "", "| kind | may be written, in any case |", "|---|---|", *rows, ""])


def _codes() -> str:
    rows = [f"| {code} | {meaning} |" for code, meaning in MEANINGS.items()]
    own = ", ".join(f"`{verb}`" for verb in OWN_CODE)
    last = f"\n{own} end with the exit code of the command in the container, and with 1 where there is none."
    return "\n".join(["## Exit codes", "", "| code | means |", "|---|---|", *rows, last, ""])


def _contents() -> str:
    lines = [
        f"- {section}: {', '.join(f'[{verb}](#nebu-{verb})' for verb in verbs)}" for section, verbs in VERBS.items()
    ]
    return "\n".join(["## Verbs", "", *lines, ""])


def _verb(verb: str, meaning: str) -> str:
    command = Verbs().get_command(None, verb)
    parts = [f"## nebu {verb}", "", meaning, ""]
    inner: dict[str, Any] = getattr(command, "commands", {})
    for name, each in inner.items():
        parts += [f"### nebu {verb} {name}", "", *_command(f"{verb} {name}", each)]
    if not inner:
        parts += _command(verb, command)
    examples = [f"{line}{f'   # {note}' if note else ''}" for line, note in EXAMPLES[verb]]
    return "\n".join([*parts, "```sh", *examples, "```", ""])


def _command(words: str, command: Any) -> Iterator[str]:  # noqa: ANN401 - a command of typer's
    arguments = [each for each in command.params if not _is_option(each)]
    options = [each for each in command.params if _is_option(each) and not getattr(each, "hidden", False)]
    usage = " ".join([f"nebu {words}", *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    yield from ["```", usage, "```", ""]
    yield from [inspect.cleandoc(command.help or "").replace("\n\n", "\n").strip(), ""]
    if options:
        yield from ["| option | |", "|---|---|", *map(_option, options), ""]


def _is_option(parameter: Any) -> bool:  # noqa: ANN401 - as above
    return str(parameter.opts[0]).startswith("-")


def _argument(parameter: Any) -> str:  # noqa: ANN401 - as above
    shown = str(parameter.metavar or parameter.name.upper())
    return shown if parameter.required or shown.startswith("[") else f"[{shown}]"


def _option(parameter: Any) -> str:  # noqa: ANN401 - as above
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    value = "" if parameter.is_flag else f" {_value(parameter)}"
    more = " Repeatable." if parameter.multiple and "repeat" not in (parameter.help or "").lower() else ""
    return f"| {names}{value} | {parameter.help or ''}{more} |".replace("|…", "…")


def _value(parameter: Any) -> str:  # noqa: ANN401 - as above
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return " ".join(f"`{choice}`" for choice in choices)
    return str(parameter.metavar or _TYPES.get(parameter.type.name, parameter.type.name.upper()))


_TYPES = {"text": "TEXT", "str": "TEXT", "integer": "NUMBER", "int": "NUMBER", "integer range": "NUMBER"} | {
    "float": "NUMBER",
    "path": "FILE",
}
