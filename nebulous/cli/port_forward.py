"""`nebu port-forward`: ports of a running container as ports of this machine."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from typing import Annotated

import typer

from nebulous import relay
from nebulous.cli import failures, options
from nebulous.cli.lookup import connect
from nebulous.cli.names import is_kind, select
from nebulous.cli.screen import emit, note
from nebulous.client import Api, Place
from nebulous.errors import Conflict, NebulousError
from nebulous.remote import STDERR, RemoteExecution, execute

LOOPBACK = "127.0.0.1"
PIECE_BYTES = 32 * 1024
_PORTS = re.compile(r"(?:(\d{1,5}):)?(\d{1,5})")


def command(
    names: Annotated[list[str], typer.Argument(metavar="[KIND] NAME [LOCAL:]PORT...", help="Which, and its ports.")],
    address: Annotated[str, typer.Option("--address", help="Of this machine, to listen at.")] = LOOPBACK,
    namespace: options.Namespace = None,
    owner: options.Owner = None,
) -> int:
    """Forward ports of this machine to ports of a running container, until Ctrl-C: nebu port-forward NAME 8888.

    PORT is what a program in the container listens at, also on its loopback. LOCAL:PORT takes another one here; 0 any
    that is free. Something in the image has to make the connection: python3, nc, socat or bash.
    """
    words = names[: 2 if is_kind(names[0]) else 1]
    pairs = [_pair(word) for word in names[len(words) :]]
    if not pairs:
        raise failures.UsageError(f"which port? nebu port-forward {names[0]} 8888")
    target = select(words).only()
    lookup = connect().within(namespace, owner)
    if "logs" not in target.kind.verbs:
        raise failures.UsageError(f"nothing runs in {target.kind.plural}")
    row = lookup.find(target)
    place = lookup.place_of(target.kind, row)
    if row["status"]["status"] != "running":
        raise Conflict(f"{target.kind.id} {place.name!r} is {row['status']['status']}: nothing listens in it")
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(_door(address, local, port)) for local, port in pairs]
        for door, (_, port) in zip(doors, pairs, strict=True):
            emit(f"{address}:{door.getsockname()[1]} -> {place.name}:{port}")
            threading.Thread(target=_admit, args=(door, lookup.api, place, port), daemon=True).start()
        sys.stdout.flush()  # a program may read which port it is
        note("Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return failures.DETACHED


def _pair(word: str) -> tuple[int, int]:
    """(port here, port there)."""
    found = _PORTS.fullmatch(word)
    if not found or not 0 < int(found[2]) < 65536 or int(found[1] or 0) > 65535:
        raise failures.UsageError(f"{word!r} is no port: write PORT or LOCAL:PORT")
    return int(found[2] if found[1] is None else found[1]), int(found[2])


def _door(address: str, local: int, port: int) -> socket.socket:
    try:
        return socket.create_server((address, local), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        message = f"cannot listen at {address}:{local}: {error.strerror}"
        raise Conflict(message, f"take another port here: LOCAL:{port}; or an address of this machine") from error


def _admit(door: socket.socket, api: Api, place: Place, port: int) -> None:
    while True:
        try:
            line, _ = door.accept()
        except OSError:  # closed: the end
            return
        threading.Thread(target=_carry, args=(line, api, place, port), daemon=True).start()


def _carry(line: socket.socket, api: Api, place: Place, port: int) -> None:
    """One connection, from beginning to end."""
    with line:
        try:
            with execute(api, place, relay.command("127.0.0.1", port)) as execution:
                threading.Thread(target=_carry_in, args=(line, execution), daemon=True).start()
                words = _carry_out(line, execution)
            if execution.exit_code == relay.NO_TOOL:
                note(relay.MISSING)
            elif execution.exit_code:
                note(f"port {port}: {words or 'the connection ended'}")
        except NebulousError as error:
            note(f"port {port}: {error.message}")
        finally:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)  # a thread that still reads from it would keep it open


def _carry_in(line: socket.socket, execution: RemoteExecution) -> None:
    with contextlib.suppress(OSError):
        while data := line.recv(PIECE_BYTES):
            execution.send(data)
    execution.end_input()


def _carry_out(line: socket.socket, execution: RemoteExecution) -> str:
    """Pass on what comes; the last line of what the relay complained of."""
    said = b""
    for channel, data in execution.output():
        if channel == STDERR:
            said = (said + data)[-500:]
        else:
            try:
                line.sendall(data)
            except OSError:  # whoever connected has left
                break
    return said.decode(errors="replace").strip().rpartition("\n")[2]
