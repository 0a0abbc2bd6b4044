"""What goes wrong with fields of a container on a real Engine: the message and exit code of `nebu create --wait`."""

from __future__ import annotations

import platform as machine
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docker_engine import archive_of
from tests.dockerd import Dockerd
from tests.doubles.registry import Registry
from tests.served import Server

pytestmark = pytest.mark.docker

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3
FOREIGN = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(100)


@pytest.fixture(scope="module")
def server(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    made = Server(tmp_path_factory.mktemp("serve"), {"NEBU_DOCKER_ENABLED": "true", "NEBU_DOCKER_HOST": docker_host})
    made.up()
    yield made
    made.nebu("delete", "containers", "--all", "--yes")
    made.close()


@pytest.fixture
def registry(engine: Dockerd) -> Iterator[Registry]:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    with Registry(engine.init_pid, machine=architecture) as running:
        yield running


def created(server: Server, name: str, document: str) -> tuple[int, str]:
    """Create it from a file and wait; the exit code and all that was said."""
    file = server.folder / f"{name}.yaml"
    file.write_text(f"kind: Container\nmetadata: {{name: {name}}}\nplatform: docker\n{document}")
    ended = server.nebu("create", "-f", str(file), "--wait")
    return ended.returncode, ended.stdout + ended.stderr


def reason(server: Server, name: str) -> str:
    return str(server.status(name).get("reason"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_makes_it_invalid(server: Server, registry: Registry, status: int):
    image = registry.add("tools/hello", archive_of({}, {"/hello": "hello"}))
    registry.fail_with = status
    code, said = created(server, f"refused-{status}", f"image: {image}\ncommand: 'true'\n")
    assert code == FAILED
    assert "invalid (ImageNotFound)" in said
    assert "not ours to read" in said
    assert "registry:" in said
    assert reason(server, f"refused-{status}") == "ImageNotFound"


def test_a_registry_that_asks_for_a_pause_or_is_away_is_waited_for_and_then_named(server: Server, registry: Registry):
    image = registry.add("tools/hello", archive_of({}, {"/hello": "hello"}))
    registry.fail_with = 429
    cases = {
        "limited": (image, "failed (RateLimited)", "asks for a pause"),
        "away": ("127.0.0.1:9/nobody/listens:1", "failed (Unavailable)", "could not be pulled"),
    }

    def one(name: str) -> tuple[int, str]:
        return created(server, name, f"image: {cases[name][0]}\ncommand: 'true'\nprovision_timeout: 1s\n")

    with ThreadPoolExecutor() as both:
        answers = dict(zip(cases, both.map(one, cases), strict=True))
    for name, (code, said) in answers.items():
        assert code == FAILED
        assert cases[name][1] in said
        assert cases[name][2] in said


def test_an_image_for_another_architecture_is_named_and_not_restarted(server: Server, engine: Dockerd, tmp_path: Path):
    program = tmp_path / "program"
    program.write_bytes(FOREIGN)
    with Registry(engine.init_pid, machine="riscv64") as registry:
        image = registry.add("tools/foreign", archive_of({"/bin/program": program}))
        code, said = created(server, "foreign", f"image: {image}\ncommand: [/bin/program]\nrestart: OnFailure\n")
    assert code == FAILED
    assert "failed (WrongArchitecture)" in said
    assert "is made for riscv64" in said
    assert server.status("foreign")["restarts"] == 0  # for it never helps


def test_an_image_without_a_variant_for_this_machine_makes_it_invalid(server: Server, engine: Dockerd):
    with Registry(engine.init_pid, machine="riscv64") as registry:
        image = registry.add_list("tools/few", archive_of({}, {"/hello": "hello"}))
        code, said = created(server, "few", f"image: {image}\ncommand: 'true'\n")
    assert code == FAILED
    assert "invalid (ImageNotFound)" in said
    assert f"{image!r} has no variant for this machine" in said
    assert "no matching manifest" in said
    assert "(choose one that has)" in said


def test_a_taken_port_fails_it_and_is_named(server: Server, image: str):
    ports = "ports: [{port: 18090, public: true}]\n"
    file = server.folder / "holder.yaml"
    file.write_text(
        f"kind: Container\nmetadata: {{name: holder}}\nplatform: docker\nimage: {image}\ncommand: sleep 600\n{ports}"
    )
    assert server.nebu("create", "-f", str(file), "--for", "running").returncode == OK
    assert "18090/tcp" in server.nebu("get", "containers", "holder", "-o", "wide").stdout
    assert "18090/tcp" in server.nebu("describe", "holder").stdout
    code, said = created(server, "second", f"image: {image}\ncommand: sleep 600\n{ports}")
    assert code == FAILED
    assert "failed (PortTaken)" in said
    assert "public port 18090/tcp is taken" in said


def test_a_health_check_on_a_port_that_nothing_listens_on_fails_it_or_shows_it(server: Server, image: str):
    check = "health_check: {path: /, port: 8001, interval: 200ms, retries: 1}\nstop_grace: 1s\n"
    spec = f"image: {image}\ncommand: sleep 600\n{check}"
    code, said = created(server, "deaf", f"{spec}restart: OnFailure\nmax_retries: 0\n")
    assert code == FAILED
    assert "failed (Unhealthy)" in said
    assert "nothing listens on port 8001: connection refused" in said
    file = server.folder / "shown.yaml"
    file.write_text(f"kind: Container\nmetadata: {{name: shown}}\nplatform: docker\n{spec}")
    assert server.nebu("create", "-f", str(file), "--for", "running").returncode == OK
    assert "running (not ready)" in server.nebu("get", "containers", "shown").stdout
    assert server.status("shown")["ready"] is False


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("keep_on_failure: 25h", "a failed machine is kept for at most 24h"),
        ("notify: file:///etc/passwd", "is no http:// or https:// URL"),
        ("health_check: {path: /}", "health_check has a path and no port"),
        ("ssh_keys: [{public_key: nonsense}]", "this is no public key"),
    ],
)
def test_a_field_that_makes_no_sense_creates_nothing(server: Server, field: str, said: str):
    code, words = created(server, "nonsense", f"image: x\n{field}\n")
    assert code == USAGE
    assert said in words
    assert server.nebu("get", "containers", "nonsense").returncode == NOT_FOUND
