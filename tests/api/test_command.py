"""`nebu api`: it listens, says where, and says in words when it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.command import PortTaken, address_of, bind, command
from nebulous import tokens
from nebulous.errors import Rejected

LIMIT_S = 20.0
SIGNING_KEY = "another-signing-key-for-tests-0123456789"


def test_a_taken_port_says_which_and_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            bind("127.0.0.1", port)
    assert str(port) in caught.value.message
    assert "--port" in str(caught.value.hint)


def test_an_address_of_another_machine_is_refused_in_words() -> None:
    with pytest.raises(Rejected, match="192\\.0\\.2\\.1"):
        bind("192.0.2.1", 0)


def test_settings_that_cannot_be_used_are_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEBU_SIGNING_KEY", "short")
    with pytest.raises(Rejected, match="NEBU_SIGNING_KEY"):
        command(port=0)
    monkeypatch.setenv("NEBU_PORT", "many")
    with pytest.raises(Rejected, match="port"):
        command()


def test_port_zero_takes_a_free_one_and_the_address_names_it() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_it_serves_writes_its_ready_file_and_ends_on_sigterm(backend: Any, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    environment = {
        **os.environ,
        "NEBU_TEMPORAL_ADDRESS": backend.temporal,
        "NEBU_REDIS_URL": backend.redis,
        "NEBU_SIGNING_KEY": SIGNING_KEY,
        "NEBU_DATA_DIR": str(tmp_path / "data"),
    }
    script = (
        f"from api.command import command; from pathlib import Path; command(port=0, ready_file=Path({str(ready)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + LIMIT_S
        while not ready.exists():
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        url = json.loads(ready.read_text())["api"]
        assert httpx.get(f"{url}/health", timeout=10).json()["status"] == "ok"
        large = httpx.post(f"{url}/v1/containers", content=b"x" * 10_000_000, timeout=10)
        assert large.status_code == 401
        caller = tokens.Caller("me", "local", {"local": "admin"})
        token = tokens.mint(SIGNING_KEY.encode(), caller, timedelta(minutes=1))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for content in (b"x" * 10_000_000, (b"x" * 100_000 for _ in range(100))):
            large = httpx.post(f"{url}/v1/containers", content=content, headers=headers, timeout=10)
            assert large.status_code == 413
            assert large.json()["error"]["type"] == "TooLarge"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in {0, -signal.SIGTERM}
