"""What people get wrong, each with its message and its exit code: the real CLI, API, worker and engine."""

from __future__ import annotations

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from nebulous import tokens
from nebulous.settings import Settings
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry
from tests.served import Server

OK, FAILED, USAGE, NOT_FOUND, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4, 5

CONTAINER = "kind: Container\nimage: busybox\nplatform: sim\n"

FILES = {
    "unknown field": (CONTAINER + "comand: x\n", "bad.yaml:4:1: comand: unknown field; did you mean 'command'?"),
    "wrong type": (CONTAINER + "command: 5\n", "command: should be text or a list, not 5"),
    "bad accelerator": (CONTAINER + "accelerators: ['1:L40SS']\n", "L40S"),
    "bad duration": (CONTAINER + "timeout: ten minutes\n", "'ten minutes' is not a duration"),
    "name too long": (CONTAINER + f"metadata: {{name: {'x' * 70}}}\n", "has 70 characters; at most 63"),
    "two slashes": (CONTAINER + "metadata: {name: a/b/c}\n", "with one slash at most"),
    "nothing to run": ("kind: Container\nplatform: sim\n", "image or command is required"),
    "empty command": (CONTAINER + "command: '  '\n", "command is empty"),
    "unknown kind": ("kind: Contaner\nimage: x\n", "did you mean"),
    "malformed YAML": ("kind: Container\nimage: [a\ncommand: b\n", "bad.yaml:3:"),
    "a tab": ("kind: Container\n\timage: a\n", "bad.yaml:2:"),
    "duplicate key": (CONTAINER + "image: b\n", "bad.yaml:4:1"),
    "duplicate in one file": (
        "kind: Container\nmetadata: {name: a}\nimage: x\n---\nkind: Container\nmetadata: {name: a}\nimage: y\n",
        "is given twice, at lines 2 and 6",
    ),
    "unknown platform": ("kind: Container\nimage: x\nplatform: dokcer\n", "did you mean 'docker'?"),
    "platform not configured": ("kind: Container\nimage: x\nplatform: ec2\n", "nebu serve --simulate ec2"),
    "secret missing": (CONTAINER + "env_vars: [{key: A, secret_name: nope}]\n", "nebu create secret nope"),
    "impossible on gce": ("kind: Container\nimage: x\nplatform: gce\naccelerators: ['1:A40']\n", "A40"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(
        tmp_path_factory.mktemp("serve"),
        {"NEBU_DOCKER_ENABLED": "true", "NEBU_DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    )
    made.ready = made.up()
    yield made
    made.close()


@pytest.mark.parametrize("wrong", FILES)
def test_a_wrong_file_creates_nothing_and_says_what_and_where(server: Server, tmp_path: Path, wrong: str) -> None:
    text, said = FILES[wrong]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    ended = server.nebu("create", "-f", str(file))
    assert ended.returncode == USAGE, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert server.nebu("get", "containers").stdout.strip() in ("", "no containers")


def test_a_body_of_ten_megabytes_is_refused(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.ready['token']}", "Content-Type": "application/json"}
    answer = httpx.post(f"{server.ready['api']}/v1/containers", content=b" " * 10_000_000, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(("token", "said"), [("nonsense", "nebu login"), ("expired", "has expired")])
def test_a_wrong_or_expired_token_is_refused(server: Server, token: str, said: str) -> None:
    if token == "expired":
        key = tokens.signing_key(Settings(data_dir=Path(server.ready["data_dir"])))
        token = tokens.mint(key, tokens.local_admin(), timedelta(hours=-1))
    ended = server.nebu("get", "containers", NEBU_SERVER=server.ready["api"], NEBU_API_KEY=token)
    assert ended.returncode == REFUSED
    assert said in ended.stderr


def test_an_unreachable_server_is_named_with_what_to_start(server: Server) -> None:
    ended = server.nebu("get", "containers", NEBU_SERVER="http://127.0.0.1:9", NEBU_API_KEY="x")
    assert ended.returncode == UNREACHABLE
    assert "127.0.0.1:9" in ended.stderr
    assert "nebu serve" in ended.stderr


def test_docker_that_does_not_run_keeps_it_pending_and_then_fails_with_the_reason(server: Server) -> None:
    file = server.folder / "docker.yaml"
    file.write_text("kind: Container\nmetadata: {name: d}\nimage: x\nplatform: docker\nprovision_timeout: 1s\n")
    ended = server.nebu("create", "-f", str(file), "--wait")
    assert ended.returncode == FAILED
    assert "Docker does not answer at unix:///nonexistent/docker.sock" in ended.stdout + ended.stderr
    assert "pending" in ended.stdout + ended.stderr
    assert server.nebu("delete", "containers", "d").returncode == OK


def test_a_name_that_exists_with_another_spec_is_a_conflict_and_the_same_spec_is_not(server: Server) -> None:
    create = ["create", "container", "--name", "twice", "--platform", "sim", "--image"]
    assert server.nebu(*create, "a").returncode == OK
    again = server.nebu(*create, "a")
    assert again.returncode == OK
    assert "unchanged" in again.stdout
    other = server.nebu(*create, "b")
    assert other.returncode == FAILED
    assert "another spec" in other.stderr
    assert "delete it first" in other.stderr
    assert server.nebu("delete", "containers", "twice").returncode == OK


def test_of_two_creates_of_one_name_at_once_one_wins_and_the_other_is_told(server: Server) -> None:
    for name in ("race", "again"):
        create = ("create", "container", "--name", name, "--platform", "sim", "--image")
        with ThreadPoolExecutor() as both:
            ended = list(both.map(lambda image, create=create: server.nebu(*create, image), ("a", "b")))
        won, lost = sorted(ended, key=lambda each: each.returncode)
        assert (won.returncode, lost.returncode) == (OK, FAILED), ended
        assert won.stdout == f"container/{name} created\n"
        assert "another spec" in lost.stderr
        assert "delete it first" in lost.stderr
        row = json.loads(server.nebu("get", "containers", name, "-o", "json").stdout)
        assert (row["image"], row["status"]["attempt"]) == ("ab"[ended.index(won)], 1)
        assert server.nebu("delete", "containers", name).returncode == OK  # and no second life begins behind it
        assert server.nebu("get", "containers", name).returncode == NOT_FOUND


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["get", "contaners"], USAGE, "did you mean"),
        (["get", "processors"], USAGE, "release"),
        (["get", "containers", "nobody"], NOT_FOUND, "nobody"),
        (["delete", "containers", "nobody"], NOT_FOUND, "nobody"),
        (["logs", "nobody"], NOT_FOUND, "nobody"),
        (["create", "-f", "/nonexistent.yaml"], USAGE, "/nonexistent.yaml"),
        (["create", "container", "--image", "x", "--env", "NOVALUE"], USAGE, "NOVALUE"),
        (["creat"], USAGE, "did you mean 'create'?"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(server: Server, words: list[str], code: int, said: str) -> None:
    ended = server.nebu(*words)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr


@pytest.mark.docker
def test_an_image_that_does_not_exist_makes_it_invalid(docker_host: str, engine: Dockerd, tmp_path: Path) -> None:
    with Registry(engine.init_pid) as registry:
        own = Server(tmp_path, {"NEBU_DOCKER_ENABLED": "true", "NEBU_DOCKER_HOST": docker_host})
        try:
            own.up()
            image = f"{registry.address}/no/such:1"
            create = ["create", "container", "--name", "none", "--platform", "docker", "--image", image, "--wait"]
            ended = own.nebu(*create)
            assert ended.returncode == FAILED
            assert "invalid (ImageNotFound)" in ended.stdout + ended.stderr
            assert image in ended.stdout + ended.stderr
            assert own.nebu("delete", "containers", "none").returncode == OK
        finally:
            own.close()
