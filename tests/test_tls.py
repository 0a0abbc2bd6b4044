"""`nebu worker` and `nebu api` over TLS, as programs: certificates, API key, and what is said when one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import served
from tests.doubles.tls_front import Authority, Front, refusing, tls_front

LIMIT_S = 40
KEY = "0ace1iost2aceiost012aceio"[:24]  # see Front.saw_api_key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def front(folder: Path) -> Iterator[Front]:
    authority = Authority(folder)
    authority.issue("client")
    with (
        served(folder / "engine") as engine,
        tls_front(engine.temporal_address, authority.issue("server"), authority) as started,
    ):
        yield started


def environment(front: Front, folder: Path, ca: str = "authority.pem") -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "NEBU_"))}
    return {
        **others,
        "NEBU_TEMPORAL_ADDRESS": front.address,
        "NEBU_DATA_DIR": str(folder / "data"),
        "NEBU_DOCKER_ENABLED": "false",
        "TEMPORAL_TLS": "true",
        "TEMPORAL_API_KEY": KEY,
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(folder / ca),
        "TEMPORAL_TLS_CLIENT_CERT_PATH": str(folder / "client.pem"),
        "TEMPORAL_TLS_CLIENT_KEY_PATH": str(folder / "client.key"),
    }


def until(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while not done():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("by", ["environment", "file"])
def test_a_worker_and_an_api_come_in_with_certificate_and_key(front: Front, folder: Path, by: str) -> None:
    settings = environment(front, folder)
    if by == "file":
        settings = {name: value for name, value in settings.items() if not name.startswith("TEMPORAL_")}
        profile = folder / "temporal.toml"
        profile.write_text(
            f'[profile.default]\napi_key = "{KEY}"\n[profile.default.tls]\n'
            f'server_ca_cert_path = "{folder}/authority.pem"\n'
            f'client_cert_path = "{folder}/client.pem"\nclient_key_path = "{folder}/client.key"\n'
        )
        settings["TEMPORAL_CONFIG_FILE"] = str(profile)
    front.clients.clear()
    front.sent.clear()
    for program in ("worker", "api"):
        ready, log = folder / f"{by}.{program}", folder / f"{by}.{program}.log"
        words = [program, "--ready-file", str(ready), *(["--port", "0"] if program == "api" else [])]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "nebulous", *words], env=settings, stdout=output, stderr=output
            )
        try:
            until(ready.exists, process, log)
            if program == "api":
                url = json.loads(ready.read_text())["api"]
                assert httpx.get(f"{url}/health", timeout=LIMIT_S).json()["temporal"] == "ok"
        finally:
            process.terminate()
            process.wait(LIMIT_S)
        assert front.clients == {"client"}, program
        assert front.saw_api_key(KEY), program
        front.clients.clear()
        front.sent.clear()


def refused(settings: dict[str, str], folder: Path) -> str:
    """What a worker says and ends with; and the API's health says the same."""
    command = [sys.executable, "-m", "nebulous"]
    asked = subprocess.run([*command, "worker"], env=settings, capture_output=True, text=True, timeout=LIMIT_S)
    assert asked.returncode == 5, asked.stderr
    ready, log = folder / f"ready-{time.monotonic_ns()}", folder / "refused.log"
    with log.open("wb") as output:
        words = [*command, "api", "--port", "0", "--ready-file", str(ready)]
        process = subprocess.Popen(words, env=settings, stdout=output, stderr=output)
    try:
        until(ready.exists, process, log)
        health = httpx.get(f"{json.loads(ready.read_text())['api']}/health", timeout=LIMIT_S)
        assert health.status_code == 503
        assert health.json()["temporal"].partition(";")[0] in asked.stderr
    finally:
        process.terminate()
        process.wait(LIMIT_S)
    return asked.stderr


def test_a_certificate_that_is_not_trusted_is_told_so(front: Front, folder: Path) -> None:
    Authority(folder, "stranger")
    said = refused(environment(front, folder, "stranger.pem"), folder)
    assert "the server's certificate is not trusted (UnknownIssuer)" in said
    assert "TEMPORAL_TLS_SERVER_CA_CERT_PATH" in said


def test_a_key_that_is_refused_is_told_so(folder: Path) -> None:
    (folder / "key").mkdir()
    authority = Authority(folder / "key")
    authority.issue("client")
    with refusing() as target, tls_front(target, authority.issue("server"), authority) as front:
        said = refused(environment(front, folder / "key"), folder)
    assert "the server refuses the API key" in said
    assert "TEMPORAL_API_KEY" in said
