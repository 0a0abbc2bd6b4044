"""RunPod: pods that run the image itself, rented and run through REST v2 (docs/adr/0016).

Its API knows no idempotency key, no labels, no exit code, no command that is sent later, and no exec. What we make of
that: pods are named by the rental's key and found by our tags in their variables (`runpod_pod.py`); an entry of ours
waits in each for the run that `start` gives it, and tells in the log how that ended (`runpod_entry.sh`,
`runpod_ends.py`); further commands go by SSH where the image has a server (`runpod_ssh.py`). One list of all pods,
shared by all who ask at about the same time, answers `find` and `owned`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

from activities.platforms import diagnosis, runpod_account, runpod_logs, runpod_pod
from activities.platforms.base import Ask, Check, Command, Progress, Size, unheard
from activities.platforms.doubt import maybe_rented
from activities.platforms.runpod_account import RunpodIdentity
from activities.platforms.runpod_api import RunpodApi, Shared
from activities.platforms.runpod_ends import Ends
from activities.platforms.runpod_keys import PodKeys
from activities.platforms.runpod_offers import RunpodOffers
from activities.platforms.runpod_pace import Urgency
from activities.platforms.runpod_pod import Pod, survivors
from activities.platforms.runpod_registries import RunpodRegistries
from activities.platforms.runpod_renting import Renting
from activities.platforms.runpod_ssh import PodExecution, PodLine
from nebulous.accounts import RunpodAccount
from nebulous.errors import AuthFailed, Conflict, NebulousError, NotFound, NotReady, Rejected, Unavailable
from nebulous.models.containers import Launch
from nebulous.models.platforms import Exit, Feature, Instance, InstanceState, Offer

log = logging.getLogger(__name__)

SETTLE_S = 90.0
BEGIN_S = 60.0  # for RunPod to make the container anew, with the image on the machine already
NUDGE_S = 15.0  # after which a container that did not change by itself is restarted
UPTIME_S = 1.0  # RunPod counts whole seconds
STOP_S = 40.0  # beyond the command's own grace; a workflow gives a minute
ADVICE = "put openssh-server into the image (apt-get install -y openssh-server), and let port 22 free"


class RunpodPlatform:
    """One account of RunPod; implements `Platform`, `Watches`, `Executes` and `Diagnoses`."""

    type = "runpod"
    features = frozenset({Feature.LOGS, Feature.WATCH, Feature.EXEC})
    simulated = False
    busy_interval = 10.0  # exits are pushed; RunPod counts calls
    idle_interval = 30.0

    def __init__(self, name: str, install: str, account: RunpodAccount, secret_key: bytes, data_dir: Path) -> None:
        """Nothing is asked yet.

        Args:
            name: Of the account in the settings, without `runpod:`.
            install: Whose pods are watched, and rid of duplicates.
            account: Key, data centres, whose machines.
            secret_key: Of the install; the keys of pods' SSH servers come from it.
            data_dir: Of the server; nothing is kept there.
        """
        self.account = f"{self.type}:{name}"
        self._install = install
        self._secret_key = secret_key
        self._api = RunpodApi(account)
        self._identity = RunpodIdentity(self._api)
        self._catalog = RunpodOffers(self._api, account, self.account, SETTLE_S)
        self._registries = RunpodRegistries(self._api)
        self._renting = Renting(self._api, self._registries, secret_key)
        self._ends = Ends(self._api, self._tell)
        self._list = Shared(self._listed)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._made: dict[str, tuple[Pod, float]] = {}  # by id: just rented, and perhaps not in a list yet
        self._last: dict[str, Pod] = {}  # by id, as last seen
        self._lines: dict[str, PodLine] = {}
        self._listeners: set[asyncio.Queue[Instance]] = set()

    async def identity(self) -> str:
        """The user whose key it is."""
        return await self._identity.get()

    async def missing_permissions(self) -> list[str]:
        """What the key may not do; empty when it may all that is needed."""
        return await runpod_account.missing_permissions(self._api)

    async def diagnose(self) -> list[Check]:
        """What the key may do; RunPod has no quotas to ask for."""
        return [diagnosis.permissions(await self.missing_permissions())]

    async def offers(self, ask: Ask) -> list[Offer]:
        """List what RunPod has now, with today's price."""
        found = await self._catalog.offers(ask)
        return [offer.model_copy(update={"features": self.features}) for offer in found]

    async def prepare(self, launch: Launch, command: Command, progress: Progress) -> str:
        """The pod brings its image itself."""
        return ""

    async def create(self, launch: Launch, offer: Offer, command: Command, count: int = 1) -> list[Instance]:
        """Rent a pod that waits; adopt the one of this key. List, rent, list again, keep one.

        Raises:
            Conflict: A pod of another life has this key.
        """
        if count != 1:
            raise Rejected(f"runpod rents one pod at a time, not {count}", "create them one by one")
        async with self._locks.setdefault(launch.key, asyncio.Lock()):
            identity = await self.identity()
            found = await self._before(launch.key)
            if not found:
                pod = await self._renting.rent(launch, offer, command)
                self._made[pod.id] = (pod, asyncio.get_running_loop().time())
                with maybe_rented(f"pod {pod.id}"):
                    found = await self._of(launch.key)
        if not found:
            raise Unavailable(f"the pod of {launch.key} vanished as soon as it was rented")
        if found[0].tag(runpod_pod.TAG_ID) != launch.metadata.id:
            raise Conflict(f"pod {found[0].id!r} is named {launch.key!r} and was rented for something else")
        return [self._instance(found[0], identity, None)]

    async def start(
        self, instance: Instance, launch: Launch, command: Command, progress: Progress = unheard
    ) -> Instance:
        """Give the pod its next run, unless it has one since `instance.run`, and wait until that has begun."""
        async with self._locks.setdefault(instance.id, asyncio.Lock()):
            pod = before = await self._get(instance)
            told = pod.run == instance.run
            if told:
                pod = await self._give_run(pod, launch, command)
        run = cast("str", pod.run)
        sight = await self._ends.begun(pod.id, run, NUDGE_S)
        if sight is None:
            if not self._ends.heard(pod.id):  # the command may run already: a restart would end it
                raise NotReady(f"the log of pod {pod.id!r} does not answer, and nothing else tells whether it began")
            await self._nudge(pod, (before.uptime_s or 0.0) + NUDGE_S if told else BEGIN_S)
            sight = await self._ends.begun(pod.id, run, BEGIN_S)
        if sight is None:
            raise NotReady(f"pod {pod.id!r} does not begin its command yet: its container is being made anew")
        if run in sight.refused:
            program = (launch.container.argv or [""])[0]
            raise Rejected(f"the image has no program {program!r}", "correct the command, or take an image that has it")
        return self._instance(pod, await self.identity(), self._ends.of(pod.id, run))

    async def stop(self, instance: Instance, grace_s: float) -> Instance:
        """End the command: by SSH with all its grace; else RunPod restarts the container, with as much as it gives."""
        pod = await self._get(instance)
        ended: Exit | None = None
        if pod.run:
            ended = await self._ends.look(pod.id, pod.run)
            if ended is None and pod.state is InstanceState.RUNNING:
                left_s = await self._tell_to_stop(pod, grace_s)
                ended = await self._ends.end_of(pod.id, pod.run, left_s)
                if ended is None:
                    raise Unavailable(f"the command in pod {pod.id!r} did not end in time")
        return self._instance(pod, await self.identity(), ended)

    async def find(self, key: str) -> list[Instance]:
        """Look the key up in a list that begins after this call; what we have just rented, by its id."""
        pods, identity = await self._of(key), await self.identity()
        ends = [await self._ends.look(pod.id, pod.run) if pod.run and self._is_ours(pod) else None for pod in pods]
        return [self._instance(pod, identity, end) for pod, end in zip(pods, ends, strict=True)]

    async def delete(self, key: str) -> None:
        """Terminate the key's pods, then remove the login for its registry."""
        for pod in await self._pods():
            if pod.key == key:
                await self._terminate(pod)
        await self._registries.remove(key)
        self._renting.forget(key)

    async def owned(self) -> list[Instance]:
        """List every pod with our tags, and keep the logs of those in sight whose command runs."""
        pods, identity = await self._pods(), await self.identity()
        ours, others = survivors([pod for pod in pods if self._is_ours(pod)])
        await self._rid_of(others)
        self._ends.only({pod.id for pod in pods} | set(self._made))
        for pod in ours:
            if pod.run and self._ends.of(pod.id, pod.run) is None:
                self._ends.keep(pod.id)
        kept = ours + [pod for pod in pods if pod.key and not self._is_ours(pod)]
        return [self._instance(pod, identity, self._ends.of(pod.id, pod.run)) for pod in kept]

    async def watch(self) -> AsyncIterator[Instance]:
        """Yield pods whose command has ended, as soon as their log says so."""
        told: asyncio.Queue[Instance] = asyncio.Queue()
        self._listeners.add(told)
        try:
            while True:
                yield await told.get()
        finally:
            self._listeners.discard(told)

    async def logs(self, instance: Instance, follow: bool = False, tail: int | None = None) -> AsyncGenerator[bytes]:
        """Stream what all runs of the command wrote, stdout and stderr in one, line by line."""
        pod = await self._get(instance)
        ended = await self._ends.look(pod.id, pod.run) if pod.run else None
        over = pod.run if ended else None
        if tail is not None and (ended or not follow):
            if tail and (found := await runpod_logs.last(self._api, pod.id, pod.created_at, over, tail)):
                yield found
            return
        source = runpod_logs.read(self._api, pod.id, pod.created_at, over)
        if follow and not ended:
            source = runpod_logs.follow(self._api, pod.id, pod.created_at, pod.run, tail)
        async with aclosing(source) as pieces:
            async for piece in pieces:
                yield piece

    @asynccontextmanager
    async def execute(
        self, instance: Instance, argv: list[str], size: Size | None = None
    ) -> AsyncGenerator[PodExecution]:
        """Run a further command by SSH.

        Raises:
            Conflict: The command does not run, or the image has no SSH server: the hint says what to add.
        """
        pod = await self._get(instance)
        if not pod.run or pod.state is not InstanceState.RUNNING or await self._ends.look(pod.id, pod.run):
            raise Conflict(f"no command runs in {pod.id!r}")
        line = await self._line(pod)
        async with line.executing(argv, size) as execution:
            yield execution

    async def close(self) -> None:
        """Let go of logs, lines and connections."""
        await self._ends.close()
        for line in self._lines.values():
            await line.close()
        await self._list.close()
        await self._catalog.close()
        await self._registries.close()
        await self._api.close()

    # --- the list -----------------------------------------------------------------------------------

    async def _listed(self) -> list[Pod]:
        answer = await self._api.call("GET", "/v2/pods", "listing pods", urgency=Urgency.LIST)
        raw = answer.get("pods")
        if not isinstance(raw, list):  # an answer of another shape must not prove that all is gone
            raise Unavailable("RunPod's list of pods has no pods in it", "is its API newer than this release?")
        pods = [Pod.of(each) for each in cast("list[dict[str, Any]]", raw)]
        self._last = {pod.id: pod for pod in pods}
        return pods

    async def _pods(self) -> list[Pod]:
        """Those that are there, and those that we have just made and that no list has yet."""
        pods = [pod for pod in await self._list.get() if pod.state is not InstanceState.DELETING]
        listed, now = {pod.id for pod in pods}, asyncio.get_running_loop().time()
        for pod, at in list(self._made.values()):
            if pod.id in listed or now - at > SETTLE_S:
                del self._made[pod.id]
            elif (seen := await self._seen(pod.id)) is None:
                self._made.pop(pod.id, None)
            else:
                pods.append(seen)
        return pods

    async def _before(self, key: str) -> list[Pod]:
        """What a create finds: for a key that nobody here has sent, a list of a moment ago will do to rent."""
        if not self._renting.sent(key) and all(pod.key != key for pod in await self._list.recent()):
            return []
        return await self._of(key)

    async def _of(self, key: str) -> list[Pod]:
        """The pod of a key; of several of ours one stays."""
        found = [pod for pod in await self._pods() if pod.key == key]
        ours, others = survivors([pod for pod in found if self._is_ours(pod)])
        await self._rid_of(others)
        return ours + [pod for pod in found if not self._is_ours(pod)]

    async def _rid_of(self, pods: list[Pod]) -> None:
        """Terminate duplicates; whoever looks next tries again."""
        for pod in pods:
            log.warning("pod %s is a second one of %s: it is terminated", pod.id, pod.key)
            with suppress(NebulousError):
                await self._terminate(pod)

    async def _seen(self, pod: str) -> Pod | None:
        with suppress(NotFound):
            answer = await self._api.call("GET", f"/v2/pods/{pod}", "looking at a pod", urgency=Urgency.RENT)
            found = self._last[pod] = Pod.of(answer)
            return None if found.state is InstanceState.DELETING else found
        return None

    async def _get(self, instance: Instance) -> Pod:
        """Look at one; that it is not there stands only in the account that it was rented in.

        Raises:
            NotFound: It is gone.
        """
        if pod := await self._seen(instance.id):
            return pod
        self._ends.forget(instance.id)
        identity = await self.identity()
        if instance.identity not in ("", identity):
            message = f"{instance.id} was rented by RunPod's user {instance.identity}; the key is of {identity}"
            raise AuthFailed(message, "give the account a key of the user that rented it")
        raise NotFound(f"pod {instance.id!r} is gone")

    # --- changing -----------------------------------------------------------------------------------

    async def _give_run(self, pod: Pod, launch: Launch, command: Command) -> Pod:
        if pod.state is InstanceState.BOOTING:
            raise NotReady(f"pod {pod.id!r} is on its way: RunPod says {pod.status}")
        if pod.status == "EXITED" and not pod.run:
            raise NotFound(f"pod {pod.id!r} was stopped by RunPod or its owner")
        if pod.state is InstanceState.PREEMPTED and not pod.run:
            hint = "it needs /bin/sh; see the pod's system log at RunPod"
            raise Rejected(f"RunPod cannot start the image {launch.container.image!r}: it says {pod.status}", hint)
        keys = PodKeys(self._secret_key, launch.key)
        run = runpod_pod.next_run(pod.id, pod.run)
        env = runpod_pod.variables(launch, command, keys, self._api.base, run)
        return await self._change(pod, env)

    async def _change(self, pod: Pod, env: dict[str, str]) -> Pod:
        """Change its variables, upon which RunPod makes its container anew."""
        what = "changing a pod's variables"
        answer = await self._api.call("PATCH", f"/v2/pods/{pod.id}", what, urgency=Urgency.RENT, body={"env": env})
        changed = self._last[pod.id] = Pod.of(answer)
        return changed

    async def _nudge(self, pod: Pod, up_s: float) -> None:
        """Restart a container that is as old as this, if RunPod did not by itself when its variables changed."""
        seen = await self._seen(pod.id)
        if seen and seen.status == "RUNNING" and seen.uptime_s is not None and seen.uptime_s >= up_s - UPTIME_S:
            with suppress(Conflict):
                await self._act(pod, "restart", Urgency.RENT)

    async def _tell_to_stop(self, pod: Pod, grace_s: float) -> float:
        """Tell it, and return how much longer that may take."""
        if self._ends.has_ssh(pod.id) is not False and pod.direct:
            try:
                await (await self._line(pod)).stop(grace_s)
                return grace_s + STOP_S
            except (NebulousError, TimeoutError) as error:
                log.info("pod %s is stopped by RunPod, as SSH does not reach it: %s", pod.id, error)
        kept = {
            name: value for name, value in pod.env.items() if not name.startswith("RUNPOD_")
        }  # its own stay its own
        await self._change(pod, {**kept, runpod_pod.STOPPED: cast("str", pod.run)})
        if await self._ends.end_of(pod.id, cast("str", pod.run), NUDGE_S + grace_s) is None:
            await self._nudge(pod, (pod.uptime_s or 0.0) + NUDGE_S + grace_s)
        return STOP_S - NUDGE_S

    async def _act(self, pod: Pod, action: str, urgency: Urgency) -> None:
        what = f"the action {action} on a pod"
        await self._api.call("POST", f"/v2/pods/{pod.id}/action", what, urgency=urgency, body={"action": action})

    async def _terminate(self, pod: Pod) -> None:
        with suppress(NotFound):
            await self._api.call("DELETE", f"/v2/pods/{pod.id}", "terminating a pod", urgency=Urgency.DELETE)
        self._ends.forget(pod.id)
        if line := self._lines.pop(pod.id, None):
            await line.close()

    async def _line(self, pod: Pod) -> PodLine:
        """A line to the pod's SSH server.

        Raises:
            Conflict: It has none.
        """
        if self._ends.has_ssh(pod.id) is False:
            raise Conflict(
                "the image has no SSH server, and RunPod knows no other way to run a command in a pod", ADVICE
            )
        if pod.direct is None:
            raise Conflict(f"RunPod gave pod {pod.id!r} no address for SSH (yet)", "try again, or use cloud: SECURE")
        line = self._lines.get(pod.id)
        if line is None or line.where != pod.direct:
            line = self._lines[pod.id] = PodLine(*pod.direct, PodKeys(self._secret_key, pod.key))
        return line

    # --- words --------------------------------------------------------------------------------------

    def _is_ours(self, pod: Pod) -> bool:
        return bool(pod.key) and pod.tag(runpod_pod.TAG_INSTALL) == self._install

    def _instance(self, pod: Pod, identity: str, end: Exit | None) -> Instance:
        return pod.instance(self.account, identity, end)

    def _tell(self, pod: str, run: str) -> None:
        seen, end = self._last.get(pod), self._ends.of(pod, run)
        if seen and end and seen.run == run:
            instance = self._instance(seen, self._identity.known, end)
            for told in self._listeners:
                told.put_nowait(instance)
