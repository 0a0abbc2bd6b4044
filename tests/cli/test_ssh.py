"""`nebu ssh` against a real `nebu serve`; and the SSH of other programs through it: OpenSSH's own `ssh` and `scp`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.served import Server, until
from tests.terminals import terminal, typed

LIMIT_S = 60.0
NEBU = (sys.executable, "-m", "nebulous")


def nebu(house: Server, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nebulous", *words]
    return subprocess.run(command, env=house.env, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)


@pytest.fixture(scope="module")
def config(house: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `nebu ssh --config` prints, with the program of these tests as `nebu`."""
    printed = nebu(house, "ssh", "--config")
    assert printed.returncode == 0, printed.stderr
    path = tmp_path_factory.mktemp("ssh") / "config"
    path.write_bytes(printed.stdout)
    return path


def ssh(house: Server, config: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = ["ssh", "-F", str(config), *words]
    return subprocess.run(command, env=house.env, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)


def test_a_line_runs_in_a_shell_and_its_exit_code_is_ours(house: Server) -> None:
    ended = nebu(house, "ssh", "foo", "echo $((6 * 7));", "echo err >&2; exit 3")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"42\n", b"err\n")


def test_without_a_terminal_a_shell_reads_its_input(house: Server) -> None:
    ended = nebu(house, "ssh", "foo", stdin=b"echo from the shell; exit 5\n")
    assert (ended.returncode, ended.stdout) == (5, b"from the shell\n")


