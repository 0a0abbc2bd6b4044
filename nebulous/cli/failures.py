"""How the CLI ends: every failure has words for a person and an exit code for a script.

0 good · 1 the operation failed · 2 wrong usage · 3 not found · 4 refused (who you are, or what you may) ·
5 the server is out of reach · 130 detached with Ctrl-C.

One rule tells 1 from 2: what is Rejected, here or by the server, was not written as it should be (flag, file, field)
and nothing was done; everything else that can go wrong is 1.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from nebulous.cli.screen import note, paint
from nebulous.errors import Forbidden, NebulousError, NotFound, Rejected, Unauthenticated, Unavailable

FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
UNREACHABLE = 5
DETACHED = 130
BROKEN_PIPE = 141  # as a program ends that SIGPIPE kills

#: For docs/cli.md.
MEANINGS: dict[int, str] = {
    0: "good",
    FAILED: "the operation failed; of `wait` and `create --wait`: the container did not end well",
    USAGE: "the command, or a file that it names, was not written as it should be; nothing was done",
    NOT_FOUND: "it does not exist",
    REFUSED: "refused: who you are (`nebu login`), or what you may",
    UNREACHABLE: "the server is out of reach; the message says what to do",
    DETACHED: "left with Ctrl-C; what was begun goes on (with `--rm`: was stopped and deleted)",
    BROKEN_PIPE: "the reader of the output left",
}
#: These pass on what the command itself ended with, 0 to 255.
OWN_CODE = ("run", "logs -f", "create --follow", "exec", "ssh")

_CODES: tuple[tuple[type[NebulousError], int], ...] = (
    (NotFound, NOT_FOUND),
    (Unauthenticated, REFUSED),
    (Forbidden, REFUSED),
    (Unavailable, UNREACHABLE),
    (Rejected, USAGE),
)


class UsageError(Rejected):
    """The command was not written as it should be."""


def exit_code(error: NebulousError) -> int:
    """The exit code for a failure."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def of_many(codes: Sequence[int]) -> int:
    """The exit code of several, of which some may have been done: the one that all have, else that it failed."""
    first = codes[0] if codes else 0
    return first if all(code == first for code in codes) else FAILED


def end(error: Exception) -> int:
    """Tell what ended the command, and with --debug where it came from; return the exit code, which is the same."""
    if os.environ.get("NEBU_DEBUG"):
        traceback.print_exception(error)
    return report(error) if isinstance(error, NebulousError) else report_bug(error)


def report(error: NebulousError) -> int:
    """Tell the person what failed and what to do; return the exit code."""
    note(f"{paint('error:', 'red', sys.stderr)} {error.message}")
    if error.hint:
        note(f"{paint('hint:', 'cyan', sys.stderr)}  {error.hint}")
    return exit_code(error)


def report_bug(error: Exception) -> int:
    """A failure that nobody foresaw: one line, and how to see the rest."""
    note(f"{paint('error:', 'red', sys.stderr)} unexpected {type(error).__name__}: {error}")
    note(f"{paint('hint:', 'cyan', sys.stderr)}  this is a defect of nebu: run it again with --debug and report it")
    return FAILED


def silence() -> int:
    """The reader of our output has left: say nothing more, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
