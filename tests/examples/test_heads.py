"""What the head of an example says to type is typed as it stands, on a terminal, at a real server; it keeps its word.

A new example needs no test of its own here, only its promises, and what is typed where a program waits for a person.
"""

from __future__ import annotations

import json
import os
import platform as machine
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.docker_engine import client, small_system
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry
from tests.served import LIMIT_S, Server, until
from tests.terminals import typed

EXAMPLES = Path(__file__).parents[2] / "examples"
PASSWORD = secrets.token_hex(8)
ELSEWHERE = ("nebu serve",)  # in another terminal, says the head: the server of these tests
NO_HEAD = {"basic.yaml", "demo.py"}  # SEED.md's own, and `make demo`

LOOKS = ("nebu get", "nebu describe", "nebu events")

#: What a person does there: after the first appears, the second is typed.
TYPED = {
    "nebu logs -f counter": ("has counted to 2\r\n", "\x03"),
    "nebu exec -it counter": ("# ", "exit\r"),
    "nebu create secret registry-password --value -": ("", f"{PASSWORD}\n\x04"),
}
CODES = {"nebu logs -f counter": 130, "python examples/06-create-and-wait.py": 3}

#: What must stand on the screen; what only reads is typed again until it does.
PROMISES = {
    "nebu create container -f examples/01-hello.yaml --wait": "completed",
    "nebu logs hello": "hello from hello, attempt 1, on (docker|local)",
    "nebu create container -f examples/02-fails-and-restarts.yaml --wait": "completed",
    "nebu events flaky": r"(?s)(exit code 1.*){2}exit code 0.*Completed",
    "nebu get containers web -o wide": r"(?s)\bweb\b.*\brunning\b.*8000/tcp",
    "nebu describe web": r"(?s)Ready .*Healthy",
    "nebu logs -f counter": "counter has counted to 1",
    "nebu exec counter -- cat count": r"^\d+\r\n$",
    "echo 1000 | nebu exec -i counter -- tee count": r"1000\r\n",
    "nebu create container -f examples/05-failover.yaml --wait": "completed",
    "nebu describe failover": r"(?s)OutOfCapacity.*OutOfCapacity.*rented",
    "python examples/06-create-and-wait.py": r"(?s)step 3 of .*failed with exit code 3.*is gone",
    "python examples/06-create-and-wait-async.py": "3 of 3 succeeded",
    "python examples/07-start-a-workflow.py": "hello-from-python: completed, exit code 0",
    "nebu get containers hello-from-python": "completed",
    "nebu create container -f examples/08-private-image.yaml --wait": "completed",
    "nebu logs private": r"^hello\r\n$",
}


def printed(file: Path) -> list[str]:
    """The commands in the head of an example, without what is said about them."""
    text = file.read_text()
    head = text.split('"""')[1] if file.suffix == ".py" else "".join(re.findall(r"^#(.*\n)", text, re.MULTILINE))
    lines = re.findall(r"^ {3,4}(\S.*)$", head, re.MULTILINE)
    return [re.split(r"\s+# ", line)[0].strip() for line in lines]


FILES = [file.name for file in sorted(EXAMPLES.iterdir()) if file.is_file() and file.name not in NO_HEAD]


