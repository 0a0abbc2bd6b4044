"""docker-compose.yml on loopback: its commands, settings, secrets and files, run as processes of this machine.

What a container would have is translated and nothing else is changed: names of services and their ports become
addresses on 127.0.0.1, places inside of a container become places in a temporary folder. PostgreSQL comes from this
machine, `temporal-server` and `temporal-sql-tool` from NEBU_TEST_TEMPORAL, Valkey and `temporal` from their packages.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.packages import ROOT
from worker.embedded import temporal_binary, valkey_binary

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LIMIT_S = 60.0
NOBODY = 65534
API, API_HOST = "api:3000", "127.0.0.2"  # no loopback as far as settings know, and yet nobody else gets in
#: Where programs listen inside of the network, by the service and the port there.
LISTENS = ("postgres:5432", "temporal:7233", "valkey:6379", "api:3000", "api:9464", "worker:9465", "temporal:9466")
#: Ports of Temporal's parts, which in a container are nobody else's.
INNER = ("FRONTEND_HTTP_PORT", "FRONTEND_MEMBERSHIP_PORT", "HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT")
INNER += ("MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT")


def postgres_programs() -> Path | None:
    """Where this machine's newest PostgreSQL has its programs."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda each: int(each.parent.name))


def temporal_programs() -> dict[str, Path]:
    """The two programs of a Temporal server; both may be found in the folder NEBU_TEST_TEMPORAL, or on the PATH."""
    path = os.pathsep.join([os.environ.get("NEBU_TEST_TEMPORAL", ""), os.environ["PATH"]])
    found = {name: shutil.which(name, path=path) for name in ("temporal-server", "temporal-sql-tool")}
    return {name: Path(place) for name, place in found.items() if place}


def why_not() -> str | None:
    """What keeps this machine from running it, or None."""
    if postgres_programs() is None:
        return "there is no PostgreSQL server here"
    if len(temporal_programs()) < 2:
        return "there is no Temporal server here: NEBU_TEST_TEMPORAL names no folder with it (see CONTRIBUTING.md)"
    return None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; low ones, because Temporal keeps its own in PostgreSQL's smallest integer."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no ports are free")


