"""The CLI in this process against a scripted server, and as a program where only that shows the effect."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nebulous.cli import feed
from nebulous.cli.main import main
from nebulous.client import wire
from nebulous.client._sync import follow
from tests import terminals
from tests.doubles import rest
from tests.served import Server
from tests.terminals import Terminal

ROOT = Path(__file__).parents[2]


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str
    raw: bytes = b""


@pytest.fixture(scope="session")
def double() -> Any:
    return rest


@pytest.fixture
def server(double: Any) -> Iterator[Any]:
    with double.rest_server() as running:
        yield running


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the developer's own contexts."""
    config = tmp_path / "nebu" / "config.yaml"
    for name in ("NEBU_SERVER", "NEBU_API_KEY", "NEBU_DEBUG", "NO_COLOR"):
        monkeypatch.setenv(name, "")  # so that what the CLI itself sets is undone too
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEBU_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")
    return config


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions as in life, but sooner."""
    monkeypatch.setattr(wire, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(feed, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def nebu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[..., Ended]:
    """Run `nebu WORDS…` in this process, logged in to the test's server if it has one."""
    if "server" in request.fixturenames:
        monkeypatch.setenv("NEBU_SERVER", request.getfixturevalue("server").url)
        monkeypatch.setenv("NEBU_API_KEY", "a-token")

    def run(*words: str, stdin: str = "") -> Ended:
        streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            with pytest.raises(SystemExit) as ending:
                main(list(words))
        os.environ.pop("NEBU_DEBUG", None)
        raw, err = (stream.buffer.getvalue() for stream in streams.values())  # type: ignore[attr-defined]
        return Ended(int(ending.value.code or 0), raw.decode("utf-8", "replace"), err.decode(), raw)

    return run


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[..., subprocess.Popen[bytes]]:
    """Start `nebu WORDS…` as a program of its own."""
    env = dict(os.environ)
    if "server" in request.fixturenames:
        env |= {"NEBU_SERVER": request.getfixturevalue("server").url, "NEBU_API_KEY": "a-token"}

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "nebulous", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)

    return start


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Terminal]]:
    """Run `nebu WORDS…` on a terminal of its own."""
    env = dict(os.environ)
    if "server" in request.fixturenames:
        env |= {"NEBU_SERVER": request.getfixturevalue("server").url, "NEBU_API_KEY": "a-token"}
    return lambda *words, columns=0: terminals.terminal(env, *words, cols=columns)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a container `foo` that runs on this host, and one, `over`, that has ended."""
    made = Server(tmp_path_factory.mktemp("house"))
    try:
        made.up()
        for name, command in (("foo", "echo up; sleep 3000"), ("over", "exit 0")):
            create = ("create", "container", "--name", name, "--platform", "local", "--cmd", command)
            assert made.nebu(*create).returncode == 0
        made.until_status("foo", "running")
        made.until_status("over", "completed")
        yield made
        made.nebu("delete", "containers", "--all", "--yes")
    finally:
        made.close()
