"""One container's life, from accepted spec to proof that its instance is gone.

The phase table in `steps` is the design; every phase can be the start of a run, after a continue-as-new.
Outcome first: the result is published before the instance is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from temporalio import workflow

from activities.containers import ContainerActivities, RunRequest
from activities.failures import Failure
from activities.pace import Pace
from nebulous import durations
from nebulous.errors import NotFound, PortTaken, Rejected
from nebulous.ids import platform_queue
from nebulous.models.containers import (
    MAX_RECOVERIES,
    RECOVERY_WINDOW,
    ContainerSpec,
    Status,
)
from nebulous.models.platforms import Exit, Feature, Instance, Observation
from workflows.container_state import ContainerState, Ending
from workflows.entity import Step
from workflows.entity_state import moment, stamp
from workflows.outcome import ContainerOutcome
from workflows.placement import RESTART_BACKOFF, backoff, counted

STOP_MARGIN = timedelta(seconds=60)
SHORTEST_TRY, LONGEST_TRY = timedelta(seconds=1), timedelta(days=1)  # of starting the command
STEADY = timedelta(minutes=10)  # a command that ran this long is restarted without back-off


@workflow.defn(name="Container")
class ContainerWorkflow(ContainerOutcome):
    """One container's life, from accepted spec to proof that its instance is gone."""

    @workflow.init
    def __init__(self, state: dict[str, Any]) -> None:
        problem = self.load(state, ContainerState, ContainerSpec)
        if problem:
            self.state.phase = self.finish(Ending(status=Status.INVALID, reason="InvalidSpec", message=problem))

    @workflow.run
    async def run(self, state: dict[str, Any]) -> None:
        """Live until deleted, or until the TTL of a finished container ends."""
        async with self.telling():
            await self.live()

    def steps(self) -> Mapping[str, Step]:
        """The phase table."""
        return {
            "placing": self.placing,  # → renting, pending
            "renting": self.renting,  # → booting, renting (next offer), replacing, pending
            "replacing": self.replacing,  # → renting, once it is proven that nothing was rented
            "pending": self.pending,  # → placing
            "booting": self.booting,  # → running
            "running": self.running,  # → restarting, stopping, recovering, releasing
            "restarting": self.restarting,  # → running
            "recovering": self.recovering,  # → placing
            "stopping": self.stopping,  # → keeping, releasing
            "keeping": self.keeping,  # → releasing
            "releasing": self.releasing,  # → finished, close
            "finished": self.finished,  # → placing, close
            "close": self.close,
        }

    # --- running --------------------------------------------------------------------------------------

    async def booting(self) -> str:
        """Wait for the instance, start the command."""
        if self.leaving():
            return "stopping"
        if self.state.seen:
            return "recovering"
        self.show(Status.CREATED, "Booting", f"waiting for {self.place()}")
        return await self._start("booting")

    async def _start(self, phase: str) -> str:
        state, instance = self.state, self.instance()
        provision_by = state.provision_by
        late = moment(provision_by) if phase == "booting" else None
        budget = max(late - workflow.now(), SHORTEST_TRY) if late else LONGEST_TRY
        answer = await self.race(
            ContainerActivities.start,
            RunRequest(launch=self.launch(self.offer(), instance.key), instance=instance),
            Pace.polling(budget),
            summary="start the command",
            queue=platform_queue(instance.account),
            until=lambda: self.leaving() or self.gone() or state.provision_by != provision_by,
        )
        if answer is None:
            return phase
        if isinstance(answer, Failure):
            return await self._not_started(answer, phase)
        return self._started(answer)

    async def _not_started(self, failure: Failure, phase: str) -> str:
        self.record(failure.type, f"start: {failure}", warning=True)
        if failure.isa(Rejected):
            return self.refuse(f"{failure.type}: {failure}")
        if failure.isa(NotFound):
            self.lose("lost", str(failure))
            return "recovering"
        if failure.isa(PortTaken):
            return self.finish(Ending(status=Status.FAILED, reason=failure.type, message=str(failure)))
        state = self.state
        state.failure = f"{failure.type}: {self.place()} did not start: {failure}"
        self.show(Status(state.status.status), failure.type, f"the command does not start yet: {failure}")
        pause = backoff(RESTART_BACKOFF, state.start_failures)
        state.start_failures += 1
        # Unreachable is not dead: try again until the time is over.
        await self.wait(
            lambda: self.leaving() or self.gone(), workflow.now() + pause, summary="before the command is started again"
        )
        return self.overdue() or phase

    def _started(self, instance: Instance) -> str:
        state, status, now = self.state, self.state.status, workflow.now()
        state.instance, status.ip = instance, instance.ip
        self.pin(instance.image_digest)
        status.public_ports = instance.public_ports or None
        state.provision_by = state.restart_at = state.stopped_until = None
        state.seen, state.restart_asked, state.start_failures, state.unhealthy = None, False, 0, ""
        state.idle = ""
        if state.early and state.early.run == instance.run:
            state.seen = state.early
        elif instance.exit:
            state.seen = Observation(
                key=instance.key,
                instance_id=instance.id,
                state="exited",
                run=instance.run,
                exit=instance.exit,
            )
        state.early = None
        status.started_at, status.exit_code = stamp(now), None
        state.run_since = state.run_since or stamp(now)
        limit = state.container.timeout_span
        if limit and not state.run_by:
            state.run_by = stamp(now + limit)
        self.record("Started", f"the command runs on {self.place()}")
        if state.container.image and Feature.NO_IMAGE in self.offer().features:
            state.condition("ImageIgnored", "True", "NoImage", f"{self.place()} runs commands on the host itself")
        self.tell_of_ports()
        self.expect_checks()
        self.show(Status.RUNNING, "Started", "")
        return "running"

    async def running(self) -> str:
        """Wait for the end of the command, of the instance, of the time allowed, or of the user's wish."""
        state = self.state
        run_by = state.run_by
        await self.wait(
            lambda: self._disturbed() or state.run_by != run_by,
            moment(run_by),
            summary="until the timeout",
        )
        if state.seen and state.seen.exit and self._ended_for_restart():
            return self._begin_restart(timedelta(0))
        if state.seen:
            return self._ended(state.seen.exit) if state.seen.exit else "recovering"
        if self.leaving():
            return "stopping"
        if self.timed_out():
            state.ending, state.start_asked = self.timeout(), state.start_asked or state.restart_asked
            return "stopping"
        if state.restart_asked:
            self.record("RestartRequested", "restart requested")
            return await self._restart_now("RestartRequested", timedelta(0))
        if state.idle:
            state.ending = Ending(status=Status.STOPPED, reason="Idle", message=state.idle)
            return "stopping"
        return await self._restart_unhealthy() if state.unhealthy else "running"

    def _disturbed(self) -> bool:
        """True when there is something to do about a running command."""
        state = self.state
        return bool(state.seen or state.restart_asked or state.unhealthy or state.idle) or self.leaving()

    def _ended(self, end: Exit) -> str:
        """Decide on the exit: restart, or outcome."""
        state = self.state
        state.status.exit_code, state.status.finished_at = end.code, end.at
        if end.wrong_machine:
            ending = Ending(status=Status.FAILED, reason="WrongArchitecture", message=end.wrong_machine)
            return self.finish(ending)
        self.record(_reason(end), f"exit code {end.code}", warning=end.code != 0)
        if not self._restarts(end, state.retries + 1) or self.leaving():
            return self._conclude(end)
        state.restart_at = stamp(workflow.now() + self._pause())
        state.retries += 1
        return "restarting"

    def _restarts(self, end: Exit, retries: int) -> bool:
        """True when the spec, as it is now, asks for this many restarts after such an exit."""
        spec = self.state.container
        again = spec.restart == "Always" or (spec.restart == "OnFailure" and end.code != 0)
        return again and (spec.retries_allowed is None or retries <= spec.retries_allowed)

    def _conclude(self, end: Exit) -> str:
        """The outcome of a command that is not started again."""
        if end.code == 0:
            return self.finish(Ending(status=Status.COMPLETED, reason=_reason(end)))
        retries, restart = self.state.retries, self.state.container.restart
        memory = "the command used more memory than it may; raise resources.max_memory" if end.oom else ""
        more = f"{counted(retries, 'restart')} did not help" if restart != "Never" and retries else memory
        return self.finish(Ending(status=Status.FAILED, reason=_reason(end), message=more))

    async def restarting(self) -> str:
        """Wait out the back-off, start the command again in the same instance."""
        state = self.state
        run_by, end = state.run_by, state.seen.exit if state.seen else None
        due = min(time for time in (moment(state.restart_at), moment(run_by)) if time)
        if not state.start_failures:
            why = state.unhealthy or f"exit code was {state.status.exit_code}"
            reason = "Unhealthy" if state.unhealthy else "BackOff"
            self.show(Status.RESTARTING, reason, f"restart {state.retries}, {why}")
        if workflow.now() < due and not self._settled(end):
            await self.wait(
                lambda: self._settled(end) or state.run_by != run_by, due, summary="back-off before the restart"
            )
        if self.leaving():
            return "stopping"
        if self.gone():
            return "recovering"
        if self.timed_out():
            state.ending = self.timeout()
            return "stopping"
        if workflow.now() < due and not state.restart_asked:
            # woken by a change: it may have taken the restart away
            return self._conclude(end) if end and self._settled(end) else "restarting"
        following = await self._start("restarting")
        state.status.restarts += following == "running"
        return following

    def _settled(self, end: Exit | None) -> bool:
        """True when there is nothing to wait for before a restart, or none is wanted any more."""
        unwanted = end is not None and not self._restarts(end, self.state.retries)
        return self.leaving() or self.gone() or self.state.restart_asked or unwanted

    async def _restart_unhealthy(self) -> str:
        """A health check failed and a restart may help: it counts as a retry; else that is the outcome."""
        state, allowed = self.state, self.state.container.retries_allowed
        why = state.unhealthy
        if allowed is not None and state.retries >= allowed:
            more = f"; {counted(state.retries, 'restart')} did not help" if state.retries else ""
            state.ending = Ending(status=Status.FAILED, reason="Unhealthy", message=f"{why}{more}")
            return "stopping"
        wait = self._pause()
        state.retries += 1
        return await self._restart_now("Unhealthy", wait)

    def _pause(self) -> timedelta:
        """How long to wait before the next retry: not at all after a long run."""
        started = moment(self.state.status.started_at) or workflow.now()
        steady = workflow.now() - started >= STEADY
        return timedelta(0) if steady else backoff(RESTART_BACKOFF, self.state.retries)

    async def _restart_now(self, reason: str, wait: timedelta) -> str:
        self.show(Status.RESTARTING, reason, "stopping the command")
        stopped = await self._stop_command()
        if isinstance(stopped, Failure):
            if not stopped.isa(NotFound):
                self.state.restart_asked, self.state.unhealthy = False, ""
                grace = self.state.container.stop_grace_span
                self.state.stopped_until = stamp(workflow.now() + grace + STOP_MARGIN)
                self.record(stopped.type, f"restart: {stopped}", warning=True)
                self.show(Status.RUNNING, stopped.type, f"could not be restarted: {stopped}")
                return "running"
            self.lose("lost", str(stopped))
            return "recovering"
        return self._begin_restart(wait)

    def _begin_restart(self, wait: timedelta) -> str:
        self.state.seen = None
        self.state.restart_at = stamp(workflow.now() + wait)
        return "restarting"

    def _ended_for_restart(self) -> bool:
        """True when a command has ended where a restart is due: asked for, or a stop of ours whose answer got lost."""
        until = moment(self.state.stopped_until)
        due = self.state.restart_asked or (until is not None and workflow.now() <= until)
        return due and not self.leaving()

    async def recovering(self) -> str:
        """The instance is lost: prove it gone, then place again; counted apart from restarts."""
        state, status = self.state, self.state.status
        if state.instance:
            lost = state.seen
            reason = {"preempted": "Preempted", "lost": "InstanceLost"}.get(lost.state if lost else "", "InstanceLost")
            self.record(reason, (lost.message if lost else "") or f"{self.place()} is gone", warning=True)
            recent = [
                at for at in state.recoveries_at if (moment(at) or workflow.now()) > workflow.now() - RECOVERY_WINDOW
            ]
            if len(recent) >= MAX_RECOVERIES:
                message = f"{len(recent)} recoveries within {durations.render(RECOVERY_WINDOW)}"
                return self.finish(Ending(status=Status.FAILED, reason="TooManyRecoveries", message=message))
            state.recoveries_at = [*recent, self.now()]
            status.recoveries += 1
            state.provision_by = stamp(workflow.now() + state.container.provision_span)
            self.show(Status.CREATING, reason, "looking for another machine")
            self.announce("recovery")
            await self.archive()
            state.instance = status.public_ports = None
        if self.leaving():
            return self.leave_unstarted()  # the proof goes on behind the outcome
        if late := self.overdue():
            return late
        for rental in list(state.rentals.values()):
            await self.give_back(rental)
        if state.rentals:
            return "recovering"
        status.attempt += 1
        state.seen = state.early = state.restart_at = None
        return "placing"

    # --- the end --------------------------------------------------------------------------------------

    async def stopping(self) -> str:
        """End the command gently, then not; the outcome follows."""
        state = self.state
        ending = state.ending or Ending(status=Status.STOPPED, reason="StoppedByUser")
        reason = self.farewell if state.deleting else ending.reason
        self.show(Status.STOPPING, reason, "stopping the command")
        if state.instance:
            stopped = await self._stop_command()
            if isinstance(stopped, Failure):
                self.record(stopped.type, f"stop: {stopped}", warning=True)
            elif stopped.exit:
                state.status.exit_code = stopped.exit.code
        return self.finish(ending)

    async def _stop_command(self) -> Instance | Failure:
        instance, grace = self.instance(), self.state.container.stop_grace_span
        return await self.act(
            ContainerActivities.stop,
            RunRequest(
                launch=self.launch(self.offer(), instance.key),
                instance=instance,
                grace_s=grace.total_seconds(),
            ),
            Pace.ending(grace + STOP_MARGIN),
            summary=f"stop the command, grace {durations.render(grace)}",
            queue=platform_queue(instance.account),
        )

    async def releasing(self) -> str:
        """Give back what is rented; the outcome stands already, and costs count until the proof."""
        state = self.state
        await self.archive()
        for rental in list(state.rentals.values()):
            await self.give_back(rental)
        if state.rentals:
            return "releasing"
        if state.instance or any(known.type == "Released" for known in state.status.conditions):
            state.condition("Released", "True", "Released", "")
            self.record("Released", f"{self.place()} is proven gone")
        state.instance, state.offer, state.status.cost_per_hr, state.status.ip = None, None, None, None
        state.status.public_ports = None
        state.expires_at = stamp(workflow.now() + self.ttl())
        return "finished"

    async def finished(self) -> str:
        """Stay visible until deleted, started again, followed by a new life, or expired."""
        state = self.state
        expires_at = state.expires_at
        due = moment(expires_at) or workflow.now()
        await self.wait(
            lambda: state.deleting or bool(state.next) or state.start_asked or state.expires_at != expires_at,
            due,
            summary="kept until the TTL ends",
        )
        if state.deleting or state.next:
            return "close"
        if state.start_asked:
            return self._begin_again()
        return "close" if state.expires_at == expires_at and workflow.now() >= due else "finished"

    def _begin_again(self) -> str:
        state = self.state
        state.start_asked, state.wanted, state.retries = False, "run", 0
        state.status.attempt += 1
        state.status.exit_code = state.status.finished_at = state.status.started_at = None
        state.status.conditions = []
        self.record("StartRequested", f"attempt {state.status.attempt}")
        self.show(Status.DEFINED, "", "")
        return "placing"


def _reason(end: Exit) -> str:
    return "OutOfMemory" if end.oom else "Exited"
