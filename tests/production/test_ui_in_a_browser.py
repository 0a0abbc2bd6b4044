"""Temporal's own UI in a real browser: payloads are encrypted until the admin has logged in at the codec."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.production.conftest import without
from tests.production.topology import LIMIT_S, free_ports, until
from tests.served import Server

CANARY = "canary-4711"
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
OPTIONS += ["--no-first-run", "--disable-component-update", "--window-size=1400,1600"]
#: What the glasses of the UI set; docker-compose.yml sets the same by the environment.
SET = "for (const [key, value] of Object.entries(arguments[0])) localStorage.setItem(key, JSON.stringify(value))"


class Browser:
    """Chromium by the WebDriver protocol."""

    def __init__(self, driver: str) -> None:
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": OPTIONS}}
        self._http = httpx.Client(base_url=driver, timeout=LIMIT_S)
        made = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).raise_for_status()
        self._session = f"/session/{made.json()['value']['sessionId']}"

    def _ask(self, path: str, **body: Any) -> Any:
        return self._http.post(f"{self._session}/{path}", json=body).raise_for_status().json()["value"]

    def open(self, url: str) -> None:
        self._ask("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._ask("execute/sync", script=script, args=list(arguments))

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def close(self) -> None:
        self._http.delete(self._session)


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = shutil.which("chromedriver")
    if program is None or not shutil.which("chromium"):
        without("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    (port,) = free_ports(1)
    driver = subprocess.Popen([program, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/status").json()["value"]["ready"], "the driver is ready")
        opened = Browser(url)
        yield opened
        opened.close()
    finally:
        driver.terminate()
        driver.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (port,) = free_ports(1)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    ui = f"http://localhost:{port}"
    made = Server(tmp_path, {"NEBU_UI_PORT": str(port), "NEBU_UI_ORIGIN": ui, "NEBU_ENCRYPTION_KEY": key})
    try:
        made.up()
        yield made
    finally:
        made.close()


def test_the_ui_shows_payloads_once_the_admin_has_logged_in_and_no_longer_after(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    create = ("create", "container", "--name", "told", "--platform", "sim", "--cmd", f"echo {CANARY}")
    assert server.nebu(*create).returncode == 0
    token = server.nebu("token", "create", "--admin", NEBU_DATA_DIR=str(tmp_path / "server")).stdout.strip()
    api, ui = (
        json.loads((tmp_path / "ready.json").read_text())["api"].replace("127.0.0.1", "localhost"),
        server.more_env["NEBU_UI_ORIGIN"],
    )
    workflow = f"{ui}/namespaces/default/workflows/container%2Flocal%2Fdefault%2Ftold"
    browser.open(ui)
    settings = {"endpoint": f"{api}/codec", "includeCredentials": True, "overrideRemoteCodecConfiguration": True}
    browser.run(SET, settings)

    def shown() -> bool:
        browser.open(workflow)
        until(lambda: "told" in browser.text() and "Input" in browser.text(), "the page of the workflow")
        try:
            return bool(until(lambda: CANARY in browser.text(), "the canary", 5))
        except AssertionError:
            return False

    assert not shown()
    browser.open(f"{api}/codec/login")
    browser.run("document.querySelector('input').value = arguments[0]; document.forms[0].submit()", token)
    until(lambda: "Done, for 12 hours" in browser.text(), "logged in")
    assert "nebu_codec" not in str(browser.run("return document.cookie"))
    assert shown()
    browser.open(f"{api}/codec/login")
    browser.run("document.forms[1].submit()")
    until(lambda: "Logged out" in browser.text(), "logged out")
    assert not shown()
