"""One simulated instance: its row, and what the row means at a moment. Pure, so that nothing has to run."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

from activities.platforms.sim_script import Script, turn
from nebulous.models.base import Record
from nebulous.models.container_fields import PublicPort
from nebulous.models.platforms import Exit, Instance, InstanceState

SIGTERM_CODE = 143
OOM_CODE = 137
LONGEST_SHOWN = 300


class Run(Record):
    """One start of the command. Times are unix seconds."""

    at: float
    until: float | None = None  # None: until it is stopped
    code: int = 0
    oom: bool = False
    stopped: bool = False
    healthy_at: float = 0.0
    unhealthy_at: float | None = None
    idle_at: float | None = None  # its accelerators do nothing from then on

    @classmethod
    def scripted(cls, script: Script, number: int, now: float) -> Run:
        """The n-th run of a life, as its script has it."""
        run_for = turn(script.run_for_s, number)
        oom = bool(turn(script.oom, number))
        code = OOM_CODE if oom else turn(script.exit_code, number) or 0
        unhealthy_after, idle_after = turn(script.unhealthy_after_s, number), turn(script.idle_after_s, number)
        return cls(
            at=now,
            until=None if run_for is None else now + run_for,
            code=code,
            oom=oom,
            healthy_at=now + (turn(script.healthy_after_s, number) or 0.0),
            unhealthy_at=None if unhealthy_after is None else now + unhealthy_after,
            idle_at=None if idle_after is None else now + idle_after,
        )

    def healthy(self, now: float) -> bool:
        """True while health checks pass."""
        return self.healthy_at <= now and (self.unhealthy_at is None or now < self.unhealthy_at)

    def ended(self, now: float) -> bool:
        """True once the command has exited."""
        return self.until is not None and self.until <= now


class Rented(Record):
    """What the cloud keeps of one instance. Times are unix seconds."""

    id: str
    key: str
    account: str
    install: str
    workflow: str
    life: str
    ordinal: int = 0  # among those rented together
    region: str
    zone: str
    instance_type: str
    accelerator: str | None = None
    accelerator_count: int = 0
    shown: str  # the command, for the log
    ports: list[PublicPort] = []  # that are opened to the world
    script: Script
    created_at: float
    ready_at: float
    preempt_at: float | None = None
    gone_at: float | None = None  # it vanishes by script, or its deletion is through
    deleting: bool = False
    runs: list[Run] = []

    def gone(self, now: float) -> bool:
        """True when the cloud knows nothing of it any more."""
        return self.gone_at is not None and self.gone_at <= now

    def preempted(self, now: float) -> bool:
        """True when the machine was taken back."""
        return self.preempt_at is not None and self.preempt_at <= now

    def exited(self, now: float) -> bool:
        """True when the latest run has ended by itself or by `stop`, on a machine that was still there."""
        if not self.runs:
            return False
        run = self.runs[-1]
        return run.ended(now) and (self.preempt_at is None or (run.until or 0) <= self.preempt_at)

    def state(self, now: float) -> InstanceState:
        """What the cloud would say at that moment."""
        if self.deleting:
            return InstanceState.DELETING
        if self.exited(now):
            return InstanceState.EXITED
        if self.preempted(now):
            return InstanceState.PREEMPTED
        if now < self.ready_at:
            return InstanceState.BOOTING
        return InstanceState.RUNNING if self.runs else InstanceState.READY

    def instance(self, identity: str, now: float) -> Instance:
        """The same as everybody else sees it."""
        address = _address(self.id)
        state, run = self.state(now), self.runs[-1] if self.runs else None
        end = None
        if run and self.exited(now):
            end = Exit(code=run.code, at=_stamp(run.until or now), oom=run.oom)
        return Instance(
            key=self.key,
            id=self.id,
            account=self.account,
            identity=identity,
            region=self.region,
            zone=self.zone,
            state=state,
            run=str(len(self.runs)) if self.runs else None,
            exit=end,
            workflow=self.workflow,
            life=self.life,
            install=self.install,
            ip=None if state == InstanceState.BOOTING else address,
            public_ports=[port.model_copy(update={"public_ip": address}) for port in self.ports],
            message="the simulated cloud took the machine back" if state == InstanceState.PREEMPTED else "",
            created_at=_stamp(self.created_at),
        )

    def log(self, now: float) -> str:
        """What the command has written until then; later it is only longer."""
        lines: list[str] = []
        for run in self.runs:
            lines.append(f"simulated: would run {self.shown} on {self.instance_type} {self.region}")
            lines += self.script.log.splitlines()
            lines += self._end(run, now)
        return "".join(f"{line}\n" for line in lines)

    def _end(self, run: Run, now: float) -> list[str]:
        lost = self.preempt_at is not None and self.preempt_at < (run.until or now + 1)
        if lost and self.preempted(now):
            return ["simulated: the machine was taken back"]
        if not run.ended(now):
            return []
        why = ", out of memory" if run.oom else ", stopped" if run.stopped else ""
        return [f"simulated: exit {run.code}{why}"]


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(instance: str) -> str:
    """An address of the range that is reserved for documentation: nobody can mistake it for a machine."""
    return f"198.51.100.{zlib.crc32(instance.encode()) % 254 + 1}"