@dataclass
class Topology:
    """The services of the compose file, as processes."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict[str, int])  # service:port there -> port here
    inner: dict[str, str] = field(default_factory=dict[str, str])
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def __post_init__(self) -> None:
        found = free_ports(len(LISTENS) + len(INNER))
        self.ports = dict(zip(LISTENS, found, strict=False))
        self.inner = {name: str(port) for name, port in zip(INNER, found[len(LISTENS) :], strict=True)}
        self.inner["FRONTEND_GRPC_PORT"] = str(self.ports["temporal:7233"])
        for name in ("bin", "valkey", "tmp", "nebulous"):
            (self.folder / name).mkdir()
        programs = {**temporal_programs(), "temporal": temporal_binary(), "valkey-server": valkey_binary()}
        for name, place in programs.items():
            (self.folder / "bin" / name).symlink_to(place.resolve())

    @property
    def url(self) -> str:
        return f"http://{API_HOST}:{self.ports[API]}"

    @property
    def temporal(self) -> str:
        return f"127.0.0.1:{self.ports['temporal:7233']}"

    def ready(self) -> bool:
        """What the worker's health check asks."""
        return subprocess.run(self.check("worker"), env=self.environment("worker"), check=False).returncode == 0

    def check(self, service: str) -> list[str]:
        """A service's health check as a command."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        words = [self.here(service, word).replace("/tmp/", f"{self.folder}/tmp/") for word in words]
        return ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words

    def metrics(self, listener: str) -> str:
        """What a scrape of it reads, such as `worker:9465`."""
        return httpx.get(f"http://127.0.0.1:{self.ports[listener]}/metrics", timeout=10).text

    def here(self, service: str, text: str) -> str:
        """A text of the compose file with what it names inside of the network, or of a container, as it is here."""
        for listener, port in self.ports.items():
            name, _, there = listener.partition(":")
            place = f"{API_HOST if listener == API else '127.0.0.1'}:{port}"
            text = re.sub(rf"\b(?:{name}|0\.0\.0\.0|localhost|127\.0\.0\.1):{there}\b", place, text)
            text = str(port) if text == there and name == service else text
        for volume in SERVICES[service].get("volumes", []):
            source, place = volume.split(":")[:2]
            text = text.replace(place, str(ROOT / source) if source.startswith("./") else str(self.folder / source))
        text = text.replace("/etc/temporal/entrypoint.sh", "temporal-server start")  # all that is left of it here
        return text.replace("/run/secrets", str(self.folder / "secrets")).replace("$$", "$")

    def environment(self, service: str) -> dict[str, str]:
        """Of a service, and nothing of this process's own."""
        words = {"postgres": "127.0.0.1", "0.0.0.0": "127.0.0.1", "5432": str(self.ports["postgres:5432"])}
        if service in ("api", "worker"):
            words["0.0.0.0"] = API_HOST
        own = SERVICES[service].get("environment", {})
        given = {key: words.get(str(value)) or self.here(service, str(value)) for key, value in own.items()}
        if service == "temporal":
            given |= {**self.inner, "DYNAMIC_CONFIG_FILE_PATH": str(self._dynamic(given["DYNAMIC_CONFIG_FILE_PATH"]))}
        if service in ("api", "worker"):
            given["NEBU_PORT"] = str(self.ports[API])
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": str(self.folder), **given}

    def _dynamic(self, file: str) -> Path:
        """The compose file's own, and short histories, so that lives continue as new before the eyes of a test."""
        made = self.folder / "dynamic.yaml"
        made.write_text(f"{Path(file).read_text()}\nlimit.historyCount.suggestContinueAsNew: [{{value: 30}}]\n")
        return made

    def nebu(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command in the container of the API: with its settings and secrets."""
        command = [sys.executable, "-m", "nebulous", *words]
        return subprocess.run(
            command, env=self.environment("api"), input=stdin, capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT
        )

    def command(self, service: str) -> list[str]:
        """What its container would run."""
        words = [self.here(service, word) for word in SERVICES[service]["command"]]
        if service in ("api", "worker"):
            words = [word.replace("/tmp/", f"{self.folder}/tmp/") for word in words]
            return [sys.executable, "-m", "nebulous", *words]
        if service == "valkey":  # in a container nobody else has the port
            words[-1] = words[-1].rstrip() + f" --port {self.ports['valkey:6379']} --bind 127.0.0.1"
        return [*SERVICES[service]["entrypoint"], *words]

    def once(self, service: str) -> None:
        """Run a service that ends."""
        done = subprocess.run(
            self.command(service), env=self.environment(service), capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, service: str, replica: str = "", **more_env: str) -> None:
        """Start one that stays; its output goes to a file."""
        with (self.folder / f"{service}{replica}.log").open("ab") as log:
            self.running[service + replica] = subprocess.Popen(
                self.command(service),
                env=self.environment(service) | more_env,
                cwd=ROOT if service in ("api", "worker") else self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        """With -9."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        """End all, last started first; PostgreSQL last and gently."""
        for name, process in reversed(list(self.running.items())):
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def secrets_as_documented(folder: Path) -> None:
    """Make the secrets by the very lines that docs/production.md has for it."""
    text = (ROOT / "docs" / "production.md").read_text()
    block = text.partition("```\nmkdir -m 0700 secrets")[2].partition("\n```")[0]
    lines = ["mkdir -m 0700 secrets" + block.partition("docker compose")[0]]
    subprocess.run(["bash", "-euc", "\n".join(lines)], cwd=folder, check=True, timeout=LIMIT_S)


def postgres(topology: Topology) -> None:
    """A server with the user and the password of the compose file, on a folder of its own, run by nobody."""
    programs, folder = postgres_programs(), topology.folder / "postgres"
    assert programs
    folder.mkdir()
    as_nobody: list[str] = []
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    password = folder / "password"
    password.write_text((topology.folder / "secrets" / "postgres_password").read_text())
    password.chmod(0o644)
    user = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    make = ["initdb", "--pgdata", f"{folder}/data", "--username", user, "--pwfile", str(password), "--no-sync"]
    make[0] = str(programs / make[0])
    subprocess.run(
        [*as_nobody, *make, "--auth=scram-sha-256"], check=True, capture_output=True, timeout=LIMIT_S, cwd=folder
    )
    port = topology.ports["postgres:5432"]
    serve = ["-D", f"{folder}/data", "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
    with (topology.folder / "postgres.log").open("wb") as log:
        topology.running["postgres"] = subprocess.Popen(
            [*as_nobody, str(programs / "postgres"), *serve], cwd=folder, stdout=log, stderr=log
        )


def until(check: Any, what: str, limit_s: float = LIMIT_S) -> Any:
    """Look again and again for an effect, with a limit; what breaks while looking counts as not yet."""
    end, last = time.monotonic() + limit_s, None
    while time.monotonic() < end:
        try:
            if found := check():
                return found
        except (OSError, httpx.HTTPError, subprocess.CalledProcessError, AssertionError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"not within {limit_s} s: {what}; {last or ''}")


def listens(port: int) -> bool:
    """True when somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def topology(more_env: Mapping[str, str] | None = None) -> Iterator[Topology]:
    """The whole of it, up and healthy, in the order of the compose file's `depends_on`."""
    with tempfile.TemporaryDirectory(prefix="nebu-production-") as name:
        Path(name).chmod(0o755)  # nobody goes through it
        made = Topology(Path(name))
        secrets_as_documented(made.folder)
        url = made.folder / "secrets" / "redis_url"
        url.chmod(0o644)
        url.write_text(made.here("api", url.read_text()))
        try:
            postgres(made)
            until(lambda: listens(made.ports["postgres:5432"]), "PostgreSQL listens")
            until(lambda: made.once("temporal-schema") is None, "the schema is there")
            made.start("temporal")
            made.start("valkey")
            until(lambda: made.once("temporal-namespace") is None, "Temporal has the namespace")
            made.start("worker", **(more_env or {}))
            made.start("api", **(more_env or {}))
            until(lambda: httpx.get(f"{made.url}/health").json()["status"] == "ok", "the API is well")
            until(lambda: made.ready() or made.running["worker"].poll() is not None, "the worker works")
            assert made.ready(), made.log("worker")
            yield made
        finally:  # pytest shows what was printed when the test failed
            for service in made.running:
                print(f"--- {service}:\n{made.log(service)[-3000:]}")
            made.close()
