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
from nebulous.errors import AuthFailed, NebulousError, Unavailable
from nebulous.machines import Way

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 10.0, 15.0
KEEPALIVE_S, MISSED = 10, 3  # a line that is dead without a word is found out after half a minute
#: After a fruitless try nobody dials again for this long: a hundred containers must not each wait for a dead machine.
PAUSE_S = 2.0
HANGUP_S = 2.0
PROGRAMS_AT_ONCE = 4  # sshd allows ten sessions on a connection, unless it is told otherwise


class Tunnel:
    """One connection, made on first use and again whenever it is lost. Raises only NebulousError."""

    def __init__(self, way: Way, pins: Path) -> None:
        """Nothing is connected yet.

        Args:
            way: To the machine.
            pins: File of host keys that were seen first by us, in the form of known_hosts; made when needed.
        """
        self.name = str(way)
        self.host = way.host  # once connected: the address itself, for an alias means nothing to others
        self.ssh = way.ssh
        self._way = way
        self._pins = pins
        self._folder = Path(tempfile.mkdtemp(prefix="nebu-ssh-"))  # mode 0700
        self._socket = self._folder / "docker.sock"
        self._line: asyncssh.SSHClientConnection | None = None
        self._dialling = asyncio.Lock()
        self._asking = asyncio.Semaphore(PROGRAMS_AT_ONCE)
        self._closed = False
        self._failed: tuple[float, NebulousError] | None = None

    @property
    def address(self) -> str:
        """Where the Engine is reached once the line is ready."""
        return f"unix://{self._socket}"

    async def ready(self) -> None:
        """Connect, unless the line stands.

        Raises:
            AuthFailed: The machine does not let us in, or is not the one that it was.
            Unavailable: It does not answer, has no Engine that we may use, or a file of ours cannot be read.
        """
        async with self._dialling:
            if self._closed:
                raise Unavailable(f"the line to {self.name} is closed: this worker ends")
            if self._line is not None and not self._line.is_closed():
                return
            if self._failed and time.monotonic() - self._failed[0] < PAUSE_S:
                before = self._failed[1]
                raise type(before)(before.message, before.hint)
            try:
                self._line = await self._dial()
                self._failed = None
            except NebulousError as error:
                self._failed = (time.monotonic(), error)
                raise

    async def driver(self, *question: str) -> str:
        """Ask nvidia-smi there; "" when it is not there, fails or hangs (see `driver.Driver`).

        Raises:
            Unavailable: The line broke, which says nothing of the GPUs.
        """
        return await self.ask(PROGRAM, *question)

    async def ask(self, *argv: str) -> str:
        """What a program there writes; "" when it is not there, fails or hangs.

        Raises:
            Unavailable: The line broke.
        """
        import asyncssh

        await self.ready()
        assert self._line is not None, "it was just made ready"
        try:
            async with self._asking, asyncio.timeout(ANSWER_S):
                done = await self._line.run(shlex.join(argv), check=False)
        except TimeoutError:
            return ""
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"{self.name} could not be asked for its {argv[0]}: {error}") from error
        return str(done.stdout or "") if done.exit_status == 0 else ""

    async def close(self) -> None:
        """Hang up."""
        async with self._dialling:  # a dial under way would be nobody's
            self._closed = True
            line, self._line = self._line, None
        if line:
            line.close()
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(HANGUP_S):
                    await line.wait_closed()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _dial(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        greeter = HostKeys(self._pins)
        try:
            async with asyncio.timeout(CONNECT_S + LOGIN_S):
                line = await asyncssh.connect(client_factory=lambda: greeter.client(), **self._options(greeter.files()))
        except asyncssh.HostKeyNotVerifiable as error:
            forget = f"ssh-keygen -R '{greeter.entry}' -f {greeter.where}"
            raise AuthFailed(
                f"{self.name} shows another host key than the one that is known for it",
                f"somebody may be in between; if it was installed anew: {forget}",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise AuthFailed(f"{self.name} does not let us in: {error.reason}", self._key_advice()) from error
        except (asyncssh.Error, OSError, ValueError) as error:  # asyncssh says with a ValueError what it cannot read
            if isinstance(error, ValueError) or getattr(error, "filename", None):
                what = f"the way to {self.name} cannot be read: {error}"
                raise Unavailable(what, "see the key file, and known_hosts and config in ~/.ssh") from error
            words = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise Unavailable(f"{self.name} cannot be reached: {words}", f"see whether it is on: {self.ssh}") from error
        try:
            await self._attach(line)
        except BaseException:
            line.abort()
            raise
        peer: tuple[Any, ...] | None = line.get_extra_info("peername")
        self.host = str(peer[0]) if peer else self._way.host
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
                f"start it, and let the user use it (sudo usermod -aG docker USER); see: {self.ssh} docker info",
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
        key = f"-i {self._way.identity_file} " if self._way.identity_file else ""
        copy = self.ssh.replace("ssh ", f"ssh-copy-id {key}", 1)
        return f"let this user's key in: {copy}; or name another with identity_file"


class HostKeys:
    """Which key a machine must show: the one in known_hosts, else the one that it showed us first."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self.where = str(pins)  # the file that decided
        self.entry = ""  # and what the machine is called in it

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

        self.entry = host if port in (0, 22) else f"[{host}]:{port}"
        for path in self.files():
            if any(asyncssh.match_known_hosts(path, host, addr, port)):  # by keys, authorities, or what was revoked
                self.where = path
                return False
        with self._pins.open("a") as file:
            file.write(f"{self.entry} {key.export_public_key('openssh').decode().strip()}\n")
        return True
