"""Health checks of containers in an Engine.

An HTTP check is asked from here at the container's address, as a kubelet does, where that address can be reached: the
bridge of its network is an interface of this very machine. With Docker Desktop, an Engine elsewhere, or a worker that
is in a container itself it cannot, and then a program in the container (curl, python3, bash or wget, whichever the
image has) asks the same address. Where the image has none of them that is said: it tells nothing of the command.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import psutil

from activities.platforms.base import Verdict
from activities.runtimes import http_probe
from activities.runtimes.docker_engine import Engine, part
from activities.runtimes.process import TAIL_BYTES, last_words
from nebulous.errors import Conflict, NotFound, Rejected
from nebulous.models.container_fields import HealthCheck

MARGIN_S = 1.0  # for the programs to say themselves that time is over
NO_TOOL = 97
NO_PROGRAM = (126, 127)
TOO_LATE = (28, 124, 143)  # of curl and timeout
USE_COMMAND = "use health_check.command, or an image with curl, python3, bash or wget"

#: Arguments: URL, seconds, host, port, path. Prints the code of the answer.
_ASK = r"""
has() { command -v "$1" >/dev/null 2>&1; }
if has curl; then exec curl -skS -o /dev/null -m "$2" -w '%{http_code}\n' "$1"; fi
if has python3; then exec python3 -c '
import http.client, ssl, sys
url, wait, host, port, path = sys.argv[1:]
secure = {"context": ssl._create_unverified_context()} if url.startswith("https") else {}
kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
try:
    line = kind(host, int(port), timeout=float(wait), **secure)
    line.request("GET", path)
    print(line.getresponse().status)
except OSError as error:
    sys.exit(str(error))
' "$@"; fi
case "$1" in https*) ;; *) if has bash; then exec bash -c '
exec 3<>"/dev/tcp/$3/$4" || exit 1
printf "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$5" "$3" >&3
read -r -t "${2%.*}" _ code _ <&3 || exit 1
echo "$code"' bash "$@"; fi;; esac
if has wget; then
  if has timeout; then exec timeout "$2" wget -q -O /dev/null "$1"; fi
  exec wget -q -O /dev/null "$1"
fi
exit 97
"""


class DockerProbes:
    """The checks of one Engine's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hanging: dict[str, str] = {}  # container -> a check in it that did not end in time

    async def probe(self, seen: Mapping[str, Any], check: HealthCheck) -> Verdict:
        """Check once in a container, which was just inspected."""
        if check.path is None:
            return await self._command(seen["Id"], check)
        address, gateway = _network(seen)
        if not address:
            return Verdict(False, "the container has no address", reached=False)
        if self._engine.is_here and gateway in await asyncio.to_thread(_own_addresses):
            return await http_probe.ask(address, check)
        return await self._from_inside(seen["Id"], address, check)

    async def _command(self, container: str, check: HealthCheck) -> Verdict:
        code, words = await self._run(container, check.argv, check.timeout_s)
        if code == 0:
            return Verdict(True)
        why = f"did not end within {check.timeout}" if code is None else f"ended with {code}"
        return Verdict(False, f"its command {why}{f': {words}' if words else ''}")

    async def _from_inside(self, container: str, address: str, check: HealthCheck) -> Verdict:
        url, wait = http_probe.url_of(address, check), f"{max(1.0, check.timeout_s):.0f}"
        script = ["/bin/sh", "-c", _ASK, "ask", url, wait, address, str(check.port), str(check.path)]
        code, words = await self._run(container, script, check.timeout_s + MARGIN_S)
        if code is None or code in TOO_LATE:
            return Verdict(False, f"no answer from {check} within {check.timeout}")
        if code == NO_TOOL or code in NO_PROGRAM:
            why = f"{address} cannot be reached from the worker, and nothing in the image can ask it; {USE_COMMAND}"
            return Verdict(False, why, reached=False)
        if code == 0:
            return http_probe.judged(int(words), check) if re.fullmatch(r"\d{3}", words) else Verdict(True)
        if "refused" in words.lower():
            return Verdict(False, f"nothing listens on port {check.port}: connection refused")
        return Verdict(False, f"{check}: {words or f'the asking program ended with {code}'}")

    async def _run(self, container: str, argv: list[str], timeout_s: float) -> tuple[int | None, str]:
        """Run a program in the container; its exit code (None: too slow) and last words.

        The Engine ends no program in a container before the container ends, so one that hangs is waited for, and no
        other is started beside it.
        """
        if (hanging := self._hanging.pop(container, None)) and (await self._state(hanging))["Running"]:
            self._hanging[container] = hanging
            return None, "the last one still runs"
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": argv}
        try:
            made = await self._engine.post(f"containers/{container}/exec", body=body)
        except Conflict as error:  # it just ended: the sweep will say so
            raise NotFound(error.message) from error
        output = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                await self._read(made["Id"], output)
        except TimeoutError:
            self._hanging[container] = made["Id"]
            return None, ""
        except (Rejected, NotFound) as error:  # older Engines refuse to start what is not there
            return NO_PROGRAM[1], error.message
        return int((await self._state(made["Id"]))["ExitCode"] or 0), last_words(bytes(output))

    async def _read(self, execution: str, output: bytearray) -> None:
        frames = self._engine.frames(f"exec/{execution}/start", {}, {"Detach": False, "Tty": False})
        async with aclosing(frames) as pieces:
            async for piece in pieces:
                output += piece
                del output[:-TAIL_BYTES]

    async def _state(self, execution: str) -> Mapping[str, Any]:
        try:
            return await self._engine.get(f"exec/{execution}/json")
        except NotFound:
            return {"Running": False, "ExitCode": 0}


def _network(seen: Mapping[str, Any]) -> tuple[str, str]:
    """The container's address, and that of its network's bridge."""
    networks = part(seen["NetworkSettings"], "Networks").values()
    found = ((each.get("IPAddress") or "", each.get("Gateway") or "") for each in networks)
    return next((pair for pair in found if pair[0]), ("", ""))


def _own_addresses() -> set[str]:
    """The addresses of this machine's interfaces."""
    return {address.address for each in psutil.net_if_addrs().values() for address in each}
