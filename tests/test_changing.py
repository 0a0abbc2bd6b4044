"""Changing what exists as a person does it: the real CLI, API, worker and engine, and kill -9 in between."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from typing import Any

import httpx
import psutil
import pytest

from tests.served import Server, until

OK, FAILED, USAGE = 0, 1, 2
FILE = """\
kind: Container
metadata:
  name: train
  labels: {sim.nebulous/boot: 0s, sim.nebulous/delete_takes: 500ms}
image: busybox
platform: sim
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    running = Server(tmp_path_factory.mktemp("serve"))
    running.ready = running.up()
    yield running
    running.close()


@pytest.fixture
def server(house: Server) -> Generator[Server]:
    """One with nothing in it."""
    yield house
    assert house.nebu("delete", "containers", "--all", "--yes").returncode == OK


def write(server: Server, text: str) -> str:
    (server.folder / "train.yaml").write_text(text)
    return str(server.folder / "train.yaml")


def row(server: Server) -> dict[str, Any]:
    answer = server.nebu("get", "containers", "train", "-o", "json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def life(server: Server) -> str:
    return row(server)["metadata"]["id"]


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_get_prints_is_applied_after_an_edit_and_is_no_change_without(server: Server, output: str) -> None:
    chosen = FILE.replace("platform: sim\n", "platform: sim\ncommand: [sleep, '60']\n")
    assert server.nebu("apply", "-f", write(server, chosen)).returncode == OK
    server.until_status("train", "running")
    for words in (("train",), ()):  # one, and a list of all
        printed = server.nebu("get", "containers", *words, "-o", output).stdout
        nothing = server.nebu("diff", "-f", write(server, printed))
        assert (nothing.returncode, nothing.stdout) == (OK, ""), nothing.stderr
    first, none = life(server), "timeout: null" if output == "yaml" else '"timeout": null'
    edited = printed.replace(
        f" {none}", f" {none.replace('null', '2h' if output == 'yaml' else chr(34) + '2h' + chr(34))}"
    )
    file = write(server, edited)
    assert server.nebu("apply", "-f", file).stdout == "container/train changed\n"
    assert (life(server), row(server)["timeout"]) == (first, "2h")
    stale = server.nebu("apply", "-f", file)  # the version in it is one that nobody has seen the change at
    assert stale.returncode == FAILED
    assert "train.yaml:" in stale.stderr
    assert "it changed meanwhile: resource_version is" in stale.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("create", "container", "--name", "x", "--image", "i", "--platform", "sim", "--timeout", "-5s"),
        ("create", "container", "--name", "x", "--image", "i", "--platform", "sim", "--max-price", "-1"),
        ("run", "--image", "i", "--platform", "sim", "--timeout", "-5s", "--", "true"),
        ("get", "offers", "--max-price", "-1"),
        ("get", "containers", "-l", "nonsense"),
        *((verb, "-f", "-") for verb in ("create", "apply", "diff", "delete", "run")),
        ("wait", "x", "--timeout", "-5s"),
    ],
)
def test_what_is_written_wrongly_ends_with_2_and_does_nothing(house: Server, words: tuple[str, ...]) -> None:
    ended = house.nebu(*words)  # standard input is empty, which is no file
    assert ended.returncode == USAGE, (ended.stdout, ended.stderr)
    assert ended.stderr.startswith("error: ")
    assert house.nebu("get", "containers", "-o", "name").stdout == ""


def test_a_file_is_applied_changed_in_place_and_replaced(server: Server) -> None:
    file = write(server, FILE)
    assert server.nebu("diff", "-f", file).returncode == FAILED
    assert server.nebu("apply", "-f", file).stdout == "container/train created\n"
    server.until_status("train", "running")
    nothing = server.nebu("diff", "-f", file)
    assert (nothing.returncode, nothing.stdout) == (OK, "")
    assert server.nebu("apply", "-f", file).stdout == "container/train unchanged\n"
    first = life(server)

    write(server, f"{FILE}timeout: 2h\nmax_retries: 4\n")
    differing = server.nebu("diff", "-f", file)
    assert differing.returncode == FAILED
    assert differing.stdout == "container/train changes in place\n  + max_retries: 4\n  + timeout: 2h\n"
    assert server.nebu("apply", "-f", file).stdout == "container/train changed\n"
    assert server.nebu("diff", "-f", file).returncode == OK
    assert life(server) == first

    write(server, f"{FILE.replace('busybox', 'alpine')}timeout: 2h\n")
    refused = server.nebu("apply", "-f", file)
    assert refused.returncode == USAGE
    assert "image cannot change in place" in refused.stderr
    assert f"nebu apply -f {file} --replace" in refused.stderr
    assert (life(server), row(server)["max_retries"]) == (first, 4)
    create = server.nebu("create", "-f", file)
    assert (create.returncode, "nebu apply" in create.stderr) == (FAILED, True)

    assert server.nebu("apply", "-f", file, "--replace").stdout == "container/train replaced\n"
    until(lambda: life(server) != first, "the new life has begun")
    server.until_status("train", "running")
    assert row(server)["image"] == "alpine"
    assert server.nebu("diff", "-f", file).returncode == OK


