"""`nebu ssh` against a real `nebu serve`; and the SSH of other programs through it: OpenSSH's own `ssh` and `scp`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.served import Server, until
from tests.terminals import terminal, typed

LIMIT_S = 60.0


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
    assert "ssh --stdio %n" in text
    assert nebu(house, "ssh", "--config", "bar").stdout.startswith(b"Host bar.nebu\nHost *.nebu\n")


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


def test_a_port_of_the_container_is_forwarded(house: Server, config: Path, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("served inside")
    serve = f"cd {tmp_path} && exec {sys.executable} -u -m http.server --bind 127.0.0.1 0"
    command = ["ssh", "-F", str(config), "-T", "foo.nebu", serve]
    with subprocess.Popen(command, env=house.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        assert server.stdout
        port = server.stdout.readline().split(b" port ")[1].split()[0].decode()  # inside is here, on `local`
        local = str(free_port())
        line = subprocess.Popen(
            ["ssh", "-F", str(config), "-N", "-L", f"{local}:127.0.0.1:{port}", "foo.nebu"], env=house.env
        )
        try:
            until(lambda: fetched(f"http://127.0.0.1:{local}/page") == b"served inside", "the page comes through")
            pages: list[bytes | None] = []
            readers = [
                threading.Thread(target=lambda: pages.append(fetched(f"http://127.0.0.1:{local}/page")))
                for _ in range(5)
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            assert pages == [b"served inside"] * 5
        finally:
            line.terminate()
            line.wait()
            server.terminate()


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


def free_port() -> int:
    import socket

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
    (tmp_path / "page").write_text("served inside")
    serve = f"cd {tmp_path} && exec {sys.executable} -u -m http.server --bind 127.0.0.1 0"
    python = [sys.executable, "-m", "nebulous"]
    pipes: dict[str, Any] = {"env": house.env, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*python, "exec", "foo", "--", "sh", "-c", serve], **pipes) as server:
        assert server.stdout
        port = server.stdout.readline().split(b" port ")[1].split()[0].decode()
        with subprocess.Popen([*python, "port-forward", "foo", f"0:{port}", "0:9"], **pipes) as line:
            assert line.stdout
            shown, nobody = (line.stdout.readline().decode() for _ in range(2))
            assert shown.rstrip().endswith(f" -> foo:{port}")
            pages = [fetched(f"http://{shown.split()[0]}/page") for _ in range(3)]
            assert pages == [b"served inside"] * 3
            assert fetched(f"http://{nobody.split()[0]}/page") is None
            line.send_signal(signal.SIGINT)
            assert line.wait(LIMIT_S) == 130
            assert b"port 9: " in line.stdout.read()  # and what the tool said: refused
        server.terminate()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["foo"], 2, "which port?"),
        (["foo", "8888:x"], 2, "'8888:x' is no port"),
        (["foo", "0"], 2, "'0' is no port"),
        (["over", "80"], 1, "is completed: nothing listens in it"),
        (["nope", "80"], 3, "does not exist"),
        (["foo", "80", "--address", "192.0.2.1"], 1, "cannot listen at 192.0.2.1:80"),
    ],
)
def test_what_cannot_be_forwarded_is_said(house: Server, words: list[str], code: int, said: str) -> None:
    ended = nebu(house, "port-forward", *words)
    assert ended.returncode == code, ended
    assert said in ended.stderr.decode()
