"""`nebu ssh`: a login in a running container, without an SSH server in it; and the way in for programs that speak SSH.

A person gets a shell through `exec`. A program that wants SSH itself (an editor, rsync, `ssh -L`) calls `nebu ssh
--stdio` as its ProxyCommand, and that is an SSH server whose sessions are commands in the container: `ssh_server.py`.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from nebulous.cli import failures, options
from nebulous.cli.exec import show
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.names import select
from nebulous.cli.passing import Passing, passed_on
from nebulous.cli.screen import emit
from nebulous.client import Place
from nebulous.errors import NotFound
from nebulous.remote import execute

CLASS = Passing
#: A login shell, and a line for it as `ssh` hands one over.
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash -l || exec /bin/sh -l"]
LINE = ["/bin/sh", "-c"]
#: What host names end with that are containers: `train.nebu`, `train.research.nebu`.
DOMAIN = ".nebu"

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[KIND] NAME [CMD...]", help="NAME or KIND/NAME.", show_default=False)
]


def command(
    context: typer.Context,
    names: Names = None,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give CMD a terminal; a shell has one.")] = False,
    config: Annotated[bool, typer.Option("--config", help="Print what ~/.ssh/config needs.")] = False,
    stdio: Annotated[bool, typer.Option("--stdio", help="Speak SSH on standard input and output.")] = False,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
) -> int:
    """Log in to a running container: nebu ssh NAME [CMD...]. It needs no SSH server.

    CMD is a line for its shell, as with ssh. What `nebu ssh --config` prints, at the top of ~/.ssh/config, lets ssh,
    rsync, editors and everything else that speaks SSH in, as NAME.nebu or NAME.NAMESPACE.nebu.
    """
    if config:
        return _print_config(names, namespace, owner)
    if not names:
        raise failures.UsageError("which container? nebu ssh NAME", "see what there is: nebu get containers")
    lookup = connect().within(namespace, owner)
    place = _place(lookup, names, stdio)
    if stdio:
        from nebulous.cli import ssh_server

        return ssh_server.serve(lookup.api, place)
    return _log_in(lookup, place, passed_on(context), tty)


def _log_in(lookup: Lookup, place: Place, words: list[str], tty: bool) -> int:
    if tty and not sys.stdin.isatty():
        raise failures.UsageError("-t needs a terminal, and standard input is none")
    tty = tty or (not words and sys.stdin.isatty())
    from nebulous.cli import terminal

    with contextlib.ExitStack() as stack:
        argv = [*LINE, " ".join(words)] if words else SHELL
        execution = stack.enter_context(execute(lookup.api, place, argv, terminal.size() if tty else None))
        if tty:
            stack.enter_context(terminal.raw())
        stack.enter_context(terminal.Input(execution, stdin=True, terminal=tty))
        return show(execution)


def _place(lookup: Lookup, names: list[str], stdio: bool) -> Place:
    """Which container is meant; a host name of ours may end with its namespace."""
    if not (stdio and names[-1].endswith(DOMAIN)):
        target = select(names).only()
        if "logs" not in target.kind.verbs:
            raise failures.UsageError(f"nothing runs in {target.kind.plural}")
        return lookup.place_of(target.kind, lookup.find(target))
    host = names[-1].removesuffix(DOMAIN)
    try:
        return _place(lookup, [f"container/{host}"], stdio=False)
    except NotFound:
        name, dot, namespace = host.rpartition(".")
        if not dot or not name:
            raise
    return _place(lookup.within(namespace, None), [f"container/{name}"], stdio=False)


def _print_config(names: list[str] | None, namespace: str | None, owner: str | None) -> int:
    from nebulous.cli import ssh_config

    lookup = connect().within(namespace, owner)
    chosen = [select([name]).only().name for name in names or []]
    emit(ssh_config.render(ssh_config.hosts(lookup, chosen), owner))
    return 0
