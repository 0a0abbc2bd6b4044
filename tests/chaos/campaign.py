"""One campaign on a real `nebu serve`: actors ask, processes are killed; then everything is proven (`proofs.py`)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError

from nebulous import temporal
from tests.chaos.desk import Desk
from tests.chaos.ear import Ear
from tests.chaos.ledgers import DockerLedger, SimLedger
from tests.chaos.plan import Actor, Blow, Expected, Plan, Step
from tests.chaos.scripts import FINAL
from tests.docker_engine import async_client
from tests.served import Server

SETTLE_S = 150.0  # from the last request: a backed-off restart of a process, a back-off of a placement
LOOK_S = 0.25
#: Harsher than in production: a sweep that judged too early would destroy something, and be found out.
SWEEPS = {"NEBU_FULL_SWEEP_S": "4", "NEBU_ORPHAN_GRACE_S": "4"}


class Campaign:
    """A plan on its way."""

    def __init__(self, server: Server, plan: Plan, docker_host: str = "", image: str = "") -> None:
        self.plan = plan
        self.server = server
        self.docker_host, self.image = docker_host, image
        self.strikes = server.folder / "strikes.jsonl"
        self.lives: dict[str, list[str]] = {actor.name: [] for actor in plan.actors}
        self.blows: list[str] = []
        self.ear = Ear()
        self.began = 0.0

    def environment(self) -> dict[str, str]:
        """What the server is started with."""
        faults = {"seed": self.plan.seed, "log": str(self.strikes), "rules": self.plan.rules}
        docker = {"NEBU_DOCKER_ENABLED": "true", "NEBU_DOCKER_HOST": self.docker_host} if self.docker_host else {}
        return {"NEBU_FAULTS": json.dumps(faults), **SWEEPS, **docker}

    async def run(self) -> None:
        """Do all of it, until every container is what it should be, or the time is over."""
        self.server.more_env = self.environment()
        ready = await asyncio.to_thread(self.server.up)
        self.desk = Desk(ready["api"], ready["token"])
        self.client: Client = await temporal.connect(ready["temporal"], lazy=True)
        self.sim = SimLedger(Path(ready["data_dir"]))
        self.docker = DockerLedger(self.docker_host) if self.docker_host else None
        self.began = time.monotonic()
        actors = asyncio.gather(*map(self._play, self.plan.actors))
        await asyncio.gather(actors, *(self._strike(blow) for blow in self.plan.blows))
        await self._settle()

    async def close(self) -> None:
        """Let go of connections; the server is its fixture's."""
        self.ear.close()
        await self.desk.close()
        if self.docker:
            self.docker.close()

    @property
    def ledgers(self) -> list[SimLedger | DockerLedger]:
        """Of every platform that took part."""
        return [self.sim, *([self.docker] if self.docker else [])]

    # --- what is asked ------------------------------------------------------------------------------------

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self.began + at_s - time.monotonic()))

    async def _play(self, actor: Actor) -> None:
        await self._until(actor.at_s)
        for number, step in enumerate(actor.steps):
            await asyncio.sleep(step.pause_s)
            if step.until:
                await self._await(actor, step.until)
            try:
                await self._do(actor, number, step)
            except AssertionError as error:
                raise AssertionError(f"{actor.name}, step {number} {step.verb}: {error}") from error

    async def _await(self, actor: Actor, wanted: tuple[str, ...] = ()) -> None:
        """Wait until its latest life is there, and in one of these statuses if there are any."""
        end, row = time.monotonic() + SETTLE_S, None
        while time.monotonic() < end:
            row = await self.desk.row(actor.name)
            latest = row is not None and row["metadata"]["id"] == self.lives[actor.name][-1]
            if row and latest and (not wanted or row["status"]["status"] in wanted):
                return
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{actor.name} is not {wanted} after {SETTLE_S:g} s, but {row and row['status']}")

    async def _do(self, actor: Actor, number: int, step: Step) -> None:
        path, key = f"/default/{actor.name}", f"{self.plan.seed}-{actor.name}-{number}"
        match step.verb:
            case "create":
                answer = await self.desk.ask("POST", "", key=key, json=self._body(actor, number, step))
                assert answer.code in (200, 202), answer
                self.lives[actor.name].append(answer.body["metadata"]["id"])
            case "again":
                body = self._body(actor, number - 1, actor.steps[number - 1])
                answer = await self.desk.ask("POST", "", json=body)
                assert answer.body["metadata"]["id"] == self.lives[actor.name][-1], answer
            case "replace":
                body = self._body(actor, number, step)
                answer = await self.desk.ask("PUT", path, key=key, json=body, params={"replace": "true"})
                assert answer.code in (200, 202), answer
                self.lives[actor.name].append(answer.body["metadata"]["id"])
            case "change":
                answer = await self.desk.ask("PATCH", path, key=key, json={"ttl_after_finished": "3d"})
                assert answer.code == 200, answer
            case "delete":
                answer = await self.desk.ask("DELETE", path)
                assert answer.code in (202, 404), answer
            case "cancel":
                await self._signal(actor, "cancel", "")
            case "lose":
                await self._lose(actor)
            case "stale":
                await self._send_stale(actor)
            case word:
                answer = await self.desk.ask("POST", f"{path}/{word}")
                assert answer.code == 202, answer

    def _body(self, actor: Actor, number: int, step: Step) -> dict[str, Any]:
        script = step.script
        assert script
        simulated = actor.platform == "sim"
        labels = {**script.labels, "chaos": script.name}
        return {
            "image": f"chaos/{actor.name}:{number}" if simulated else self.image,
            "command": script.command,
            "platform": actor.platform,
            "env_vars": [{"key": "STEP", "value": str(number)}],
            "metadata": {"name": actor.name, "labels": labels},
            **script.spec,
            **({"notify": self.ear.url} if "notify" in script.spec else {}),
        }

    async def _signal(self, actor: Actor, word: str, life: str) -> None:
        """Past the API, as a message that was on its way for long; a killed engine is asked again."""
        handle = self.client.get_workflow_handle(f"container/local/default/{actor.name}")
        end = time.monotonic() + SETTLE_S
        while True:
            try:
                return await (handle.cancel() if word == "cancel" else handle.signal(word, {"id": life}))
            except RPCError as error:
                if temporal.is_not_found(error):
                    return None
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _send_stale(self, actor: Actor) -> None:
        """What was meant for the lives before arrives late, and must not touch the one that is.

        While the life before is not over, a delete that names it means the name, and with it the life to come.
        """
        await self._await(actor)
        for life in self.lives[actor.name][:-1]:
            for word in ("stop", "delete", "restart", "start"):
                await self._signal(actor, word, life)

    async def _lose(self, actor: Actor) -> None:
        """Somebody removes the container behind our back."""
        async with async_client(self.docker_host) as engine:
            wanted = json.dumps({"label": [f"nebulous-id={self.lives[actor.name][-1]}"]})
            listed = (await engine.get("/containers/json", params={"all": "1", "filters": wanted})).json()
            assert len(listed) == 1, listed
            (await engine.delete(f"/containers/{listed[0]['Id']}", params={"force": "1"})).raise_for_status()

    # --- what is struck -----------------------------------------------------------------------------------

    async def _strike(self, blow: Blow) -> None:
        await self._until(blow.at_s)
        pid = self.server.marks()[blow.victim]["pid"]
        try:
            if blow.freeze_s:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(blow.freeze_s)
                os.kill(pid, signal.SIGCONT)
            else:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it was down already, by a blow before or a kill at a boundary
            self.blows.append(f"{blow.victim} missed")
        else:
            self.blows.append(f"{blow.victim} {'frozen' if blow.freeze_s else 'killed'}")

    def struck(self) -> Counter[str]:
        """What the fault injector did, by activity, side and fault."""
        lines = [json.loads(line) for line in self.strikes.read_text().splitlines()] if self.strikes.exists() else []
        return Counter(f"{line['activity']} {line['when']} {line['fault']}" for line in lines)

    # --- what comes of it ---------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until every name is what it should be; what is not in time is for the proofs to tell."""
        waiting = list(self.plan.actors)
        end = time.monotonic() + SETTLE_S
        while waiting and time.monotonic() < end:
            rows = await asyncio.gather(*(self.desk.row(actor.name) for actor in waiting))
            waiting = [actor for actor, row in zip(waiting, rows, strict=True) if unlike(actor.expected, row)]
            await asyncio.sleep(LOOK_S)

    async def clear(self) -> None:
        """Delete all that is left, and wait until it is gone."""
        left = list(self.plan.actors)
        for actor in left:
            await self.desk.ask("DELETE", f"/default/{actor.name}")
        end = time.monotonic() + SETTLE_S
        while left and time.monotonic() < end:
            rows = await asyncio.gather(*(self.desk.row(actor.name) for actor in left))
            left = [actor for actor, row in zip(left, rows, strict=True) if row]
            await asyncio.sleep(LOOK_S)
        assert not left, f"not gone: {[actor.name for actor in left]}"


def unlike(expected: Expected, row: dict[str, Any] | None) -> str:
    """How a container differs from what it should be; "" when it does not."""
    if row is None or not expected.statuses:
        return "" if row is None and not expected.statuses else "it should be gone" if row else "it is gone"
    status, script = row["status"], expected.script
    assert script
    if status["status"] not in expected.statuses:
        return f"it should be {' or '.join(sorted(expected.statuses))}"
    rented = len(status["rentals"])
    wanted = int(status["status"] not in FINAL or (script.kept and expected.untouched))
    if rented != wanted:
        return f"it should hold {wanted} rental, not {rented}"
    told = {"exit_code": script.exit_code, "restarts": script.restarts, "recoveries": expected.recoveries}
    if not expected.untouched:
        told = {}
    for name, value in told.items():
        if value is not None and status[name] != value:
            return f"{name} should be {value}"
    return ""
