"""`nebu exec`: a further command in a running container, with its input, output, terminal and exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.lookup import connect
from nebulous.cli.names import Target, select
from nebulous.cli.passing import Passing, passed_on
from nebulous.remote import STDERR, RemoteExecution, execute

CLASS = Passing
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec /bin/sh"]


def command(
    context: typer.Context,
    names: options.OneName,
    stdin: Annotated[bool, typer.Option("-i", "--stdin", "--interactive", help="Pass standard input on.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
) -> int:
    """Run a command in a running container: nebu exec [-it] NAME [-n NS] -- CMD...; with -it and none, a shell."""
    target = select(names).only()
    argv = passed_on(context)
    _check(target, argv, stdin, tty)
    lookup = connect().within(namespace, owner)
    place = lookup.place_of(target.kind, lookup.find(target))
    from nebulous.cli import terminal

    with contextlib.ExitStack() as stack:
        execution = execute(lookup.api, place, argv or SHELL, terminal.size() if tty else None)
        stack.enter_context(execution)
        if tty and stdin:
            stack.enter_context(terminal.raw())
        stack.enter_context(terminal.Input(execution, stdin, tty))
        return show(execution)


def _check(target: Target, argv: list[str], stdin: bool, tty: bool) -> None:
    if "logs" not in target.kind.verbs:
        raise failures.UsageError(f"nothing runs in {target.kind.plural}")
    if not argv and not (stdin and tty):
        raise failures.UsageError(f"which command? nebu exec {target.name} -- CMD", "-it without one starts a shell")
    if stdin and tty and not sys.stdin.isatty():
        raise failures.UsageError("-t needs a terminal, and standard input is none", "use -i alone to pass input on")


def show(execution: RemoteExecution) -> int:
    """Pass its output on until it ends; its exit code."""
    try:
        for channel, data in execution.output():
            _write(2 if channel == STDERR else 1, data)
    except KeyboardInterrupt:  # without a raw terminal; leaving ends the command
        return failures.DETACHED
    return execution.exit_code or 0


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
