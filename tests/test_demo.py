"""`make demo` as people see it: a whole story, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"
LIMIT_S = 180


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for temporary folders that no other demo uses."""
    with tempfile.TemporaryDirectory(prefix="nebu-") as made:
        yield Path(made)


def test_the_demo_tells_its_story_and_leaves_nothing_behind(folder: Path) -> None:
    command, env = [sys.executable, str(DEMO)], {**os.environ, "TMPDIR": str(folder)}
    told = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=DEMO.parents[1], env=env
    )
    assert told.returncode == 0, told.stdout + told.stderr
    for said in (
        "Hello from hello on local",
        "restart 2, exit code was 1",
        "OutOfCapacity",
        "4:A100",
        "kill -9",
        "train completed, exit code 0, restarts 0",
        "no containers",
        "nebu serve",
    ):
        assert said in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
    assert list(folder.iterdir()) == []
    assert not [p for p in psutil.process_iter(["cmdline"]) if any(str(folder) in w for w in p.info["cmdline"] or [])]
