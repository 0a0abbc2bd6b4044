"""`nebu serve`: everything on this machine, in one process tree; Ctrl-C stops ours, never the user's containers.

What it starts: the engine (`embedded.py`), then the API and a worker as `nebu api` and `nebu worker` run them.
This process imports little before they run, and never the Temporal SDK, which may abort an exiting interpreter.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

import nebulous
from nebulous import contexts
from nebulous.errors import Conflict, Rejected
from nebulous.settings import Settings
from worker import screens
from worker.children import Child
from worker.embedded import Engine
from worker.ports import claim_port, url
from worker.supervision import NotStarted, Supervision

if TYPE_CHECKING:
    from worker.inquiry import Inquiry

READY_LIMIT_S = 60.0
LOOK_EVERY_S = 0.05
ASK_LIMIT_S = 0.7  # at the end, when the API may be gone already
STOP_LIMIT_S = 3.5
FOLDERS = ("archive", "keys", "local", "logs", "run", "sim")  # private even where the data directory is not
CONTEXT = "local"
SERVER_VARIABLES = ("NEBU_SERVER", "NEBU_API_KEY")  # what the client prefers to its contexts


def command(
    host: Annotated[str | None, typer.Option(help="Address the API listens on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; default 3000, 0 takes any free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="State, logs and keys; default ~/.nebu/server.")] = None,
    simulate: Annotated[str | None, typer.Option(help="Clouds to simulate, such as runpod,ec2,gce.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written (JSON) when everything answers.")] = None,
) -> None:
    """Start the engine, the API and a worker on this machine, until Ctrl-C."""
    given = {"host": host, "port": port, "data_dir": data_dir, "simulate": simulate}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType] - each is None or its field's type
        _ = settings.simulated, settings.accounts
    except ValueError as error:
        raise Rejected(f"these settings cannot be: {_first_line(error)}") from error
    try:
        asyncio.run(Serve(settings, ready_file).run())
    except OSError as error:
        what = f"cannot work in {str(settings.data)!r}: {error.strerror or error}"
        raise NotStarted(what, "free some space there, or choose another folder: --data-dir") from error


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"NEBU_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}, not {first['input']!r}"
    return str(error)


class Serve:
    """One run of `nebu serve`."""

    def __init__(self, settings: Settings, ready_file: Path | None = None) -> None:
        self._settings = settings
        self._ready_file = ready_file
        self._worker_ready = settings.data / "run" / "worker.ready"
        self._children = Supervision(settings.data / "children.json", typer.echo)
        self._lock: IO[str] | None = None
        self._api = ""
        self._ui: str | None = None
        self._temporal = ""
        self._inquiry: Inquiry | None = None
        self._was_ready = False

    async def run(self) -> None:
        """Start, say where everything is, watch, stop.

        Raises:
            NebulousError: It cannot start; what was started is stopped again.
            OSError: The data directory cannot be used.
        """
        began = time.monotonic()
        stop = asyncio.Event()
        hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # nohup says to stay
        for number in (signal.SIGINT, signal.SIGTERM, *hangup):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._prepare()
        try:
            self._start()
            known = await self._until_ready(stop)
            if known:
                self._check_install(str(known["install"]))
                self._welcome(known, time.monotonic() - began)
                await self._children.watch(stop)
        finally:
            await self._stop()

    # --- start ----------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make the data directory ours alone, for as long as this process lives; find out early what cannot be."""
        contexts.load()
        if self._ready_file and not self._ready_file.parent.is_dir():
            raise Rejected(f"--ready-file: there is no folder {str(self._ready_file.parent)!r}", "make it first")
        data = self._settings.data
        try:
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (data / "serve.lock").open("a+")
            for name in FOLDERS:
                (data / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            hint = "choose another folder: --data-dir, NEBU_DATA_DIR"
            raise Rejected(f"cannot keep data in {str(data)!r}: {error.strerror}", hint) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.seek(0)
            other = self._lock.read().strip() or "another process"
            raise Conflict(f"nebu serve runs already on {str(data)!r}: {other}", "use that one, or stop it") from error
        self._say_who("starting")
        self._children.stop_stale()
        self._worker_ready.unlink(missing_ok=True)
        if self._ready_file:
            self._ready_file.unlink(missing_ok=True)

    def _say_who(self, where: str) -> None:
        """What a second serve on the same data reads."""
        assert self._lock is not None
        self._lock.truncate(0)
        self._lock.write(f"pid {os.getpid()}, {where}")
        self._lock.flush()

    def _start(self) -> None:
        settings = self._settings
        port = claim_port(settings.port, "--port or NEBU_PORT", settings.host)
        self._api = url(settings.host, port)
        engine = Engine(settings)
        self._ui, self._temporal = engine.ui_address, engine.temporal_address
        self._children.start(*engine.children())
        local = settings.loopback if settings.local_enabled is None else settings.local_enabled
        ours = {"NEBU_PORT": str(port), "NEBU_LOCAL_ENABLED": str(local)}
        env = {**settings.environment(), **ours, **engine.environment()}
        logs = settings.data / "logs"
        self._children.start(
            Child("worker", _nebu("worker", "--ready-file", str(self._worker_ready)), logs / "worker.log", env),
            Child("api", _nebu("api"), logs / "api.log", env),
        )

    async def _until_ready(self, stop: asyncio.Event) -> dict[str, Any] | None:
        """What the API says of the server, once it answers and the worker polls; None when told to stop before.

        Raises:
            NotStarted: A child ended, or it takes too long.
            Rejected: The key that signs tokens is not usable.
        """
        from worker.inquiry import Inquiry  # what it imports is slow, and loads while the children start

        try:
            self._inquiry = Inquiry(self._api, self._settings)
        except ValueError as error:
            raise Rejected(str(error)) from error
        end = time.monotonic() + READY_LIMIT_S
        while not stop.is_set():
            self._children.check()
            if self._worker_ready.exists() and (known := await self._inquiry.diagnosis()):
                return known
            if time.monotonic() > end:
                hint = f"see the logs in {self._settings.data / 'logs'}"
                raise NotStarted(f"not ready within {READY_LIMIT_S:g} s", hint)
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    def _check_install(self, install: str) -> None:
        """The data directory and Temporal must be of one install, else the sweeps would see strangers.

        Raises:
            Conflict: They are not.
        """
        file = self._settings.data / "install-id"
        if not file.exists():
            draft = file.with_suffix(".draft")
            draft.write_text(install)
            draft.replace(file)
        mine = file.read_text().strip()
        if mine != install:
            raise Conflict(
                f"Temporal holds install {install!r}, {str(file)!r} says {mine!r}",
                "use the Temporal that belongs to this data directory, or another --data-dir; if its state is lost for "
                f"good, remove {str(file)!r}: what still runs is then listed by `nebu doctor`, and left alone",
            )

    def _welcome(self, known: dict[str, Any], seconds: float) -> None:
        assert self._inquiry is not None
        settings, token = self._settings, self._inquiry.token
        notes = self._notes()
        contexts.save_context(CONTEXT, self._api, token)
        self._say_who(f"API {self._api}")
        self._was_ready = True
        if self._ready_file:
            places = {"api": self._api, "ui": self._ui, "temporal": self._temporal}
            ready = {**places, "token": token, "data_dir": str(settings.data)}
            _write_private(self._ready_file, json.dumps(ready))
        places = {
            "API": self._api,
            "Temporal": self._temporal,
            "Temporal UI": self._ui or f"that of your Temporal at {settings.temporal_address}",
            "Data": str(settings.data),
            "Logs": str(settings.data / "logs"),
        }
        typer.echo(f"Nebulous {nebulous.__version__} is ready after {seconds:.1f} s")
        typer.echo(screens.welcome(places, known, notes))

    def _notes(self) -> list[str]:
        """What else the person should know; asked before the context is saved."""
        notes: list[str] = []
        if not self._settings.loopback and not self._settings.local_enabled:
            notes.append("listening beyond this machine: platform `local` is off unless NEBU_LOCAL_ENABLED=true")
        if (before := contexts.load().current) not in (None, CONTEXT):
            notes.append(f"`nebu` now talks to this server; back to {before!r}: nebu config use {before}")
        if named := [name for name in SERVER_VARIABLES if os.environ.get(name)]:
            notes.append(f"{' and '.join(named)} in the environment win over it: unset them to talk to this server")
        return notes

    # --- stop -----------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Stop ours, the users of the engine first; say what goes on without us."""
        known = await self._inquiry.diagnosis(ASK_LIMIT_S) if self._was_ready and self._inquiry else None
        await self._children.stop(STOP_LIMIT_S)
        if self._ready_file and self._was_ready:
            self._ready_file.unlink(missing_ok=True)
        if self._was_ready:
            typer.echo(screens.farewell(known))


def _nebu(*words: str) -> list[str]:
    """The command line of another `nebu`; a folder with packages of the same names must not stand in for ours."""
    root = Path(nebulous.__file__).parents[1]
    alone = [] if Path.cwd() == root else ["-P"]  # without the working directory on the path, unless that is ours
    return [sys.executable, *alone, "-m", "nebulous", *words]


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
