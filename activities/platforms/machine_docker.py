"""The Engine of a rented machine: it runs one container, and the whole machine is that container's."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

from activities.platforms.base import Command, Progress
from activities.platforms.docker import EVENTS, DockerPlatform
from activities.runtimes import docker_config, docker_gpus
from activities.runtimes.docker import Login
from activities.runtimes.tunnel import Tunnel
from nebulous.errors import NotFound, Rejected, Unavailable
from nebulous.ids import TAG_KEY
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance, Offer

REPLAY_S = 2.0  # of events, before what was looked at


class MachineDocker(DockerPlatform):
    """The one container of a machine, by the key of its rental, which is also its name."""

    def __init__(self, machine: str, install: str, subnets: str, tunnel: Tunnel) -> None:
        super().__init__(machine, install, subnets=subnets, data_dir=tunnel.folder, tunnel=tunnel)

    async def look(self, key: str) -> Instance | None:
        """The container as it is now; None when there is none."""
        try:
            return self._instance(await self._runtime.inspect(key), "")
        except NotFound:
            return None

    async def bring(self, launch: Launch, command: Command, platform: str, progress: Progress) -> str:
        """Pull the image unless it is there; its digest.

        Raises:
            Rejected: It does not fit on the disk.
        """
        login = None
        if command.registry_username is not None:
            login = Login(command.registry_username, command.registry_password or "")
        image = docker_config.image_of(launch, platform)
        try:
            return (await self._runtime.bring(image, login, progress, launch.image_digest)).digest
        except Unavailable as error:
            if "disk is full" not in error.message:
                raise
            # Nobody else is on this machine, so nothing will become free.
            raise Rejected(f"image {image!r} does not fit on the machine's disk", "set disk: to more GiB") from error

    async def make(self, launch: Launch, command: Command) -> None:
        """Make the container, not started, with all GPUs of the machine if it asked for any; adopt it where it is."""
        gpus = len(await docker_gpus.inventory(self._driver)) if launch.container.accelerators else 0
        if launch.container.accelerators and not gpus:
            raise Unavailable("the machine's driver lists no GPU", "see nvidia-smi on it, and its console")
        accelerator = "all" if gpus else None
        offer = Offer(platform=self.type, account=self.account, accelerator=accelerator, accelerator_count=gpus)
        await self.create(launch, offer, command)

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Make it in the Engine's own network: nobody else is there, and two workers make no two of one name."""
        return [await self._adopted(launch) or await self._made(launch, offer, command, docker_config.BRIDGE)]

    async def changes(self, key: str) -> AsyncGenerator[Instance | None]:
        """The container as it is, then as it is after each event about it; None once it is removed.

        Raises:
            Unavailable: The line broke.
        """
        since = datetime.fromisoformat(str((await self._runtime.info())["SystemTime"])).timestamp() - REPLAY_S
        yield await self.look(key)
        async with aclosing(self._runtime.events(f"{TAG_KEY}={key}", math.floor(since), *EVENTS)) as events:
            async for _ in events:
                yield await self.look(key)

    def check_size(self, launch: Launch, machine: docker_config.Machine) -> None:
        """It was chosen by its shape; a kernel that keeps some of the memory for itself is no reason to refuse it."""

    async def close(self) -> None:
        """Let go of connections; its networks go with the machine."""
        await self._runtime.engine.close()
        if self._tunnel:
            await self._tunnel.close()

    @asynccontextmanager
    async def _picked(self, offer: Offer) -> AsyncGenerator[list[int]]:
        """All of them."""
        yield list(range(offer.accelerator_count))
