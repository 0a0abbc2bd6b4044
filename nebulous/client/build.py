"""Makes the blocking client of the asynchronous one: `python -m nebulous.client.build`, or `make client`.

Everything in `_async` is written by hand; `_sync` is the same with `async`, `await` and the prefix `Async` taken
away, so that retries, errors and resuming exist once. A test fails when `_sync` is out of date.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE, TARGET = HERE / "_async", HERE / "_sync"

HEAD = "# Made of _async/{name} by `make client`; change that file, not this one.\n"

#: What is called otherwise where nothing is awaited.
WORDS = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "aclose": "close",
    "aclosing": "closing",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "asyncio": "time",  # of which nothing but `sleep` is used
    "_async": "_sync",
}


#: Have nothing in common with their counterparts but what they are for.
BY_HAND = frozenset({"aside.py", "beside.py"})


def made() -> dict[str, str]:
    """The files of `_sync` by name, as they should be."""
    from unasync import Rule, unasync_files  # pyright: ignore[reportUnknownVariableType] - it has no types

    class Blocking(Rule):
        """Takes the prefix away, where unasync would write `Sync` instead."""

        def _unasync_name(self, name: str) -> str:
            if name in self.token_replacements:
                return str(self.token_replacements[name])
            return re.sub(r"^Async(?=[A-Z])", "", name)

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        before.mkdir()
        for file in SOURCE.glob("*.py"):
            if file.name in BY_HAND:
                continue
            (before / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        rule = Blocking(str(before), str(after), WORDS)
        unasync_files([str(file) for file in before.glob("*.py")], [rule])
        return {file.name: _formatted(file) for file in sorted(after.glob("*.py"))}


def _formatted(file: Path) -> str:
    """The text as our formatter leaves it: shorter names need fewer lines, imports another order, and loops less."""
    text = HEAD.format(name=file.name) + file.read_text(encoding="utf-8")
    name = ["--stdin-filename", str(TARGET / file.name)]
    for command in (
        ["check", "--quiet", "--select", "I,C416,UP028", "--fix", "--unsafe-fixes", *name, "-"],
        ["format", *name, "-"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=HERE).stdout
    return text


def main() -> int:
    """Write what has changed."""
    TARGET.mkdir(exist_ok=True)
    wanted = made()
    for file in TARGET.glob("*.py"):
        if file.name not in wanted and file.name not in BY_HAND:
            file.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
