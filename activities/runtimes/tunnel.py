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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from activities.runtimes.driver import ANSWER_S, PROGRAM
from activities.runtimes.host_keys import made, nothing_known, plain, written
from nebulous.errors import AuthFailed, NebulousError, NotReady, Unavailable
from nebulous.machines import Way

if TYPE_CHECKING:
    import asyncssh

CONNECT_S, LOGIN_S = 10.0, 15.0
KEEPALIVE_S, MISSED = 10, 3  # a line that is dead without a word is found out after half a minute
#: After a fruitless try nobody dials again for this long: a hundred containers must not each wait for a dead machine.
PAUSE_S = 2.0
HANGUP_S = 2.0
HOST_KEY = "ssh-ed25519"
ANNOUNCED_EVERY_S = 5.0
STAGE = "/run/nebulous/stage"  # where the boot script of a rented machine says how far it is
PROGRAMS_AT_ONCE = 4  # sshd allows ten sessions on a connection, unless it is told otherwise


class Tunnel:
    """One connection, made on first use and again whenever it is lost. Raises only NebulousError."""

    def __init__(self, way: Way, keys: Path | Keys, pause_s: float | None = None) -> None:
        """Nothing is connected yet.

        Args:
            way: To the machine.
            keys: Who is spoken to, and as whom; a path stands for the user's own files and this one, of host keys that
                were seen first by us, in the form of known_hosts.
            pause_s: Seconds after a fruitless try in which nobody tries again; default PAUSE_S.
        """
        self.name = str(way)
        self.host = way.host  # once connected: the address itself, for an alias means nothing to others
        self.ssh = way.ssh
        self._way = way
        self._keys = OwnKeys(keys) if isinstance(keys, Path) else keys
        self._pause_s = pause_s
        self._folder = Path(tempfile.mkdtemp(prefix="nebu-ssh-"))  # mode 0700
        self._socket = self._folder / "docker.sock"
        self._line: asyncssh.SSHClientConnection | None = None
        self._dialling = asyncio.Lock()
        self._asking = asyncio.Semaphore(PROGRAMS_AT_ONCE)
        self._closed = False
        self._failed: tuple[float, NebulousError] | None = None

    @property
    def folder(self) -> Path:
        """A folder of our own that goes when the line is closed."""
        return self._folder

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
            pause = PAUSE_S if self._pause_s is None else self._pause_s
            if self._failed and time.monotonic() - self._failed[0] < pause:
                before = self._failed[1]
                raise type(before)(before.message, before.hint)
            try:
                self._line = await self._dial()
                self._failed = None
            except NebulousError as error:
                self._failed = (time.monotonic(), error)
                raise

    @property
    def stands(self) -> bool:
        """True while there is a connection, as far as is known."""
        return self._line is not None and not self._line.is_closed()

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
        line = self._line  # while this waits for its turn, another may hang up
        try:
            async with self._asking, asyncio.timeout(ANSWER_S):
                done = await line.run(shlex.join(argv), check=False)
        except TimeoutError:
            return ""
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"{self.name} could not be asked for its {argv[0]}: {error}") from error
        return str(done.stdout or "") if done.exit_status == 0 else ""

    async def hang_up(self) -> None:
        """Let go of the connection; the next call dials again."""
        async with self._dialling:  # a dial under way would be nobody's
            line, self._line = self._line, None
        if line:
            line.close()
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(HANGUP_S):
                    await line.wait_closed()

    async def close(self) -> None:
        """Hang up for good."""
        self._closed = True
        await self.hang_up()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _dial(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        greeter = self._keys
        try:
            async with asyncio.timeout(CONNECT_S + LOGIN_S):
                line = await asyncssh.connect(client_factory=lambda: _client(greeter), **await self._options())
        except asyncssh.HostKeyNotVerifiable as error:
            raise AuthFailed(
                f"{self.name} shows another host key than the one that is known for it", greeter.advice()
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
            await self._keys.welcome(line)
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

    async def _options(self) -> dict[str, Any]:
        way = self._way
        options: dict[str, Any] = {
            "host": way.host,
            "keepalive_interval": KEEPALIVE_S,
            "keepalive_count_max": MISSED,
            "connect_timeout": CONNECT_S,
            "login_timeout": LOGIN_S,
        }
        named = {"username": way.user, "port": way.port, "client_keys": way.identity_file and [str(way.identity_file)]}
        return options | {option: value for option, value in named.items() if value} | await self._keys.options()

    def _key_advice(self) -> str:
        key = f"-i {self._way.identity_file} " if self._way.identity_file else ""
        copy = self.ssh.replace("ssh ", f"ssh-copy-id {key}", 1)
        return f"let this user's key in: {copy}; or name another with identity_file"


class Keys(Protocol):
    """Who is at the other end of a line, and as whom we come."""

    async def options(self) -> dict[str, Any]:
        """Those of `asyncssh.connect` that say so, made for one try."""
        ...

    def believes(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """True when a machine is the right one that shows this key, which the options do not tell of."""
        ...

    def advice(self) -> str:
        """What to do about a machine that was not believed."""
        ...

    async def welcome(self, line: asyncssh.SSHClientConnection) -> None:
        """Look whether the machine that has let us in is as far as it has to be.

        Raises:
            Unavailable: It is not; another login may find more.
        """
        ...


def _client(keys: Keys) -> asyncssh.SSHClient:
    """What asyncssh asks about a key that the options do not tell of."""
    import asyncssh

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            return keys.believes(host, addr, port, key)

    return Client()


class OwnKeys:
    """A machine of one's own: its key is the one in known_hosts, else the one that it showed us first."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self._where = str(pins)  # the file that decided
        self._entry = ""  # and what the machine is called in it

    async def options(self) -> dict[str, Any]:
        """The user's own files; the rest is as OpenSSH would have it."""
        config = Path("~/.ssh/config").expanduser()
        return {"known_hosts": self._files(), "config": [str(config)] if config.exists() else None}

    def believes(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Pin the key of a machine that none of the files knows; one that they know must show what they say."""
        import asyncssh

        self._entry = host if port in (0, 22) else f"[{host}]:{port}"
        for path in self._files():
            if any(asyncssh.match_known_hosts(path, host, addr, port)):  # by keys, authorities, or what was revoked
                self._where = path
                return False
        with self._pins.open("a") as file:
            file.write(f"{self._entry} {written(key)}\n")
        return True

    def advice(self) -> str:
        """Forget the old key, if that is right."""
        forget = f"ssh-keygen -R '{self._entry}' -f {self._where}"
        return f"somebody may be in between; if it was installed anew: {forget}"

    async def welcome(self, line: asyncssh.SSHClientConnection) -> None:
        """It is as it is."""

    def _files(self) -> list[str]:
        """The files that decide, the user's own first."""
        own = Path("~/.ssh/known_hosts").expanduser()
        return [str(path) for path in (own, made(self._pins)) if path.exists()]


class RentedKeys:
    """A machine that was rented: its key is what it announced through its cloud, else the one that it showed us first.

    What is pinned is the machine, not its address, which may be another machine's tomorrow; and no file of whoever
    runs the worker has a say.
    """

    def __init__(
        self, machine: str, key: asyncssh.SSHKey, pins: Path, announced: Callable[[], Awaitable[list[str]]]
    ) -> None:
        """Nothing is asked yet.

        Args:
            machine: A name that no other machine has ever had.
            key: As whom we come.
            pins: File of the keys that were seen first by us, in the form of known_hosts.
            announced: What the machine says its host keys are; empty while it says nothing.
        """
        self._machine = machine
        self._key = key
        self._pins = pins
        self._ask = announced
        self._announced: list[str] = []
        self._asked_at = -ANNOUNCED_EVERY_S
        self._unheard: NebulousError | None = None  # why it could not be asked last
        self._shown = ""  # the key that is to be pinned
        #: True when a machine was met last that is not the right one, or one that did not come up.
        self.refused = self.failed = False

    async def options(self) -> dict[str, Any]:
        """Nothing but our own key; that of the machine is `believes`' business."""
        self.refused = self.failed = False
        if self._unheard or time.monotonic() - self._asked_at >= ANNOUNCED_EVERY_S:
            await self._listen()
        return {
            "known_hosts": nothing_known,
            "server_host_key_algs": [HOST_KEY],  # what machines announce, and OpenSSH always has
            "config": None,
            "client_keys": [self._key],
            "agent_path": None,
        }

    def believes(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Compare with what was announced; else with what was seen first, and that is kept."""
        shown = written(key)
        if self._announced:
            self.refused = shown not in self._announced
            return not self.refused
        pinned = [line for line in made(self._pins).read_text().splitlines() if line.split()[0:1] == [self._machine]]
        if pinned:
            self.refused = f"{self._machine} {shown}" not in pinned
            return not self.refused
        self._shown = shown  # nothing is asked of it before `welcome` has looked again
        return True

    def advice(self) -> str:
        """Nothing is to be forgotten: a machine keeps its key for life."""
        return "somebody may be in between: nothing is sent there; delete the container, or compare with its console"

    async def welcome(self, line: asyncssh.SSHClientConnection) -> None:
        """Its boot script says how far it is; Docker's group counts only for who logs in after it was joined.

        Raises:
            AuthFailed: It announced another key meanwhile: one announces its key before it lets anybody in.
        """
        import asyncssh

        await self._pin()
        try:
            async with asyncio.timeout(CONNECT_S):
                said = str((await line.run(f"cat {STAGE}", check=False)).stdout or "").strip()
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"the line to {self._machine} broke: {error or 'no answer in time'}") from error
        if said.startswith("failed"):
            self.failed = True
            raise Unavailable(f"the machine did not come up: {said}", "see its console; or delete the container")
        if said != "ready":
            raise NotReady(said or "booting")

    async def _listen(self) -> None:
        """Hear what it announced, if it has not yet; clouds want to be asked for a console now and then only."""
        if self._announced:
            return
        if self._unheard and time.monotonic() - self._asked_at < ANNOUNCED_EVERY_S:
            raise type(self._unheard)(self._unheard.message, self._unheard.hint)
        self._asked_at, self._unheard = time.monotonic(), None
        try:
            self._announced = [plain(line) for line in await self._ask()]
        except AuthFailed as error:  # the cloud's refusal, not the machine's
            advice = f"; {error.hint}" if error.hint else ""
            self._unheard = NotReady(f"the machine's console may not be read: {error.message}{advice}", error.hint)
            raise self._unheard from error
        except NebulousError as error:
            self._unheard = error
            raise

    async def _pin(self) -> None:
        shown, self._shown = self._shown, ""
        if not shown:
            return
        await self._listen()
        self.refused = bool(self._announced) and shown not in self._announced
        if self.refused:
            raise AuthFailed(f"{self._machine} shows another host key than it has announced", self.advice())
        with made(self._pins).open("a") as file:
            file.write(f"{self._machine} {shown}\n")
