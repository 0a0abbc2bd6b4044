"""Ports of this machine: free ones for whoever asks for 0, and who holds a taken one."""

from __future__ import annotations

import errno
import os
import socket

from nebulous.errors import Conflict, Rejected

LOOPBACK = "127.0.0.1"
_REACHED_AT = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - what listens everywhere, and where this machine asks


def claim_port(port: int, setting: str, host: str = LOOPBACK) -> int:
    """The port, if a server may listen there now; any free one for 0.

    Args:
        port: What the settings say.
        setting: Its name, for the hint.
        host: The address to listen on.

    Raises:
        Conflict: Something listens there; the message says what, the hint names the setting.
        Rejected: The address is not this machine's, or the port needs more rights.
    """
    hint = f"choose another with {setting}; 0 takes any free one"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if port == 0:
            return _free_port(family, host)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: past clients do not matter
            probe.bind(address)
    except socket.gaierror as error:
        raise Rejected(
            f"there is no address {host!r} to listen on: {error.strerror}", "see --host, NEBU_HOST"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} on {host} is taken by {_holder(port)}", f"stop it, or {hint}") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise Rejected(f"{host!r} is no address of this machine", "see --host, NEBU_HOST") from error
        raise Rejected(f"port {port} on {host} may not be used: {os.strerror(error.errno or 0)}", hint) from error
    return port


def url(host: str, port: int) -> str:
    """Where this machine reaches a server that listens on that address."""
    host = _REACHED_AT.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _free_port(family: int, host: str) -> int:
    """A port that nobody listens on, and that the system gives to no other asker for a minute.

    A connection that the listening side closes first leaves the port in TIME_WAIT: no search for a free port ends
    there, while a server that names it may bind it. Temporal's dev server chooses its own inner ports in this way.
    """
    with socket.create_server((host, 0), family=family) as listener:
        port = int(listener.getsockname()[1])
        with socket.create_connection((_REACHED_AT.get(host, host), port)):
            listener.accept()[0].close()
    return port


def _holder(port: int) -> str:
    """Who listens there, as far as this user may know."""
    import psutil

    try:
        listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
        pid = next((each.pid for each in listening if each.laddr and each.laddr.port == port), None)
        if pid is None:
            return "another program"
        process = psutil.Process(pid)
        for each in (process, *process.parents()):
            if _serves(each.cmdline()):
                return f"another `nebu serve` (pid {each.pid})"
        return f"{process.name()!r} (pid {pid})"
    except psutil.Error:
        return "another program"


def _serves(words: list[str]) -> bool:
    return "serve" in words and any("nebu" in word for word in words[: words.index("serve")])