@pytest.fixture(scope="module")
def docker(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """An Engine with `busybox:latest` in it, as if it had been pulled; None where there is none."""
    try:
        host, image = request.getfixturevalue("docker_host"), request.getfixturevalue("image")
    except pytest.skip.Exception:
        yield None
        return
    with client(host) as api:
        name = "/images/busybox:latest"
        ours = api.get(f"{name}/json").status_code != httpx.codes.OK
        if ours:
            api.post(f"/images/{image}/tag", params={"repo": "busybox", "tag": "latest"}).raise_for_status()
        yield host
        if ours:
            api.delete(name)


@pytest.fixture(scope="module")
def server(docker: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    on_docker = {"NEBU_DOCKER_ENABLED": "true", "NEBU_DOCKER_HOST": docker} if docker else {}
    made = Server(tmp_path_factory.mktemp("serve"), on_docker)
    try:
        made.up()
        yield made
        made.nebu("delete", "containers", "--all", "--yes")
    finally:
        made.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout, as far as examples go."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    return tmp_path


@pytest.fixture
def private_image(place: Path, docker: str, engine: Dockerd) -> Iterator[str]:
    """A registry with a login, put into the example as its head says."""
    machine_word = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    with Registry(engine.init_pid, login=("ada", PASSWORD), machine=machine_word) as registry:
        name = registry.add("team/hello", small_system())
        file = place / "examples/08-private-image.yaml"
        file.write_text(file.read_text().replace("registry.example.com/team/hello:1", name))
        yield name
    with client(docker) as api:
        api.delete(f"/images/{name}", params={"force": 1})


def environment(server: Server) -> dict[str, str]:
    """A person's, with `nebu`, `python` and the server's Temporal in it."""
    worker = psutil.Process(server.marks()["worker"]["pid"])
    own = {"TEMPORAL_ADDRESS": worker.environ()["NEBU_TEMPORAL_ADDRESS"]}
    return server.env | own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(line: str, env: dict[str, str], place: Path) -> tuple[int, str]:
    """Type it; its exit code and what stood on the screen."""
    awaited, then = TYPED.get(line, ("", ""))
    with typed(env, line, place) as screen:
        if awaited:
            screen.expect(awaited)
        if then:
            screen.type(then)
        code = screen.ended()
    return code, screen.seen


def check(line: str, env: dict[str, str], place: Path) -> None:
    """Type it, and what only looks again until it shows what was promised."""
    limit = time.monotonic() + LIMIT_S
    while True:
        code, seen = run(line, env, place)
        kept = bool(re.search(PROMISES.get(line, ""), seen, re.MULTILINE))
        if kept or not line.startswith(LOOKS) or time.monotonic() > limit:
            assert (code, kept) == (CODES.get(line, 0), True), f"{line}\n{seen}"
            return


def follow(file: str, server: Server, place: Path, after: Callable[[str], None] = lambda _: None) -> None:
    """Type all of a head."""
    env = environment(server)
    for line in printed(EXAMPLES / file):
        if line not in ELSEWHERE:
            check(line, env, place)
            after(line)


def test_every_example_has_a_head_and_every_promise_stands_in_one() -> None:
    heads = {file: printed(EXAMPLES / file) for file in FILES}
    assert all(heads.values()), heads
    assert {*PROMISES, *TYPED, *CODES} <= {line for lines in heads.values() for line in lines}


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(("03", "04", "08"))])
def test_an_example_does_what_its_head_says(file: str, server: Server, place: Path) -> None:
    follow(file, server, place)


@pytest.mark.docker
def test_a_web_server_becomes_ready_and_is_open_on_its_port(server: Server, place: Path, docker_host: str) -> None:
    follow("03-health-check-and-ports.yaml", server, place)


def test_one_looks_into_a_counter_while_it_runs(server: Server, place: Path) -> None:
    def counted() -> int:
        return int(server.nebu("exec", "counter", "--", "cat", "count").stdout or 0)

    def look(line: str) -> None:
        if "tee" in line:  # what is written just between the counter's own reading and writing is lost: write again
            again = ("exec", "counter", "--", "sh", "-c", "echo 1000 > count")
            until(lambda: counted() > 1000 or not server.nebu(*again), "the counter goes on from 1000")
        if "cp" in line:
            assert int((place / "count").read_text()) > 1000

    follow("04-exec-and-logs.yaml", server, place, look)


@pytest.mark.docker
def test_a_private_image_is_pulled_with_the_password_of_a_secret(
    server: Server, place: Path, private_image: str
) -> None:
    def look(line: str) -> None:
        if "create container" in line:
            row = server.nebu("get", "containers", "private", "-o", "json").stdout
            assert json.loads(row)["image"] == private_image
            assert PASSWORD not in row

    follow("08-private-image.yaml", server, place, look)
