"""What could stand where a shell completes a word: verbs, kinds, names, flags and their values.

`nebu completion SHELL` prints a script that calls `nebu` with `_NEBU_COMPLETE` set to the shell and the line so far in
COMP_LINE. Nothing here may print an error or wait long: a shell that completes is no place for either.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nebulous import ids
from nebulous.client import Json
from nebulous.models import kinds
from nebulous.models.kinds import Kind

ASKED_S = 1.0  # the server has this long to tell names
MOST_NAMES = 200
FILES = ":files"  # the word by which the scripts know that the shell should offer files

#: (what could stand there, what it means)
Candidates = list[tuple[str, str]]


@dataclass
class Line:
    """A command line up to the cursor: its words, and the one that is being written."""

    words: list[str]
    incomplete: str

    @classmethod
    def read(cls, text: str) -> Line:
        """Take a line apart as a shell would, with a quote that is still open closed."""
        for closing in ("", '"', "'"):
            try:
                words = shlex.split(text + closing)
            except ValueError:
                continue
            open_end = bool(closing) or (text != "" and not text[-1].isspace())
            last = words.pop() if words and open_end else ""
            return cls(words, last)
        return cls([], "")

    def after_program(self) -> Line:
        """What follows `nebu`, which may stand behind `sudo` or variables."""
        names = [os.path.basename(word) for word in self.words]
        start = names.index("nebu") + 1 if "nebu" in names else 1
        return Line(self.words[start:], self.incomplete)


@dataclass
class Spot:
    """Where in a command the cursor is: which parameter, and what was said before it."""

    command: Any
    incomplete: str
    parameter: Any = None  # the option whose value is written, or the argument
    flag: bool = False  # a flag's own name is written
    said: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def words(self, name: str) -> list[str]:
        """What was said for a parameter."""
        return self.said.get(name, [])


def answer(shell: str, line: str, word_breaks: str = "") -> str:
    """What the script of a shell reads: one candidate a line; empty when there is none, or anything fails."""
    try:
        found, incomplete = complete(Line.read(line).after_program())
    except Exception:  # a shell that completes shows nothing rather than a traceback
        return ""
    return "\n".join(_FORMS[shell](value, meaning, incomplete, word_breaks) for value, meaning in found)


def complete(line: Line) -> tuple[Candidates, str]:
    """The candidates for the word that is being written, and that word."""
    from nebulous.cli.main import VERBS, Verbs

    if not line.words:
        verbs = [(verb, meaning) for section in VERBS.values() for verb, meaning in section.items()]
        return _matching([*verbs, ("--help", ""), ("--version", "")], line.incomplete), line.incomplete
    command = Verbs().get_command(None, line.words[0])
    rest = line.words[1:]
    if command is not None and hasattr(command, "commands"):
        if not rest:
            inner = [(name, each.get_short_help_str()) for name, each in command.commands.items()]
            return _matching(inner, line.incomplete), line.incomplete
        command, rest = command.commands.get(rest[0]), rest[1:]
    if command is None:
        return [], line.incomplete
    return _in_command(line.words[0], _spot(command, rest, line.incomplete))


def _in_command(verb: str, spot: Spot) -> tuple[Candidates, str]:
    if spot.flag:
        flags = [
            (max(each.opts, key=len), getattr(each, "help", None) or "")
            for each in spot.command.params
            if each.opts[0].startswith("-")
            and (each.multiple or each.name not in spot.said)
            and _fits(verb, each, spot)
        ]
        return _matching([*flags, ("--help", "")], spot.incomplete), spot.incomplete
    prefix = ""
    if spot.parameter is not None and spot.incomplete.startswith("--"):  # --flag=value
        prefix, _, spot.incomplete = spot.incomplete.partition("=")
        prefix += "="
    found = _matching(_values(verb, spot), spot.incomplete)
    return [(value if value == FILES else prefix + value, said) for value, said in found], prefix + spot.incomplete


def _fits(verb: str, flag: Any, spot: Spot) -> bool:  # noqa: ANN401 - a parameter of typer's
    """Whether a flag means something to what `get` was asked for: offers and catalogs have flags of their own."""
    what = "".join(spot.words("what")[:1]).lower()
    if verb != "get" or not what:
        return True
    if what in _OFFERS:
        return flag.name in _OF_OFFERS
    if _kind(what) is None:
        return flag.name in {"platform", "output"}
    return flag.name not in _OF_OFFERS - {"output"}


_OFFERS = {"offers", "offer"}
_OF_OFFERS = {"accelerators", "spot", "regions", "max_price", "min_cpu", "min_memory", "platform", "output"}


def _spot(command: Any, words: Sequence[str], incomplete: str) -> Spot:  # noqa: ANN401 - a command of typer's
    """Walk over what was said, to what the last word is for."""
    options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}
    arguments = [each for each in command.params if not each.opts[0].startswith("-")]
    spot, waiting, only_words, position = Spot(command, incomplete), None, False, 0
    for word in words:
        if waiting is not None:
            spot.said.setdefault(waiting.name, []).append(word)
            waiting = None
        elif word == "--" and not only_words:
            only_words = True
        elif word.startswith("-") and not only_words:
            name, equals, value = word.partition("=")
            option = options.get(name)
            if option is not None:
                spot.said.setdefault(option.name, []).extend([value] if equals else [])
                waiting = option if not equals and not option.is_flag else None
        elif arguments:
            argument = arguments[min(position, len(arguments) - 1)]
            spot.said.setdefault(argument.name, []).append(word)
            position += argument.nargs == 1
    name = incomplete.partition("=")[0]
    if waiting is not None:
        spot.parameter = waiting
    elif incomplete.startswith("-") and not only_words:
        spot.parameter = options.get(name) if "=" in incomplete else None
        spot.flag = spot.parameter is None
    elif arguments:
        spot.parameter = arguments[min(position, len(arguments) - 1)]
    return spot


def _values(verb: str, spot: Spot) -> Candidates:
    parameter = spot.parameter
    if parameter is None:
        return []
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return [(str(each), "") for each in choices]
    if (verb, parameter.name) in _OF_VERB:
        return _OF_VERB[verb, parameter.name](spot)
    return _BY_NAME[parameter.name](spot) if parameter.name in _BY_NAME else []


def _matching(candidates: Iterable[tuple[str, str]], incomplete: str) -> Candidates:
    """Those that begin so, in any case; `FILES` always."""
    folded = incomplete.lower()
    return [each for each in candidates if each[0] == FILES or each[0].lower().startswith(folded)]


# --- values -------------------------------------------------------------------------------------------


def _plain(*words: str) -> Callable[[Spot], Candidates]:
    return lambda _: [(word, "") for word in words]


def _accelerators(spot: Spot) -> Candidates:
    """`1:A100`, with the count that is written already."""
    from nebulous import catalog

    written, _, _ = spot.incomplete.partition(":")
    count = written if written.isdecimal() else "1"
    return [(f"{count}:{name}", "") for name in catalog.load().names.spoken]


def _statuses(_: Spot) -> Candidates:
    from nebulous.cli.containers import STATUSES

    return [(status, "") for status in STATUSES]


def _awaited(spot: Spot) -> Candidates:
    more = {"finished": "whatever comes of it", "ready": "its health check passes", "deleted": "nothing is left of it"}
    return [*_statuses(spot), *more.items()]


def _kinds(_: Spot) -> Candidates:
    return [(kind.plural, f"short: {', '.join(kind.short)}") for kind in kinds.KINDS]


def _creatable(spot: Spot) -> Candidates:
    return [(kind.id, "") for kind in kinds.KINDS] if not spot.words("words") else []


def _gettable(spot: Spot) -> Candidates:
    catalogs = [(word, "") for word in ("accelerators", "platforms", "offers")]
    return [*_kinds(spot), *catalogs] if not spot.words("what") else []


def _got(spot: Spot) -> Candidates:
    found = _kind(spot.words("what")[0]) if spot.words("what") else None
    return _names_of(found, spot, spot.words("names")) if found else []


def _targets(spot: Spot) -> Candidates:
    """Names of containers; behind a kind, names of that kind."""
    said = spot.words("names")
    first = _kind(said[0]) if said else None
    if first:
        return _names_of(first, spot, said[1:])
    names = _names_of(kinds.find("container"), spot, said)
    return names if said else [*names, *_kinds(spot)]


def _kind(word: str) -> Kind | None:
    return next((kind for kind in kinds.KINDS if word.lower() in kind.words), None)


def _names_of(kind: Kind, spot: Spot, given: list[str]) -> Candidates:
    rows = _ask(f"/v1/{kind.plural}", spot, namespace=(spot.words("namespace") or [None])[-1])
    found = [(str(row["metadata"]["name"]), str(row["status"]["status"])) for row in rows.get(kind.plural, [])]
    return [each for each in found if each[0] not in given]


def _copied(spot: Spot) -> Candidates:
    """For `cp`: containers, and what lies in this folder; anything that looks like a path is the shell's."""
    if "/" in spot.incomplete or spot.incomplete[:1] in (".", "~"):
        return [(FILES, "")]
    names = [(f"{name}:", said) for name, said in _names_of(kinds.find("container"), spot, [])]
    local = [(f"{entry.name}/" if entry.is_dir() else entry.name, "") for entry in os.scandir()]
    return [*names, *sorted(local)]


