"""The page of the client's methods, made of their docstrings; `nebulous/reference.py` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from nebulous.client import executing, replies
from nebulous.client._sync import api, arrivals, client, containers, follow, inside, secrets

HEAD = """\
# The client, method by method

Generated from the docstrings by `python -m nebulous.reference docs`; do not edit. How to use it: [sdk.md](sdk.md).

`AsyncClient` has the same methods: those that ask the server are awaited, `list`, `as_completed`, `logs` and `watch`
are iterated over with `async for`, and `close` is `aclose`. Types are in the code, where editors show them.
"""

#: A heading, what stands before a method, and where it is defined.
PARTS: tuple[tuple[str, str, type[Any]], ...] = (
    ("Client", "client", client.Client),
    ("Containers", "client.containers", containers.Containers),
    ("Waiting for containers", "client.containers", arrivals.Arrivals),
    ("Inside of a container", "client.containers", inside.Inside),
    ("Secrets", "client.secrets", secrets.Secrets),
    ("Log", "log", follow.Log),
    ("LogFollow", "log", follow.LogFollow),
    ("Api", "client.api", api.Api),
)
SHOWN = (
    replies.Container,
    replies.Secret,
    replies.Applied,
    replies.Plan,
    replies.ContainerChange,
    replies.Platform,
    replies.Accelerator,
    executing.Executed,
    replies.Offers,
    replies.Offer,
    replies.LeftOut,
    replies.Me,
)


def page() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(line for part in PARTS for line in _section(*part)), *_results()])


def _section(title: str, prefix: str, kind: type[Any]) -> Iterator[str]:
    yield from (f"## {title}", "", *_prose(kind), "")
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            yield from (f"### `{prefix}.{name}({_arguments(method)})`", "", *_prose(method), "")


def _results() -> Iterator[str]:
    yield from ("## What comes back", "", "| class | is | has |", "|---|---|---|")
    for kind in SHOWN:
        own = [name for name in inspect.get_annotations(kind) if not name.startswith(("_", "model_"))]
        own += [name for name, value in vars(kind).items() if isinstance(value, property)]
        words = " ".join(_first(kind).split())
        yield f"| `{kind.__name__}` | {words} | {', '.join(f'`{name}`' for name in own)} |"
    yield ""


def _arguments(method: Any) -> str:  # noqa: ANN401 - any function
    shown: list[str] = []
    for name, parameter in inspect.signature(method).parameters.items():
        if name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown and not any(w.startswith("*") for w in shown):
            shown.append("*")
        star = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{star}{name}{default}")
    return ", ".join(shown)


def _first(kind: Any) -> str:  # noqa: ANN401 - a class or a function
    return (inspect.getdoc(kind) or "").partition("\n\n")[0]


def _prose(kind: Any) -> Iterator[str]:  # noqa: ANN401 - a class or a function
    """A docstring in Google style as Markdown: sections become lists."""
    for line in (inspect.getdoc(kind) or "").splitlines():
        if heading := re.fullmatch(r"(Args|Raises):", line):
            yield from (f"*{'Arguments' if heading[1] == 'Args' else heading[1]}*", "")
        elif item := re.fullmatch(r"    (\S[^:]*): (.*)", line):
            names = ", ".join(f"`{name.strip()}`" for name in item[1].split(","))
            yield f"- {names}: {item[2]}"
        else:
            yield line if not line.startswith("        ") else f"  {line.strip()}"
