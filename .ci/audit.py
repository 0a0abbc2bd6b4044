"""Asks for known vulnerabilities of what we pin, where the package index tells them; part of `make check`.

An index that tells none (a mirror, no network) is said, and is no failure: nothing is known then, good or bad.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT_S = 120


def say(line: str) -> None:
    """Print it."""
    print(line)  # noqa: T201 - a command


def main() -> int:
    """Say one line, or the vulnerabilities; 1 when there are any."""
    command = [Path(sys.executable).with_name("pip-audit"), "--requirement", "requirements.txt", "--require-hashes"]
    options = ["--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError) as error:
        say(f"dependencies: not audited, the package index gave no answer ({type(error).__name__})")
        return 0
    known = [package for package in packages if "vulns" in package]
    bad = [(package, flaw) for package in known for flaw in package["vulns"]]
    for package, flaw in bad:
        fixed = ", ".join(flaw["fix_versions"]) or "nowhere yet"
        say(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}: {flaw['description'][:200]}")
    say(f"dependencies: {len(known)} of {len(packages)} audited, {len(bad)} known vulnerabilities")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