def test_a_stale_version_in_the_file_is_refused_with_what_it_is_now(server: Server) -> None:
    file = write(server, FILE)
    assert server.nebu("apply", "-f", file).returncode == OK
    server.until_status("train", "running")
    version = row(server)["metadata"]["resource_version"]
    assert server.nebu("apply", "-f", file, "--timeout", "1h").returncode == OK
    now = row(server)["metadata"]["resource_version"]
    write(server, FILE.replace("  name: train", f'  name: train\n  resource_version: "{version}"'))
    stale = server.nebu("apply", "-f", file, "--timeout", "3h")
    assert stale.returncode == FAILED
    assert f"resource_version is '{now}', not '{version}'" in stale.stderr
    assert "read it again" in stale.stderr
    assert server.nebu("diff", "-f", file).returncode == USAGE
    assert row(server)["timeout"] == "1h"


def test_a_secret_and_a_container_that_uses_it_are_applied_from_one_file(server: Server) -> None:
    file = write(
        server, f"kind: Secret\nmetadata: {{name: hf}}\nvalue: one\n---\n{FILE}env: [{{key: A, secret_name: hf}}]\n"
    )
    made = server.nebu("apply", "-f", file)
    assert made.stdout == "secret/hf created\ncontainer/train created\n", made.stderr
    broken = write(server, (server.folder / "train.yaml").read_text().replace("secret_name: hf", "secret_name: no"))
    refused = server.nebu("apply", "-f", broken, "--replace")
    assert refused.returncode == USAGE
    assert "there is no secret 'no'" in refused.stderr
    assert "nothing was changed" in refused.stderr


def test_a_new_life_that_was_accepted_begins_although_the_worker_is_killed_in_between(server: Server) -> None:
    file = write(server, FILE)
    assert server.nebu("apply", "-f", file).returncode == OK
    server.until_status("train", "running")
    first = life(server)
    accepted = server.nebu("apply", "-f", file, "--image", "alpine", "--replace")
    assert accepted.stdout == "container/train replaced\n"
    os.kill(server.marks()["worker"]["pid"], signal.SIGKILL)
    until(lambda: life(server) != first and row(server)["status"]["status"] == "running", "the new life runs")
    assert row(server)["image"] == "alpine"
    assert server.nebu("delete", "containers", "train").returncode == OK


def test_a_change_while_no_worker_lives_is_done_wholly_or_not_at_all(
    server: Server, request: pytest.FixtureRequest
) -> None:
    file = write(server, FILE)
    assert server.nebu("apply", "-f", file).returncode == OK
    server.until_status("train", "running")
    mark = server.marks()["worker"]["pid"]
    os.kill(mark, signal.SIGSTOP)  # alive for its supervisor, and mute
    request.addfinalizer(lambda: psutil.pid_exists(mark) and psutil.Process(mark).resume())
    headers = {"Authorization": f"Bearer {server.ready['token']}", "Idempotency-Key": "once"}
    body = {"kind": "Container", "metadata": {"labels": row(server)["metadata"]["labels"]}, "image": "busybox"}
    url = f"{server.ready['api']}/v1/containers/default/train"
    put = {**body, "platform": "sim", "timeout": "1h", "max_retries": 2}
    refused = httpx.put(url, json=put, headers=headers, timeout=30)
    assert refused.status_code == 503
    assert "nebu worker" in refused.json()["error"]["hint"]
    assert (row(server)["timeout"], row(server)["max_retries"]) == (None, None)
    os.kill(mark, signal.SIGCONT)
    again = until(
        lambda: (got := httpx.put(url, json=put, headers=headers, timeout=30)).is_success and got, "it is done"
    )
    assert again.headers["X-Nebu-Outcome"] in {"changed", "same"}
    assert (row(server)["timeout"], row(server)["max_retries"]) == ("1h", 2)
    events = json.loads(server.nebu("events", "train", "-o", "json").stdout)
    changed = [each for each in events["events"] if each["reason"] == "Changed"]
    assert len(changed) == 1
