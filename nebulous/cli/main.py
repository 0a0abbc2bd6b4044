"""The entry point: which verbs there are, and how every one of them ends.

A verb's module is imported when it is used, so that `nebu --help` is instant. The server's commands come
from the entry-point group `nebulous.commands`: this package never imports upward.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from nebulous import __version__
from nebulous.cli import failures, passing

EPILOG = "Begin with `nebu serve`, then: nebu create container --name hello --cmd 'echo hello'"

#: section -> verb -> what the list of verbs says of it; the module has the verb's name.
VERBS: dict[str, dict[str, str]] = {
    "Work with resources": {
        "run": "Create, print what it writes, and end with its exit code.",
        "create": "Create from flags, or from a file with -f.",
        "apply": "Make what exists what a file says: in place, or by a new life; asks first.",
        "diff": "What apply would change; exit code 0: nothing, 1: something.",
        "get": "List what there is, or show one.",
        "describe": "Everything about one: where it runs, what was tried, what happened.",
        "logs": "Print what the command wrote; -f follows it.",
        "exec": "Run a command in a running container; -it for a shell.",
        "ssh": "Log in to a running container; --config for everything that speaks SSH.",
        "port-forward": "Ports of a running container as ports of this machine.",
        "cp": "Copy files and folders into and out of a container.",
        "events": "Print what happened.",
        "watch": "Print what there is, then a line for each change, until Ctrl-C; as get -w.",
        "top": "What running containers use; -w again and again.",
        "wait": "Wait until it has finished, or for a status.",
        "stop": "End the command and give the machine back; the row and the logs stay.",
        "start": "Run a stopped or finished one again.",
        "restart": "End the command and run it again.",
        "delete": "Delete, and wait for the proof that nothing is left.",
    },
    "Choose a server": {
        "login": "Save a server's address and your token.",
        "logout": "Forget the token.",
        "whoami": "Who the server says you are.",
        "config": "Show and switch the contexts in ~/.nebu/config.yaml.",
    },
    "Find out": {
        "doctor": "What is configured, what is reachable, and what to do.",
        "schema": "The JSON schema of a kind.",
        "completion": "Print the completion script of a shell.",
        "version": "The versions of client and server.",
    },
    "Run the server": {
        "serve": "Start everything on this machine: engine, API and worker.",
        "api": "Run the API alone.",
        "worker": "Run a worker alone.",
        "token": "Make a token with the server's own key, where that is.",
    },
}
SERVER = ("serve", "api", "worker")  # found by entry point


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nebu {__version__}")
        raise typer.Exit


class Verbs(TyperGroup):
    """The verbs, each imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's context has moved between versions
        """All verbs, in the order of the table."""
        return [verb for section in VERBS.values() for verb in section]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - as above
        """The verb's command, or None."""
        if cmd_name not in self.commands and cmd_name in self.list_commands(ctx):
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - as above
        """Name the nearest verb where there is none of this name."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            guess = get_close_matches(args[0], self.list_commands(ctx), n=1)
            advice = f"did you mean {guess[0]!r}?" if guess else "`nebu --help` lists them all"
            ctx.fail(f"there is no command {args[0]!r}: {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - as above
        """Write the table of verbs, without importing one."""
        for section, verbs in VERBS.items():
            with formatter.section(section):
                formatter.write_dl(list(verbs.items()), col_max=12)


def main(argv: list[str] | None = None) -> None:
    """Run `nebu`; ends the process."""
    if shell := os.environ.get("_NEBU_COMPLETE"):  # a script of `nebu completion` asks
        _complete(shell)
    words = passing.marked(list(sys.argv[1:] if argv is None else argv))
    own = words[: words.index("--")] if "--" in words else words
    if "--debug" in own:  # people add it at the end of the line that failed, where a group takes no option
        words.remove("--debug")
        os.environ["NEBU_DEBUG"] = "1"
    run(words)


def _complete(shell: str) -> NoReturn:
    from nebulous.cli import completing

    environment = os.environ
    found = completing.answer(shell, environment.get("COMP_LINE", ""), environment.get("COMP_WORDBREAKS", ""))
    try:
        print(found, flush=True)
    except BrokenPipeError:
        failures.silence()
    sys.exit(0)


def run(words: list[str]) -> None:
    """Run one command line; ends the process."""
    application = typer.Typer(
        name="nebu",
        cls=Verbs,
        add_completion=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback(epilog=EPILOG)(nebu)
    typer.main.get_command(application).main(words, prog_name="nebu")


def nebu(
    version: Annotated[
        bool, typer.Option("--version", help="Print the client's version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Run AI containers on whatever accelerator is free, on any cloud, and never lose track of one."""


def ending(function: Callable[..., Any]) -> Callable[..., None]:
    """Give a verb its end: whatever happens, a person gets words and a script gets a code."""

    @functools.wraps(function)
    def command(*arguments: object, **options: object) -> None:
        try:
            code = function(*arguments, **options)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            code = failures.silence()
        except KeyboardInterrupt:
            code = failures.DETACHED
        except Exception as error:
            code = failures.end(error)
        raise typer.Exit(code or 0)

    return command


def _load(verb: str) -> Any:  # noqa: ANN401 - a command, whose type has moved between versions of typer
    """Import a verb: a module with `command`, or with `commands` for a verb that has verbs of its own."""
    kind: Any = None
    if verb in SERVER:
        from nebulous.cli.server import command

        functions, settings = {verb: command(verb)}, None
    else:
        module = importlib.import_module(f"nebulous.cli.{verb.replace('-', '_')}")
        kind = getattr(module, "CLASS", None)
        functions = getattr(module, "commands", None) or {verb: module.command}
        settings = getattr(module, "settings", None)  # of the command's own parser
    application = typer.Typer(
        name=verb,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    if verb not in functions:
        application.callback()(_verbs_of_its_own)  # also where there is but one
    for name, function in functions.items():
        application.command(name, cls=kind, context_settings=settings)(ending(function))
    loaded = typer.main.get_command(application)
    loaded.help = loaded.help or _summary(verb)
    from nebulous.cli.examples import epilog

    loaded.epilog = loaded.epilog or epilog(verb)
    return loaded


def _verbs_of_its_own() -> None: ...


def _summary(verb: str) -> str:
    return next(verbs[verb] for verbs in VERBS.values() if verb in verbs)
