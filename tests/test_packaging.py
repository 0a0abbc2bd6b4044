from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from nebulous import __version__
from tests.packages import ROOT, build

SERVER = ("activities", "api", "worker", "workflows")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(file: Path) -> set[str]:
    with zipfile.ZipFile(file) as archive:
        return set(archive.namelist())


def expected_files() -> set[str]:
    own = {"nebulous": "nebulous"} | {package: f"nebulous/_server/{package}" for package in SERVER}
    files = ((place, package, path) for package, place in own.items() for path in (ROOT / package).rglob("*"))
    return {
        f"{place}/{path.relative_to(ROOT / package).as_posix()}"
        for place, package, path in files
        if path.is_file() and path.suffix != ".pyc"
    }


def test_a_wheel_holds_every_file_of_the_packages_inside_nebulous_and_nothing_else(wheel: Path) -> None:
    found = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert found == expected_files()
    assert {"nebulous/py.typed", "nebulous/catalog/accelerators.yaml"} <= found


def test_a_wheel_carries_the_licence(wheel: Path) -> None:
    assert f"nebulous_run-{__version__}.dist-info/licenses/LICENSE" in contents(wheel)


def test_the_same_wheel_is_built_from_the_source_distribution(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert contents(build("wheel", source, tmp_path / "again")) == contents(wheel)


class Installed:
    """The wheel in a folder of its own, run outside the checkout and without the editable install of these tests."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self._folder = folder
        target = folder / "packages"
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*install, "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True, timeout=60
        )
        path = f"{target}{os.pathsep}{sysconfig.get_path('purelib')}"
        self._env = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "120"}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *arguments]  # without site, whose .pth files lead to the checkout
        return subprocess.run(command, cwd=self._folder, env=self._env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_an_installed_nebu_tells_its_version_and_its_verbs(installed: Installed) -> None:
    version = installed.python("-m", "nebulous", "--version")
    assert version.stdout.strip() == f"nebu {__version__}", version.stderr
    assert "Run the server" in installed.python("-m", "nebulous", "--help").stdout


@pytest.mark.parametrize("verb", ["serve", "api", "worker"])
def test_an_installed_nebu_finds_the_commands_of_the_server(installed: Installed, verb: str) -> None:
    answer = installed.python("-m", "nebulous", verb, "--help")
    assert answer.returncode == 0, answer.stderr
    assert f"nebu {verb} [OPTIONS]" in answer.stdout


@pytest.mark.parametrize("package", SERVER)
def test_an_installation_adds_no_package_of_a_common_name(installed: Installed, package: str) -> None:
    answer = installed.python("-c", f"import {package}")
    assert f"No module named {package!r}" in answer.stderr
    found = installed.python(
        "-c", f"from nebulous.layout import use_server_packages as use; use(); import {package} as p; print(p.__file__)"
    )
    assert f"nebulous/_server/{package}/__init__.py" in found.stdout, found.stderr


def test_in_a_checkout_the_path_stays_as_it_is() -> None:
    code = "import sys; before = [*sys.path]; from nebulous import layout; layout.use_server_packages()"
    subprocess.run([sys.executable, "-c", f"{code}; assert sys.path == before"], cwd=ROOT, check=True, timeout=60)
