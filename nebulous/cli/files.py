"""Files of resources, and what the API says of them with file, line and column."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from nebulous.cli import failures
from nebulous.cli.screen import note, paint
from nebulous.client import InvalidRequest
from nebulous.models.documents import Document, check_twice
from nebulous.models.documents import read as parse

STDIN = Path("-")
SUFFIXES = (".yaml", ".yml", ".json")


def read_text(file: Path) -> str:
    """The contents of a file; `-` is stdin.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return sys.stdin.read() if file == STDIN else file.read_text(encoding="utf-8")
    except OSError as error:
        raise failures.UsageError(f"cannot read {str(file)!r}: {error.strerror}", "check the path after -f") from error
    except UnicodeDecodeError as error:
        raise failures.UsageError(f"{called(file)} is not text: byte {error.start} is not UTF-8") from error


def read(file: Path) -> list[Document]:
    """The documents of a YAML or JSON file.

    Raises:
        UsageError: It cannot be read. Rejected: It is empty or malformed; with line and column.
    """
    return parse(read_text(file), called(file))


def read_all(source: str) -> list[Document]:
    """The documents of a file, of all files of a folder by name, of `-`, or of an http(s) address.

    Raises:
        UsageError: It cannot be read. Rejected: One is empty or malformed, or two say something of one resource.
    """
    if "://" in source:
        from nebulous.cli.addresses import fetch

        return parse(fetch(source), source)
    path = Path(source)
    if not path.is_dir():
        return read(path)
    files = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.is_file())
    if not files:
        raise failures.UsageError(
            f"there is no file in {source!r} to apply", f"names must end in {', '.join(SUFFIXES)}"
        )
    documents = [document for file in files for document in read(file)]
    check_twice(documents)
    return documents


def called(file: Path | str) -> str:
    """How messages name the file."""
    return "stdin" if str(file) == str(STDIN) else str(file)


def report_problems(error: InvalidRequest, document: Document | None, overridden: Mapping[str, str]) -> int:
    """Print each problem where it stands: `file:line:column: field: message`, or the flag; return the exit code."""
    from nebulous.models.base import render_path

    for path, message in error.problems:
        flag = overridden.get(str(path[0])) if path else None
        place = flag or (document.where(path) if document is not None else "")
        words = (place, render_path(path), message)
        note(f"{paint('error:', 'red', sys.stderr)} {': '.join(word for word in words if word)}")
    if error.hint:
        note(f"{paint('hint:', 'cyan', sys.stderr)}  {error.hint}")
    return failures.exit_code(error)