def _namespaces(spot: Spot) -> Candidates:
    rows = _ask("/v1/containers", spot).get("containers", [])
    return [(name, "") for name in sorted({"default", *(str(row["metadata"]["namespace"]) for row in rows)})]


def _ask(path: str, spot: Spot, **query: str | None) -> Json:
    """What the server says within a second; nothing when it does not."""
    from nebulous.cli.lookup import connect
    from nebulous.errors import NebulousError

    try:
        with connect().api as api:
            owner = (spot.words("owner") or [None])[-1]
            return api.glance(path, ASKED_S, owner=owner, limit=MOST_NAMES, **query)
    except NebulousError:
        return {}


def _contexts(_: Spot) -> Candidates:
    from nebulous import contexts

    return [(name, context.server) for name, context in contexts.load().known.items()]


_BY_NAME: dict[str, Callable[[Spot], Candidates]] = {
    "platform": _plain(*ids.PLATFORMS),
    "accelerators": _accelerators,
    "restart": _plain("Never", "OnFailure", "Always"),
    "meter_unit": _plain("second", "minute", "hour"),
    "status": _statuses,
    "wanted": _awaited,
    "until": _awaited,
    "namespace": _namespaces,
    "names": _targets,
    "file": _plain(FILES),
    "env_file": _plain(FILES),
}
_OF_VERB: dict[tuple[str, str], Callable[[Spot], Candidates]] = {
    ("get", "what"): _gettable,
    ("get", "names"): _got,
    ("create", "words"): _creatable,
    ("run", "words"): _plain(FILES),
    ("schema", "kind"): _kinds,
    ("cp", "source"): _copied,
    ("cp", "destination"): _copied,
    ("config", "name"): _contexts,
}


# --- shells -------------------------------------------------------------------------------------------


def _for_bash(value: str, _: str, incomplete: str, word_breaks: str) -> str:
    """Readline replaces only what stands behind the last of its word breaks, such as the colon of `1:A100`."""
    breaks = [incomplete.rfind(each) for each in word_breaks if each in ":="]
    return value if value == FILES else value[max(breaks, default=-1) + 1 :]


def _for_zsh(value: str, meaning: str, *_: str) -> str:
    escaped = value if value == FILES else value.replace(":", "\\:")
    return f"{escaped}:{meaning}" if meaning else escaped


def _for_fish(value: str, meaning: str, *_: str) -> str:
    return f"{value}\t{meaning}" if meaning else value


_FORMS: dict[str, Callable[[str, str, str, str], str]] = {"bash": _for_bash, "zsh": _for_zsh, "fish": _for_fish}
