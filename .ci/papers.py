"""Fail when a file that would be committed names a package registry's host or a path of somebody's machine.

Both are true on one machine only, and tell strangers about it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Where checkouts lie on many machines: these say nothing about one.
COMMON = {"/", "/builds", "/home", "/opt", "/root", "/srv", "/tmp", "/usr/src"}  # noqa: S108 - only compared
REGISTRIES = ("pypi", r"python\w+", "npmjs", "jfrog")
HOSTS = rf"(?:[\w-]+\.)*(?:{'|'.join(REGISTRIES)})\.(?:org|com|io)\b|artifactory\.[\w.-]+"
LIBRARIES = r"/[\w./-]+/(?:site|dist)-packages/"
HOMES = r"/(?:home|Users)/(?!USER\b|user\b|you\b)\w[\w.-]*/"


def patterns() -> dict[str, re.Pattern[str]]:
    """What must not be found, by what it is; the place of this checkout included."""
    parent = str(ROOT.parent)
    places = ([] if parent == "/" else [str(ROOT)]) + ([] if parent in COMMON else [f"{parent}/"])
    paths = "|".join([HOMES, LIBRARIES, *map(re.escape, places)])
    return {
        "the host of a package registry": re.compile(HOSTS),
        "a path of one machine": re.compile(rf"(?<![\w.}}-])(?:{paths})"),
    }


def files() -> list[Path]:
    """What is committed, or would be by `git add`."""
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in answer.stdout.split("\0") if name and name != ".ci/papers.py"]


def findings() -> list[str]:
    """One line for each thing found."""
    found: list[str] = []
    wanted = patterns()
    for file in files():
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in wanted.items():
                if match := pattern.search(line):
                    found.append(f"{file.relative_to(ROOT)}:{number}: {what}: {match[0]!r}")
    return found


if __name__ == "__main__":
    lines = findings()
    print("\n".join(lines) or "papers: no registry's host, no machine's path")  # noqa: T201 - a command
    sys.exit(bool(lines))
