"""The simulated cloud: rents nothing, needs nothing, does what it is told, and outlives every worker.

It serves demos, tests of failure, and clouds that are not configured (`NEBU_SIMULATE=runpod,ec2,gce`), always
marked simulated. Its state is a SQLite file under the data directory, and an instance's state is a function of its
row and the clock: nothing runs, so nothing can die.

A container's labels script what happens to it:

    sim.nebulous/boot: 2s               from rental to ready; default: the setting `sim.boot_s`
    sim.nebulous/run_for: 5s            the command ends by itself; without it, it runs until stopped
    sim.nebulous/exit_code: "3"         0 to 255
    sim.nebulous/oom: "true"            the command is killed for its memory: exit code 137
    sim.nebulous/log: text              what the command writes
    sim.nebulous/fail: OutOfCapacity*2,QuotaExceeded
                                        what the first creates of this container are answered with, in order; also
                                        AuthFailed, Unavailable, RateLimited, Rejected, ImageNotFound, and OK for one
                                        that is granted
    sim.nebulous/unanswered: "1"        so many granted creates take effect, but no answer comes
    sim.nebulous/preempt_after: 10s     after the rental the cloud takes the machine back, and says so
    sim.nebulous/vanish_after: 10s      the same without a word: it is in no list any more
    sim.nebulous/delete_takes: 2s       from the request to the proof
    sim.nebulous/healthy_after: 2s      from the start of the command health checks pass; default: at once
    sim.nebulous/unhealthy_after: 10s   from the start of the command they fail
    sim.nebulous/idle_after: 10s        from the start of the command its accelerators do nothing

`run_for`, `exit_code`, `oom`, `idle_after` and the two of health may be comma lists, used run by run over the
container's whole life, the last one staying: `exit_code: "1,1,0"` fails twice. `preempt_after` and `vanish_after`
concern the first attempt, or as a comma list the first ones: what is recovered stays.

Further commands (`nebu exec`) are pretended too: `echo`, `cat`, `true`, `false`, `sleep N` and `exit N` behave,
everything else says what it would run. There are no files to copy.

`sim_exec.py` pretends commands, `sim_script.py` reads the labels, `sim_offers.py` has the shelf, `sim_instances.py`
the meaning of a row, `sim_world.py` the file.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from activities.platforms import sim_script, sim_usage
from activities.platforms.base import Ask, Command, Progress, Size, Verdict, unheard
from activities.platforms.sim_exec import SimExecution
from activities.platforms.sim_instances import LONGEST_SHOWN, Rented
from activities.platforms.sim_offers import FEATURES, Market
from activities.platforms.sim_world import SimWorld
from nebulous import ids
from nebulous.errors import BY_TYPE, Conflict, NebulousError, NotFound, QuotaExceeded, Unavailable
from nebulous.models.container_fields import HealthCheck, PublicPort
from nebulous.models.containers import Launch, shown_command
from nebulous.models.platforms import Instance, InstanceState, Offer, Usage
from nebulous.settings import SimSettings

FOLLOW_EVERY_S = 0.1
SOONEST_LISTING_S = 0.3
LISTING_PAUSE = 15  # times what the last listing took: ten thousand instances shall not keep a processor busy
ENDED = frozenset({InstanceState.EXITED, InstanceState.PREEMPTED, InstanceState.DELETING})

P = ParamSpec("P")
T = TypeVar("T")


class SimPlatform:
    """A platform that pretends; implements `Platform`, `Executes` and `Probes`."""

    features = FEATURES
    simulated = True
    idle_interval = SOONEST_LISTING_S

    def __init__(
        self,
        type: str,  # noqa: A002 - the word that the contract has
        host: str,
        data_dir: Path,
        settings: SimSettings,
        *,
        clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Open the cloud of this data directory, or begin one.

        Args:
            type: `sim`, or the cloud in whose name it answers.
            host: Id of this machine, part of the account.
            data_dir: Of the server; the file is `sim/cloud.db` in it.
            settings: Offers, delays, errors.
            clock: Unix time in seconds.
            dice: From 0 to 1, decides on errors.
        """
        self.type = type
        self.busy_interval = SOONEST_LISTING_S
        self.account = f"sim:{host}" if type == "sim" else f"{type}:simulated-{host}"
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._market = Market(type, self.account, settings)
        self._world = SimWorld(data_dir / "sim" / "cloud.db", clock)

    async def identity(self) -> str:
        """Name the account; nothing is asked, so it always answers."""
        return self.account

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what fits, best first, once the labels make sense."""
        sim_script.read(ask.labels)
        return await self._call(self._market.offers, ask)

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """There is no image to bring."""
        return ""

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Rent as the script of the launch has it; nothing of the command's environment is kept."""
        wanted = [self._rented(launch, offer, ordinal) for ordinal in range(count)]
        rental = await self._change(self._world.rent, wanted, self._market.capacity(offer))
        if rental.failure:
            raise _failure(rental.failure, offer)
        if not rental.answered:
            raise Unavailable("simulated: the answer to this request was lost; it may have taken effect")
        return self._seen(rental.instances)

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Pretend to start the command."""
        return self._see(await self._change(self._world.start, self.account, instance.id, instance.run))

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """Pretend that the command obeys SIGTERM: exit code 143."""
        return self._see(await self._change(self._world.stop, self.account, instance.id))

    async def find(self, key: str) -> list[Instance]:
        """Look up what is rented under the key."""
        return self._seen(await self._call(self._world.of_key, self.account, key))

    async def delete(self, key: str) -> None:
        """Take away what is rented under the key."""
        await self._change(self._world.delete, self.account, key)

    async def owned(self) -> list[Instance]:
        """List everything rented in this account."""
        return await self._call(self._owned)

    async def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncIterator[bytes]:
        """Stream what the script has the command write."""
        rented = await self._call(self._world.get, self.account, instance.id)
        now = self._clock()
        text = rented.log(now)
        sent = len(text)
        yield _last_lines(text, tail).encode()
        while follow and rented.state(now) not in ENDED:
            await asyncio.sleep(FOLLOW_EVERY_S)
            try:
                rented = await asyncio.to_thread(self._world.get, self.account, instance.id)
            except NotFound:
                return
            now = self._clock()
            text = rented.log(now)
            if len(text) > sent:
                yield text[sent:].encode()
                sent = len(text)

    @asynccontextmanager
    async def execute(
        self, instance: Instance, argv: list[str], size: Size | None = None
    ) -> AsyncGenerator[SimExecution]:
        """Pretend to run a further command."""
        state = self._see(await self._call(self._world.get, self.account, instance.id)).state
        if state != InstanceState.RUNNING:
            raise Conflict(f"simulated: the command of {instance.id!r} does not run: it is {state.value}")
        yield SimExecution(argv, size)

    async def probe(self, instance: Instance, check: HealthCheck, command: Command) -> Verdict:
        """Answer as the script says."""
        rented, now = await self._call(self._world.get, self.account, instance.id), self._clock()
        ok = bool(rented.runs) and rented.runs[-1].healthy(now)
        return Verdict(ok, "" if ok else f"simulated: {check} says no")

    async def usage(self, instance: Instance) -> Usage:
        """Pretend numbers, the same for everybody who asks at the same time."""
        rented = await self._call(self._world.get, self.account, instance.id)
        now = self._clock()
        if rented.state(now) != InstanceState.RUNNING:
            raise Conflict(f"no command runs in {instance.id!r}")
        return sim_usage.usage(rented, now)

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.to_thread(self._world.close)

    async def _call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Answer as late and as unreliably as the settings say."""
        await asyncio.sleep(self._settings.latency_s)
        if self._dice() < self._settings.error_rate:
            raise _broken()
        return await asyncio.to_thread(work, *args, **kwargs)

    async def _change(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a call that changes something: half of its errors come after it took effect."""
        await asyncio.sleep(self._settings.latency_s)
        broken = self._dice() < self._settings.error_rate
        if broken and self._dice() < 0.5:
            raise _broken()
        result = await asyncio.to_thread(work, *args, **kwargs)
        if broken:
            raise _broken()
        return result

    def _rented(self, launch: Launch, offer: Offer, ordinal: int) -> Rented:
        script = sim_script.read(launch.metadata.labels)
        spec, now = launch.container, self._clock()
        preempt_after = sim_script.only_turn(script.preempt_after_s, launch.attempt)
        vanish_after = sim_script.only_turn(script.vanish_after_s, launch.attempt)
        what = shown_command(spec.command) or "the image's own command"
        return Rented(
            id=f"sim-{ids.new_id()}",
            key=launch.key,
            account=self.account,
            install=launch.install,
            workflow=launch.workflow,
            life=launch.metadata.id,
            ordinal=ordinal,
            region=offer.region,
            zone=offer.zone,
            instance_type=offer.instance_type,
            accelerator=offer.accelerator,
            accelerator_count=offer.accelerator_count,
            shown=(f"{what} in {spec.image}" if spec.image else what)[:LONGEST_SHOWN],
            script=script,
            ports=[PublicPort(port=port.port, protocol=port.transport) for port in spec.ports or [] if port.public],
            created_at=now,
            ready_at=now + (self._settings.boot_s if script.boot_s is None else script.boot_s),
            preempt_at=None if preempt_after is None else now + preempt_after,
            gone_at=None if vanish_after is None else now + vanish_after,
        )

    def _owned(self) -> list[Instance]:
        begun = time.monotonic()
        instances = self._seen(self._world.of_account(self.account))
        self.busy_interval = max(SOONEST_LISTING_S, LISTING_PAUSE * (time.monotonic() - begun))
        return instances

    def _see(self, rented: Rented) -> Instance:
        return rented.instance(self.account, self._clock())

    def _seen(self, rented: list[Rented]) -> list[Instance]:
        return [self._see(each) for each in rented]


def _broken() -> Unavailable:
    return Unavailable("simulated: the cloud's API answers with an error", "the setting sim.error_rate asks for it")


def _failure(name: str, offer: Offer) -> NebulousError:
    """The error that a script asked for, in the words of a cloud; another container's script says other things."""
    error = _scripted(name, offer)
    error.lasting = False
    return error


def _scripted(name: str, offer: Offer) -> NebulousError:
    if name == "QuotaExceeded":
        return QuotaExceeded(f"simulated: quota exceeded in {offer.region}", scope=offer.region or offer.account)
    words = {
        "OutOfCapacity": f"simulated: {offer.instance_type} is sold out in {offer.region}",
        "AuthFailed": "simulated: the credential was refused",
        "RateLimited": "simulated: too many requests",
        "Unavailable": "simulated: the cloud does not answer",
        "ImageNotFound": "simulated: no registry has this image",
    }
    return BY_TYPE[name](words.get(name, "simulated: the request was rejected"))


def _last_lines(text: str, count: int | None) -> str:
    if count is None:
        return text
    return "".join(text.splitlines(keepends=True)[-count:]) if count else ""