def test_on_a_terminal_it_is_a_login_shell(house: Server) -> None:
    with terminal(house.env, "ssh", "foo") as screen:
        screen.type("tty >/dev/null && stty size && echo $((40 + 2))-here; exit 7\n")
        screen.expect("24 80")
        screen.expect("42-here")
        assert screen.ended() == 7


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "which container? nebu ssh NAME"),
        (["nope"], 3, "container/nope does not exist"),
        (["over", "true"], 1, "nothing runs in it any more"),
        (["-t", "foo"], 2, "-t needs a terminal"),
        (["secret/x"], 2, "nothing runs in secrets"),
        (["--stdio", "nope.nebu"], 3, "container/nope does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(house: Server, words: list[str], code: int, said: str) -> None:
    ended = nebu(house, "ssh", *words)
    assert ended.returncode == code, ended
    assert said in ended.stderr.decode()


def test_the_configuration_names_what_runs_and_holds_for_everything(house: Server, config: Path) -> None:
    text = config.read_text()
    assert "Host foo.nebu\n" in text
    assert "Host *.nebu\n" in text
    assert "ssh --stdio '%n'\n" in text
    assert nebu(house, "ssh", "--config", "over").stdout.startswith(b"Host over.nebu\nHost *.nebu\n")
    assert b" ssh --owner local --stdio '%n'\n" in nebu(house, "ssh", "--config", "--owner", "local").stdout
    assert nebu(house, "ssh", "--config", "nope").returncode == 3


def test_a_host_name_is_no_line_for_a_shell(house: Server, config: Path, tmp_path: Path) -> None:
    """Whatever a version of ssh lets through: what it would hand to the shell is one word."""
    command = next(line for line in config.read_text().splitlines() if "ProxyCommand" in line).split(maxsplit=1)[1]
    mark = tmp_path / "run"
    line = command.replace("%n", f"$(touch {mark});`touch {mark}`.nebu").replace("%%", "%")
    ended = subprocess.run(
        ["sh", "-c", line], env=house.env, input=b"", capture_output=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode != 0
    assert not mark.exists()


def test_openssh_gets_in_by_name_and_by_name_and_namespace(house: Server, config: Path) -> None:
    ended = ssh(house, config, "foo.nebu", "echo out; echo err >&2; exit 42")
    assert (ended.returncode, ended.stdout, ended.stderr) == (42, b"out\n", b"err\n")
    sent = os.urandom(300_000)
    ended = ssh(house, config, "foo.default.nebu", "cat", stdin=sent)
    assert (ended.returncode, ended.stdout) == (0, sent)


def test_openssh_has_a_terminal(house: Server, config: Path, tmp_path: Path) -> None:
    with typed(house.env, f"ssh -F {config} -t foo.nebu 'stty size; tty -s && echo yes'", tmp_path) as screen:
        screen.expect("24 80")
        screen.expect("yes")
        assert screen.ended() == 0


@contextmanager
def running(house: Server, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose output is read; ended whatever becomes of the test."""
    env = {name: value for name, value in house.env.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served_inside(house: Server, folder: Path) -> Iterator[str]:
    """A web server in the container; its port. On `local` inside is here."""
    (folder / "page").write_text("served inside")
    serve = f"cd {folder} && exec {sys.executable} -u -m http.server --bind 127.0.0.1 0"
    with running(house, *NEBU, "exec", "foo", "--", "sh", "-c", serve) as server:
        assert server.stdout
        yield server.stdout.readline().split(b" port ")[1].split()[0].decode()


def test_a_port_of_the_container_is_forwarded(house: Server, config: Path, tmp_path: Path) -> None:
    local = free_port()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(served_inside(house, tmp_path))
        forward = ("ssh", "-F", str(config), "-N", "-L", f"{local}:127.0.0.1:{port}", "foo.nebu")
        stack.enter_context(running(house, *forward))
        until(lambda: fetched(f"http://127.0.0.1:{local}/page") == b"served inside", "the page comes through")
        readers = stack.enter_context(ThreadPoolExecutor(5))
        assert list(readers.map(fetched, [f"http://127.0.0.1:{local}/page"] * 5)) == [b"served inside"] * 5


def test_connections_that_say_nothing_hold_up_no_other_and_no_end(house: Server, config: Path) -> None:
    local = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as stack:
        port = silent.getsockname()[1]
        forward = ["ssh", "-F", str(config), "-N", "-L", f"{local}:127.0.0.1:{port}", "foo.nebu"]
        line = stack.enter_context(running(house, *forward))
        silent.settimeout(LIMIT_S)
        until(lambda: connects(local), "ssh listens")
        silent.accept()[0].close()  # that was the look
        for _ in range((os.cpu_count() or 1) + 8):
            stack.enter_context(socket.create_connection(("127.0.0.1", local)))
            stack.enter_context(silent.accept()[0])  # it got there, and waits
        last = stack.enter_context(socket.create_connection(("127.0.0.1", local)))
        there = stack.enter_context(silent.accept()[0])
        last.sendall(b"up")
        assert there.recv(2) == b"up"
        there.sendall(b"down")
        assert last.recv(4) == b"down"
        helper = psutil.Process(line.pid).children(recursive=True)
        assert helper
        line.terminate()
        gone, left = psutil.wait_procs(helper, LIMIT_S)
        assert not left
        assert gone


def test_a_command_ends_with_its_channel_though_the_line_stands(house: Server, config: Path, tmp_path: Path) -> None:
    mark = str(10**9 + os.getpid())
    master = ["ssh", "-F", str(config), "-N", "-M", "-S", str(tmp_path / "s"), "foo.nebu"]
    with running(house, *master):
        until((tmp_path / "s").exists, "the master is there")
        with running(house, "ssh", "-S", str(tmp_path / "s"), "foo.nebu", f"exec sleep {mark}"):
            until(lambda: sleeping(mark), "the command runs")
        until(lambda: not sleeping(mark), "the command is ended")


def sleeping(mark: str) -> bool:
    return any((each.info["cmdline"] or [""])[-1] == mark for each in psutil.process_iter(["cmdline"]))


def test_scp_copies_with_the_old_protocol_and_says_that_there_is_no_new_one(
    house: Server, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "sent").write_bytes(os.urandom(100_000))
    command = ["scp", "-F", str(config), "-O", str(tmp_path / "sent"), f"foo.nebu:{tmp_path}/got"]
    ended = subprocess.run(command, env=house.env, capture_output=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "got").read_bytes() == (tmp_path / "sent").read_bytes()


def test_what_does_not_run_is_said_to_ssh(house: Server, config: Path) -> None:
    ended = ssh(house, config, "over.nebu", "true")
    assert ended.returncode == 255
    assert b"nothing runs in it any more" in ended.stderr


def connects(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return line.getsockname()[1]


def fetched(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return None


def test_nebu_forwards_a_port_too(house: Server, tmp_path: Path) -> None:
    with (
        served_inside(house, tmp_path) as port,
        running(house, *NEBU, "port-forward", "foo", f"0:{port}", "0:9") as line,
    ):
        assert line.stdout
        shown, nobody = (line.stdout.readline().decode() for _ in range(2))
        assert shown.rstrip().endswith(f" -> foo:{port}")
        pages = [fetched(f"http://{shown.split()[0]}/page") for _ in range(3)]
        assert pages == [b"served inside"] * 3
        assert to_the_end(nobody) == b""  # refused there, so closed here
        line.send_signal(signal.SIGINT)
        assert line.wait(LIMIT_S) == 130
        assert b"port 9: " in line.stdout.read()


def test_a_connection_that_the_container_closes_is_closed_here(house: Server) -> None:
    with contextlib.ExitStack() as stack:
        brief = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = brief.getsockname()[1]
        line = stack.enter_context(running(house, *NEBU, "port-forward", "foo", f"0:{port}"))
        assert line.stdout
        shown = line.stdout.readline().decode()
        threading.Thread(target=hang_up, args=(brief,), daemon=True).start()
        assert to_the_end(shown) == b"bye"


def hang_up(door: socket.socket) -> None:
    with door.accept()[0] as line:
        line.sendall(b"bye")


def to_the_end(shown: str) -> bytes:
    """What comes through a forwarded port until the other side closes it; the client keeps its own side open."""
    host, _, port = shown.split()[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        read = b""
        while data := line.recv(4096):
            read += data
        return read


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["foo"], 2, "which port?"),
        (["foo", "8888:x"], 2, "'8888:x' is no port"),
        (["foo", "0"], 2, "'0' is no port"),
        (["over", "80"], 1, "is completed: nothing listens in it"),
        (["nope", "80"], 3, "does not exist"),
        (["secret/x", "80"], 2, "nothing runs in secrets"),
        (["foo", "80", "--address", "192.0.2.1"], 1, "cannot listen at 192.0.2.1:80"),
    ],
)
def test_what_cannot_be_forwarded_is_said(house: Server, words: list[str], code: int, said: str) -> None:
    ended = nebu(house, "port-forward", *words)
    assert ended.returncode == code, ended
    assert said in ended.stderr.decode()
