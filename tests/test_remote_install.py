from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from nebulous import __version__
from tests.packages import ROOT, build

SCRIPT = (ROOT / "remote_install.sh").read_text()

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home of somebody"
    (folder / ".nebu").mkdir(parents=True)
    (folder / ".nebu" / "config.yaml").write_text("contexts: {}\n")
    return folder


@pytest.fixture
def run(home: Path, wheel: Path) -> Run:
    """Pipe the script into bash, as people do; off the network, with the libraries these tests run with."""

    def piped(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name != "XDG_DATA_HOME"}
        env |= {"HOME": str(home), "NEBU_INSTALL_SOURCE": str(wheel), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
        env |= {"PYTHONPATH": sysconfig.get_path("purelib"), "PYTHONDONTWRITEBYTECODE": "1", **variables}
        command = ["bash", "-s", "--", *arguments]
        return subprocess.run(command, input=SCRIPT, cwd=home, env=env, capture_output=True, text=True, timeout=120)

    return piped


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_it_installs_upgrades_and_leaves_nothing_behind(run: Run, home: Path) -> None:
    nebu = home / ".local" / "bin" / "nebu"

    first = run()
    assert first.returncode == 0, first.stderr
    assert f"installed nebu {__version__} as {nebu}" in first.stdout
    assert f'export PATH="{nebu.parent}:$PATH"' in first.stdout
    assert nebu.is_symlink()

    lost = next((home / ".local/share/nebulous/venv").glob("lib/python*/site-packages/nebulous/layout.py"))
    lost.unlink()
    again = run(PATH=f"{nebu.parent}:{os.environ['PATH']}")
    assert again.returncode == 0, again.stderr
    assert lost.is_file()
    assert "export PATH" not in again.stdout

    removed = run("--uninstall")
    assert removed.returncode == 0, removed.stderr
    assert {path.name for path in (home / ".local").rglob("*")} == {"bin", "share"}
    assert files(home / ".nebu") == {"config.yaml"}


def test_it_does_not_touch_a_nebu_of_somebody_else(run: Run, home: Path) -> None:
    theirs = home / ".local" / "bin" / "nebu"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")

    refused = run()
    assert refused.returncode == 1
    assert f"{theirs} exists and is not ours" in refused.stderr
    assert run("--uninstall").returncode == 0
    assert theirs.read_text() == "theirs"


def test_without_a_new_enough_python_it_says_what_to_do(run: Run, home: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "grep", "mkdir", "readlink"):
        found = next(Path(part) / tool for part in os.environ["PATH"].split(":") if (Path(part) / tool).is_file())
        (tools / tool).symlink_to(found)
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # an old one answers so
    (tools / "python3").chmod(0o755)

    refused = run(PATH=str(tools))
    assert refused.returncode == 1
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "apt install python3" in refused.stderr
    assert files(home) == {".nebu/config.yaml"}


def test_it_refuses_an_option_it_does_not_have(run: Run) -> None:
    refused = run("--purge")
    assert refused.returncode == 1
    assert "there is no option '--purge'" in refused.stderr


def test_half_a_download_does_nothing(home: Path) -> None:
    half = SCRIPT[: SCRIPT.index('main "$@"')]
    env = {**os.environ, "HOME": str(home)}
    subprocess.run(["bash", "-s"], input=half, env=env, text=True, check=True, timeout=60)
    assert files(home) == {".nebu/config.yaml"}
