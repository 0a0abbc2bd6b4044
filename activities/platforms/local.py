"""This host as a platform: runs the command as a supervised process group, without a container, like raw_exec of Nomad.

The only state is one folder per rental key under `DATA/local` (`local_folder.py`). The command is not confined: it
may do what the server's own user may, which is why this platform serves loopback only.

After a restart of the machine an instance whose command ran is PREEMPTED, not EXITED: nobody knows how far the
command came, so it is recovered like one on a machine that a cloud took back. The identity outlives the restart, so
that what was rented before can be given back after.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO

from activities.platforms import local_files
from activities.platforms.base import Ask, Command, Progress, Size, Verdict, unheard
from activities.platforms.local_folder import CHUNK_BYTES, KEY, Folder, now, seek_tail, store_id, unusable
from activities.platforms.local_gpus import installed
from activities.runtimes import gpu_usage, http_probe, process, process_usage
from activities.runtimes.executions import LocalExecution, executing
from nebulous import catalog
from nebulous.errors import Conflict, NotFound, Rejected, Unavailable
from nebulous.lines import LastLines, last_lines
from nebulous.models.container_fields import HealthCheck
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, InstanceState, Offer, PathStat, Usage

FEATURES = frozenset({Feature.LOGS, Feature.NO_IMAGE, Feature.EXEC, Feature.FILES, Feature.STATS})
FOLLOW_EVERY_S = 0.1
OVER = frozenset({InstanceState.EXITED, InstanceState.PREEMPTED, InstanceState.DELETING})
DELETE_ROUNDS = 5
LOOPBACK = "127.0.0.1"


class LocalPlatform:
    """Runs commands on this host; implements `Platform`, `Executes`, `KeepsFiles`, `KeepsLogs` and `Probes`."""

    type = "local"
    simulated = False
    features = FEATURES
    busy_interval = 0.3  # a listing reads a few small files
    idle_interval = 0.5

    def __init__(self, host: str, data_dir: Path, install: str) -> None:
        """Use the folder `local` in the server's data directory.

        Args:
            host: Id of this machine, part of the account.
            data_dir: Of the server.
            install: Id of this install. Tags come with each launch; a folder serves one install.
        """
        self.account = f"local:{host}"
        self.install = install
        self._host = host
        self._root = data_dir.resolve() / "local"

    async def identity(self) -> str:
        """Name the machine and the folder: in another one, absence would prove nothing.

        Raises:
            Unavailable: The data directory cannot be written.
        """
        return await asyncio.to_thread(self._identity)

    async def offers(self, ask: Ask) -> list[Offer]:
        """Offer this machine, if it has what is asked for.

        Raises:
            Rejected: It has not.
        """
        if ask.spot or ask.regions or ask.disk:
            what = "spot" if ask.spot else "regions" if ask.regions else "disk"
            raise Rejected(f"local is this one machine: it has no {what}", f"leave out {what}")
        if not ask.accelerators:
            return [self._offer()]
        here = await installed()
        offers: list[Offer] = []
        for rank, entry in enumerate(ask.accelerators):
            count, members = catalog.resolve(entry)
            fitting = [member for member in members if here.get(member, 0) >= count]
            offers += [self._offer(member, count, rank) for member in fitting]
        if not offers:
            had = ", ".join(f"{count}:{name}" for name, count in here.items())
            hint = f"it has {had}" if had else "nvidia-smi lists none here; name another platform"
            raise Rejected(f"local has no {' or '.join(ask.accelerators)}", hint)
        return offers

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """There is no image to bring: the command runs with what the host has."""
        return ""

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Make the folder; there is nothing to boot."""
        if launch.container.argv is None:
            raise Rejected("local runs a command on this host and no image", "give command")
        if count != 1:
            raise Rejected(f"local is one machine, not {count}", "name another platform")
        if not KEY.fullmatch(launch.key):
            raise Rejected(f"key {launch.key!r} cannot name a folder", "use letters, digits, '-', '_' and '.'")
        await self.identity()  # makes the folder of all rentals
        folder = self._folder(launch.key)
        await asyncio.to_thread(folder.make, launch)
        return [await self._see(folder)]

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Start the command under its own supervisor, which survives this process."""
        folder = await self._folder_of(instance)
        env = {**launch.own_env, **command.env}
        await asyncio.to_thread(folder.start, instance.run, launch.container.argv or [], env)
        return await self._see(folder)

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """End the command and all that it started."""
        folder = await self._folder_of(instance)
        for run in (await asyncio.to_thread(folder.runs))[-1:]:
            await process.stop(run, grace_s)
        return await self._see(folder)

    async def find(self, key: str) -> list[Instance]:
        """Look for the key's folder; it goes only after all of its processes."""
        folder = self._folder(key)
        there = KEY.fullmatch(key) and await asyncio.to_thread(folder.path.is_dir)
        return [await self._see(folder)] if there else []

    async def delete(self, key: str) -> None:
        """Kill what runs, prove it, then remove the folder.

        Raises:
            Unavailable: A process survives SIGKILL, or a file cannot be removed.
        """
        folder = self._folder(key)
        problem: OSError | None = None
        for _ in range(DELETE_ROUNDS):  # a start under way may claim its run until it sees the mark
            if not KEY.fullmatch(key) or not await asyncio.to_thread(folder.mark_deleting):
                return
            for run in await asyncio.to_thread(folder.runs):
                await process.kill(run)
            try:
                await asyncio.to_thread(folder.remove)
            except OSError as error:
                problem = error
        if problem and await self.find(key):
            raise Unavailable(f"cannot remove {str(folder.path)!r}: {problem}", "make it removable") from problem

    async def owned(self) -> list[Instance]:
        """List all folders."""
        return await asyncio.to_thread(self._owned)

    async def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
        """Stream the log of all runs."""
        async with aclosing(self._read(instance, follow, lambda log: tail is None or seek_tail(log, tail))) as pieces:
            async for piece in pieces:
                yield piece

    async def logs_from(self, instance: Instance, offset: int, follow: bool = False) -> AsyncGenerator[bytes]:
        """Stream it from a byte on."""
        async with aclosing(self._read(instance, follow, lambda log: log.seek(offset))) as pieces:
            async for piece in pieces:
                yield piece

    async def last_lines(self, instance: Instance, count: int) -> LastLines:
        """Look for them from the file's end."""
        with await self._log(instance) as log:
            size = log.seek(0, os.SEEK_END)

            async def read(start: int, end: int) -> bytes:
                log.seek(start)
                return await asyncio.to_thread(log.read, end - start)

            return await last_lines(read, size, count)

    async def _log(self, instance: Instance) -> IO[bytes]:
        folder = await self._folder_of(instance)
        try:
            return await asyncio.to_thread(folder.log.open, "rb")
        except FileNotFoundError as error:
            raise NotFound(f"the log of {instance.id!r} is gone") from error

    async def _read(
        self, instance: Instance, follow: bool, begin: Callable[[IO[bytes]], object]
    ) -> AsyncGenerator[bytes]:
        with await self._log(instance) as log:
            await asyncio.to_thread(begin, log)
            over = not follow
            while True:
                if chunk := await asyncio.to_thread(log.read, CHUNK_BYTES):
                    yield chunk
                elif over:
                    return
                elif not (over := await self._over(instance.key)):
                    await asyncio.sleep(FOLLOW_EVERY_S)

    @asynccontextmanager
    async def execute(
        self, instance: Instance, argv: list[str], size: Size | None = None
    ) -> AsyncGenerator[LocalExecution]:
        """Run a further command with the environment and folder of the container's own."""
        folder = await self._folder_of(instance)
        async with executing(await asyncio.to_thread(folder.companion, argv, size)) as execution:
            yield execution

    async def stat(self, instance: Instance, path: str) -> PathStat:
        """Look at a path of this host."""
        return await asyncio.to_thread(local_files.stat, await self._path(instance, path), path)

    async def read_files(self, instance: Instance, path: str) -> AsyncGenerator[bytes]:
        """Pack what is at a path of this host."""
        async with aclosing(local_files.read(await self._path(instance, path), path)) as archive:
            async for data in archive:
                yield data

    async def write_files(self, instance: Instance, path: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack in a folder of this host."""
        await local_files.write(await self._path(instance, path), path, archive)

    async def probe(self, instance: Instance, check: HealthCheck, command: Command) -> Verdict:
        """Ask this host's own port, or run the check's command where the command itself runs."""
        if check.path is not None:
            return await http_probe.ask(LOOPBACK, check)
        folder = await self._folder_of(instance)
        order = await asyncio.to_thread(folder.order, check.argv, command.env)
        run = (await asyncio.to_thread(folder.runs))[-1:]
        code, words = await process.check(order, run[0] if run else None, check.timeout_s)
        if code == 0:
            return Verdict(True)
        why = f"did not end within {check.timeout}" if code is None else f"ended with {code}"
        return Verdict(False, f"its command {why}{f': {words}' if words else ''}")

    async def usage(self, instance: Instance) -> Usage:
        """Measure the latest run's processes; nothing limits them but the machine."""
        folder = await self._folder_of(instance)
        runs = await asyncio.to_thread(folder.runs)
        if not runs or (await asyncio.to_thread(process.look, runs[-1])).phase is not process.Phase.RUNNING:
            raise Conflict(f"no command runs in {instance.id!r}")
        used = await process_usage.measure(runs[-1])
        return Usage(
            at=now(),
            cpu_percent=used.cpu_percent,
            memory_bytes=used.memory_bytes,
            memory_limit_bytes=used.memory_limit_bytes,
            accelerators=await gpu_usage.of_processes(used.pids),
        )

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _path(self, instance: Instance, path: str) -> Path:
        """Relative paths begin where the command does."""
        return (await asyncio.to_thread((await self._folder_of(instance)).work)) / path

    async def _over(self, key: str) -> bool:
        found = await self.find(key)
        return not found or found[0].state in OVER

    def _folder(self, key: str) -> Folder:
        return Folder(self._root / key)

    async def _folder_of(self, instance: Instance) -> Folder:
        """The instance's folder.

        Raises:
            NotFound: It is gone, or its key has been rented again since.
        """
        folder = self._folder(instance.key)
        rented = await asyncio.to_thread(folder.rented)
        if rented is None or rented.id != instance.id:
            raise NotFound(f"instance {instance.id!r} is not on this machine")
        return folder

    async def _see(self, folder: Folder) -> Instance:
        return await asyncio.to_thread(lambda: folder.instance(self.account, self._identity()))

    def _owned(self) -> list[Instance]:
        identity = self._identity()
        try:
            paths = sorted(path for path in self._root.iterdir() if KEY.fullmatch(path.name) and path.is_dir())
        except OSError as error:
            raise unusable(self._root, error) from error
        return [Folder(path).instance(self.account, identity) for path in paths]

    def _identity(self) -> str:
        return f"{self._host}/{store_id(self._root)}"

    def _offer(self, accelerator: str | None = None, accelerator_count: int = 0, rank: int = 0) -> Offer:
        return Offer(
            platform=self.type,
            account=self.account,
            accelerator=accelerator,
            accelerator_count=accelerator_count,
            rank=rank,
            usd_per_hour=0.0,
            price_source="own machine",
            price_at=now(),
            features=FEATURES,
        )
