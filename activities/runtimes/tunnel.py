"""A line over SSH to a machine with a Docker Engine: the worker dials, and the machine needs only its own sshd.

The Engine's socket there becomes one of ours, in a folder that nobody else can enter; everything that speaks to an
Engine then goes through this one connection. When it breaks, what was under way fails as it would with an Engine that
was restarted, and the next call dials again: a machine that is away for a while is unreachable, not gone.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from activities.runtimes.driver import ANSWER_S, PROGRAM
from nebulous.errors import AuthFailed, NebulousError, Rejected, Unavailable
from nebulous.machines import Way

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 10.0, 15.0
KEEPALIVE_S, MISSED = 10, 3  # a line that is dead without a word is found out after half a minute
#: After a fruitless try nobody dials again for this long: a hundred containers must not each wait for a dead machine.
PAUSE_S = 2.0


class Tunnel:
    """One connection, made on first use and again whenever it is lost. Raises only NebulousError."""

    def __init__(self, way: Way, pins: Path) -> None:
        """Nothing is connected yet.

        Args:
            way: To the machine.
            pins: File of host keys that were seen first by us, in the form of known_hosts; made when needed.
        """
        self.name = str(way)
        self.host = way.host
        self._way = way
        self._pins = pins
        self._folder = Path(tempfile.mkdtemp(prefix="nebu-ssh-"))  # mode 0700
        self._socket = self._folder / "docker.sock"
        self._line: asyncssh.SSHClientConnection | None = None
        self._dialling = asyncio.Lock()
        self._failed: tuple[float, NebulousError] | None = None

    @property
    def address(self) -> str:
        """Where the Engine is reached once the line is ready."""
        return f"unix://{self._socket}"

    async def ready(self) -> None:
        """Connect, unless the line stands.

        Raises:
            AuthFailed: The machine does not let us in, or is not the one that it was.
            Unavailable: It does not answer, or has no Engine that we may use. Rejected: a file of ours is wrong.
        """
        async with self._dialling:
            if self._line is not None and not self._line.is_closed():
                return
            if self._failed and time.monotonic() - self._failed[0] < PAUSE_S:
                raise self._failed[1]
            try:
                self._line = await self._dial()
                self._failed = None
            except NebulousError as error:
                self._failed = (time.monotonic(), error)
                raise

    async def driver(self, *question: str) -> str:
        """Ask nvidia-smi there; "" when it is not there, fails or hangs (see `driver.Driver`)."""
        import asyncssh

        await self.ready()
        assert self._line is not None, "it was just made ready"
        try:
            async with asyncio.timeout(ANSWER_S):
                done = await self._line.run(shlex.join([PROGRAM, *question]), check=False)
        except (asyncssh.Error, OSError, TimeoutError):
            return ""
        return str(done.stdout or "") if done.exit_status == 0 else ""

    async def close(self) -> None:
        """Hang up."""
        line, self._line = self._line, None
        if line:
            line.close()
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(PAUSE_S):
                    await line.wait_closed()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _dial(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        greeter = HostKeys(self._pins)
        try:
            async with asyncio.timeout(CONNECT_S + LOGIN_S):
                line = await asyncssh.connect(client_factory=lambda: greeter.client(), **self._options(greeter.files()))
        except asyncssh.HostKeyNotVerifiable as error:
            raise AuthFailed(
                f"{self.name} does not show the host key that it had before",
                f"somebody may be in between; if it was installed anew: ssh-keygen -R {self.host} -f {greeter.where}",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise AuthFailed(f"{self.name} does not let us in: {error.reason}", self._key_advice()) from error
        except (*_unreadable(), FileNotFoundError, PermissionError) as error:
            raise Rejected(
                f"the way to {self.name} cannot be read: {error}", "see the key file and ~/.ssh/config"
            ) from error
        except (asyncssh.Error, OSError, TimeoutError) as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise Unavailable(
                f"{self.name} cannot be reached: {words}", f"see whether it is on: ssh {self.name}"
            ) from error
        try:
            await self._attach(line)
        except BaseException:
            line.abort()
            raise
        return line

    async def _attach(self, line: asyncssh.SSHClientConnection) -> None:
        """Make the Engine's socket there one of ours, once it is seen that we may use it."""
        import asyncssh

        where = self._way.engine
        try:
            async with asyncio.timeout(CONNECT_S):
                tried = cast("tuple[Any, Any]", await line.open_unix_connection(where))
                tried[1].close()
                self._socket.unlink(missing_ok=True)
                await line.forward_local_path(str(self._socket), where)
        except asyncssh.ChannelOpenError as error:
            raise Unavailable(
                f"{self.name} has no Docker at {where} that we may use: {error.reason}",
                f"start it, and let the user use it (sudo usermod -aG docker USER); see: ssh {self.name} docker info",
            ) from error
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"the line to {self.name} broke: {error or 'no answer in time'}") from error

    def _options(self, known_hosts: list[str]) -> dict[str, Any]:
        way, config = self._way, Path("~/.ssh/config").expanduser()
        options: dict[str, Any] = {
            "host": way.host,
            "known_hosts": known_hosts,
            "config": [str(config)] if config.exists() else None,
            "keepalive_interval": KEEPALIVE_S,
            "keepalive_count_max": MISSED,
            "connect_timeout": CONNECT_S,
            "login_timeout": LOGIN_S,
        }
        named = {"username": way.user, "port": way.port, "client_keys": way.identity_file and [str(way.identity_file)]}
        return options | {option: value for option, value in named.items() if value}

    def _key_advice(self) -> str:
        key = f" -i {self._way.identity_file}" if self._way.identity_file else ""
        return f"let this user's key in: ssh-copy-id{key} {self.name}; or name another with identity_file"


def _unreadable() -> tuple[type[Exception], ...]:
    import asyncssh

    return asyncssh.KeyImportError, asyncssh.KeyEncryptionError, asyncssh.ConfigParseError


class HostKeys:
    """Which key a machine must show: the one in known_hosts, else the one that it showed us first."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self.where = str(pins)  # the file that decided

    def files(self) -> list[str]:
        """The files that decide, the user's own first."""
        self._pins.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pins.touch(mode=0o600)
        own = Path("~/.ssh/known_hosts").expanduser()
        return [str(path) for path in (own, self._pins) if path.exists()]

    def client(self) -> asyncssh.SSHClient:
        """What asyncssh asks about a key that is in none of the files."""
        import asyncssh

        known = self

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
                return known.first(host, addr, port, key)

        return Client()

    def first(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Pin the key of a machine that none of the files knows; one that they know must show what they say."""
        import asyncssh

        for path in self.files():
            if asyncssh.match_known_hosts(path, host, addr, port)[0]:
                self.where = path
                return False
        named = host if port == 22 else f"[{host}]:{port}"
        with self._pins.open("a") as file:
            file.write(f"{named} {key.export_public_key('openssh').decode().strip()}\n")
        return True
