"""The CLI in this process against a scripted server, and as a program where only that shows the effect."""

from __future__ import annotations

import importlib.util
import io
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nebulous.cli import feed
from nebulous.cli.main import main
from nebulous.client import wire
from nebulous.client._sync import follow

LIMIT_S = 20.0
ROOT = Path(__file__).parents[2]


def _load_double() -> Any:
    """tests/ is no package, so a double is loaded from its file."""
    spec = importlib.util.spec_from_file_location("nebulous_rest_double", ROOT / "tests/doubles/rest.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str
    raw: bytes = b""


@pytest.fixture(scope="session")
def double() -> Any:
    return _load_double()


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


class Screen:
    """A terminal with `nebu` on it."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.seen = ""
        self._process, self._end = process, end
        self._read_to = 0

    def expect(self, text: str) -> None:
        """Read until the text stands there; the test fails when it does not come."""
        while text not in self.seen[self._read_to :]:
            assert self._more(), f"{text!r} did not come, but {self.seen!r}"
        self._read_to = self.seen.index(text, self._read_to) + len(text)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def ended(self) -> int:
        while self._more():
            pass
        return self._process.wait(LIMIT_S)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], LIMIT_S)
        try:
            data = os.read(self._end, 65536) if ready else b""
        except OSError:  # Linux says EIO when the last program has left the terminal
            data = b""
        self.seen += data.decode()
        return bool(data)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Screen]]:
    """Run `nebu WORDS…` on a terminal of its own."""
    env = {**os.environ, "TERM": "xterm"}
    if "server" in request.fixturenames:
        env |= {"NEBU_SERVER": request.getfixturevalue("server").url, "NEBU_API_KEY": "a-token"}
    take_terminal = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    code = take_terminal + "from nebulous.cli.main import main; main(sys.argv[1:])"

    @contextmanager
    def start(*words: str, columns: int = 0) -> Iterator[Screen]:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=ROOT,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Screen(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    return start
