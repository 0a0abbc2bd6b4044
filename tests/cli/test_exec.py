"""`nebu exec` against a real `nebu serve`, as a program in pipes and on a terminal; its mistakes and their codes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from nebulous.cli.passing import marked
from tests.served import Server, until
from tests.terminals import terminal

LIMIT_S = 60.0


def nebu(house: Server, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nebulous", *words]
    return subprocess.run(command, env=house.env, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)


def running(mark: str) -> list[int]:
    return [each.pid for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [""])[-1] == mark]


def fresh_mark() -> str:
    return str(random.randint(10**8, 10**9))


@pytest.mark.parametrize("words", [["foo", "--", "echo", "-n", "hi"], ["foo", "echo", "-n", "hi"]])
def test_a_command_says_what_it_says(house: Server, words: list[str]) -> None:
    ended = nebu(house, "exec", *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"hi", b"")


def test_output_errors_and_the_exit_code_are_the_commands_own(house: Server) -> None:
    ended = nebu(house, "exec", "foo", "-n", "default", "--", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (ended.returncode, ended.stdout, ended.stderr) == (42, b"out\n", b"err\n")


def test_piped_input_goes_in_byte_for_byte_and_its_end_too(house: Server) -> None:
    sent = random.Random(1).randbytes(700_000)
    ended = nebu(house, "exec", "-i", "foo", "--", "cat", stdin=sent)
    assert (ended.returncode, ended.stdout) == (0, sent)


def test_a_long_command_travels_and_a_longer_one_is_told_how(house: Server) -> None:
    assert nebu(house, "exec", "foo", "--", "printf", "%s", "é " * 10_000).stdout.decode() == "é " * 10_000
    ended = nebu(house, "exec", "foo", "--", "echo", *["x" * 100_000] * 3)
    assert ended.returncode == 2
    assert b"too long to travel" in ended.stderr


def test_without_i_the_command_has_no_input(house: Server) -> None:
    assert nebu(house, "exec", "foo", "--", "cat", stdin=b"unheard").stdout == b""


def test_input_that_nobody_wants_holds_nothing_up(house: Server) -> None:
    ended = nebu(house, "exec", "-i", "foo", "--", "head", "-c", "3", stdin=b"abc" * 1_000_000)
    assert (ended.returncode, ended.stdout) == (0, b"abc")


def test_a_reader_that_leaves_ends_the_command(house: Server) -> None:
    mark = fresh_mark()
    command = [sys.executable, "-m", "nebulous", "exec", "foo", "--", "sh", "-c", "yes $0 & sleep $0", mark]
    with subprocess.Popen(command, env=house.env, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(4) == mark[:4].encode()
        process.stdout.close()
        assert process.wait(LIMIT_S) == 141
    until(lambda: not running(mark), "the command is ended")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["over", "--", "true"], 1, "container 'over' is completed: nothing runs in it any more"),
        (["nope", "--", "true"], 3, "container/nope does not exist"),
        (["foo", "--", "no-such-program"], 127, "cannot run 'no-such-program': No such file or directory"),
        (["foo", "--", "/tmp"], 126, "cannot run '/tmp': Permission denied"),
        (["foo"], 2, "which command? nebu exec foo -- CMD"),
        (["-it", "foo", "--", "sh"], 2, "-t needs a terminal"),
        (["secret/x", "--", "sh"], 2, "nothing runs in secrets"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(house: Server, words: list[str], code: int, said: str) -> None:
    ended = nebu(house, "exec", *words)
    assert ended.returncode == code, ended
    assert said in ended.stderr.decode()


def test_one_that_does_not_run_yet_says_how_to_wait(house: Server) -> None:
    labels = ("--label", "sim.nebulous/boot=300s", "--platform", "sim", "--image", "x")
    assert nebu(house, "create", "container", "--name", "early", *labels).returncode == 0
    house.until_status("early", "created", "creating")
    ended = nebu(house, "exec", "early", "--", "true")
    assert ended.returncode == 1
    assert b"does not run yet" in ended.stderr
    assert b"nebu wait early -n default --for running" in ended.stderr


def test_the_simulated_cloud_pretends_and_has_no_files(house: Server) -> None:
    create = ("create", "container", "--name", "made-up", "--platform", "sim", "--image", "x")
    assert nebu(house, *create).returncode == 0
    house.until_status("made-up", "running")
    assert nebu(house, "exec", "made-up", "--", "echo", "hi").stdout == b"hi\n"
    assert nebu(house, "exec", "-i", "made-up", "--", "cat", stdin=b"in").stdout == b"in"
    assert nebu(house, "exec", "made-up", "exit", "3").returncode == 3
    assert nebu(house, "exec", "made-up", "train", "-v").stdout == b"simulated: would run train -v\n"
    copied = nebu(house, "cp", "made-up:/x", "-")
    assert copied.returncode == 1
    assert b"platform 'sim' is simulated: its containers have no files" in copied.stderr


# --- on a terminal ------------------------------------------------------------------------------------


def test_a_shell_on_a_terminal_of_80_columns_types_resizes_and_ends_with_its_code(house: Server) -> None:
    with terminal(house.env, "exec", "-it", "foo", "--", "sh") as screen:
        before = screen.settings
        screen.type("stty size\r")
        screen.expect("24 80\r\n")
        assert screen.settings != before, "the terminal is raw while the command has it"
        screen.type("echo $((20 + 3)), $NEBU_NAME\r")
        screen.expect("23, foo\r\n")
        screen.resize(40, 132)
        screen.type('until [ "$(stty size)" = "40 132" ]; do sleep 0.05; done; echo wi""der\r')
        screen.expect("wider\r\n")
        screen.type("exit 9\r")
        screen.process.wait(LIMIT_S)
        assert screen.settings == before
        assert screen.ended() == 9


def test_without_a_command_it_starts_a_shell(house: Server) -> None:
    with terminal(house.env, "exec", "-it", "foo") as screen:
        screen.type("echo $((1 + 1))$((1 + 1))\r")
        screen.expect("22\r\n")
        screen.type("exit\r")
        assert screen.ended() == 0


def test_ctrl_c_on_its_terminal_goes_to_the_command(house: Server) -> None:
    with terminal(house.env, "exec", "-it", "foo", "--", "sh") as screen:
        # a loop, for a shell that is interrupted just before it starts its program waits for the end of that
        screen.type("trap 'echo caught; o=1' INT; echo rea''dy; until [ \"$o\" ]; do sleep 0.1; done\r")
        screen.expect("ready\r\n")
        screen.type("\x03")
        screen.expect("caught")
        screen.type("exit 4\r")
        assert screen.ended() == 4


def test_ctrl_c_without_t_ends_the_command(house: Server) -> None:
    mark = fresh_mark()
    with terminal(house.env, "exec", "foo", "--", "sh", "-c", "echo ready; sleep $0", mark) as screen:
        screen.expect("ready")
        assert running(mark)
        screen.type("\x03")
        assert screen.ended() == 130
    until(lambda: not running(mark), "the command is ended")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_is_restored_when_nebu_is_told_to_end(house: Server, number: int) -> None:
    with terminal(house.env, "exec", "-it", "foo", "--", "sh", "-c", "echo rea''dy; sleep 300") as screen:
        before = screen.settings
        screen.expect("ready")
        os.kill(screen.process.pid, number)
        assert screen.process.wait(LIMIT_S) == 128 + number
        assert screen.settings == before


def test_a_refusal_leaves_the_terminal_as_it_was(house: Server) -> None:
    with terminal(house.env, "exec", "-it", "over", "--", "sh") as screen:
        before = screen.settings
        screen.expect("nothing runs in it any more")
        screen.expect("nebu start over")
        screen.process.wait(LIMIT_S)
        assert screen.settings == before
        assert screen.ended() == 1


def test_a_worker_killed_in_the_middle_is_told_within_seconds_and_leaves_nothing(house: Server) -> None:
    mark = fresh_mark()
    with terminal(house.env, "exec", "-it", "foo", "--", "sh", "-c", "echo rea''dy; sleep $0", mark) as screen:
        before = screen.settings
        screen.expect("ready")
        began = time.monotonic()
        os.kill(house.marks()["worker"]["pid"], signal.SIGKILL)
        screen.expect("went away")
        assert time.monotonic() - began < 20
        screen.process.wait(LIMIT_S)
        assert screen.settings == before
        assert screen.ended() == 5
    until(lambda: not running(mark), "the command is ended")
    until(lambda: nebu(house, "exec", "foo", "--", "echo", "again").stdout == b"again\n", "the next worker serves")


# --- whose word is it? --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "own"),
    [
        ("exec foo ls -la", "exec foo -- ls -la"),
        ("exec -it foo -n ns", "exec -it foo -n ns"),
        ("exec -it -n ns foo bash -c x", "exec -it -n ns foo -- bash -c x"),
        ("exec foo -n ns python train.py --debug", "exec foo -n ns -- python train.py --debug"),
        ("exec -itn ns foo sh", "exec -itn ns foo -- sh"),
        ("exec container foo ls -- -x", "exec container foo -- ls -- -x"),
        ("exec foo -- ls", "exec foo -- ls"),
        ("exec foo", "exec foo"),
        ("logs foo ls", "logs foo ls"),
    ],
)
def test_the_command_begins_where_ours_ends(words: str, own: str) -> None:
    assert marked(words.split()) == own.split()
