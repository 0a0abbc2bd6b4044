"""Ports: who holds a taken one, and that a free one stays free until it is used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from nebulous.errors import Conflict, Rejected
from worker.ports import claim_port, url

#: A program that listens, and calls itself by the words after it.
LISTENER = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
)


def test_free_ports_are_not_given_twice_and_can_be_listened_on() -> None:
    ports = [claim_port(0, "NEBU_PORT") for _ in range(50)]
    assert len(set(ports)) == len(ports)
    for port in ports:
        assert claim_port(port, "NEBU_PORT") == port
        socket.create_server(("127.0.0.1", port)).close()


def test_a_taken_port_names_its_holder_and_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} on 127\.0\.0\.1 is taken by .*pid {os.getpid()}") as refused:
            claim_port(port, "NEBU_UI_PORT")
    assert "choose another with NEBU_UI_PORT; 0 takes any free one" in str(refused.value.hint)


def test_another_serve_is_recognised_by_its_port() -> None:
    command = [sys.executable, "-c", LISTENER, "nebulous", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(Conflict, match=rf"taken by another `nebu serve` \(pid {other.pid}\)"):
            claim_port(port, "--port")
        other.kill()


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "no address of this machine"), ("no.such.invalid", "there is no address")]
)
def test_an_address_that_is_not_ours_is_refused(host: str, said: str) -> None:
    with pytest.raises(Rejected, match=said) as refused:
        claim_port(3000, "--port", host)
    assert "--host" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_url_is_one_that_this_machine_reaches(host: str, reached: str) -> None:
    assert url(host, 80) == reached
