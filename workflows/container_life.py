"""A container as it is read and spoken to; what it does, phase by phase, stands in `containers.py`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from temporalio import workflow

from nebulous.ids import rental_key
from nebulous.models.containers import FINAL, ContainerSpec, Launch, Status
from nebulous.models.platforms import Instance, Observation, Offer
from workflows.container_state import ContainerState, Ending, Notice, shortened, spec_of
from workflows.entity_state import Said, moment, stamp
from workflows.wishes import Meant, Resource, which

UNREACHABLE = "Unreachable: "  # begins the message of checks that cannot be made from where the worker is
NOTICES_KEPT = 20
#: What of the status a notification says.
TOLD = (
    *("status", "reason", "message", "exit_code", "platform", "attempt", "restarts", "recoveries"),
    *("started_at", "finished_at"),
)


class ContainerLife(Resource[ContainerState]):
    """State, words and messages of a container; none of it acts."""

    model = ContainerSpec

    # --- being read and spoken to ---------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The status object of the API."""
        return self.state.status.model_dump(mode="json")

    def rentals(self) -> dict[str, Any]:
        """What is or may be rented."""
        return self.state.rented()

    def account(self) -> str:
        """Where it is rented, or was last."""
        return self.state.status.account

    def details(self) -> str:
        """Status, reason, instance and what happens next."""
        return self.state.markdown()

    def final(self) -> bool:
        """True once the outcome is known."""
        return self.state.status.status in FINAL

    def over(self) -> bool:
        """A stopping container is as good as over: the next life may be accepted."""
        return self.final() or self.state.status.status == Status.STOPPING

    def can_run(self) -> bool:
        """False for what is on its way out, and for a spec that can never run."""
        return not self.state.deleting and self.state.status.status != Status.INVALID

    def took(self, before: dict[str, Any]) -> None:
        """Move the deadlines; whatever phase waits for one sees that it is another, and looks again."""
        state, now = self.state, workflow.now()
        old, new = ContainerSpec.model_validate(spec_of(before)), state.container
        if state.provision_by:
            state.provision_by = moved(state.provision_by, new.provision_span - old.provision_span)
        if state.expires_at:
            state.expires_at = moved(state.expires_at, new.ttl_span - old.ttl_span)
        if state.run_since and not self.final():
            since, limit = moment(state.run_since) or now, new.timeout_span
            state.run_by = stamp(since + limit) if limit else None
        if state.keep_until:
            state.keep_until = moved(state.keep_until, new.keep_span - old.keep_span)
            state.condition("Released", "False", "KeptOnFailure", f"until {state.keep_until}")
        if new.probed != old.probed and state.status.status == Status.RUNNING:
            self.expect_checks()
        ceiling = new.max_usd_per_hour
        if ceiling != old.max_usd_per_hour:
            state.offers = [offer for offer in state.offers if affordable(offer, ceiling)]
        if state.next_try_at:  # ask again at once: what was wrong may be right now
            state.next_try_at = state.status.next_try_at = stamp(now)

    @workflow.signal(name="stop", description="Stop the command and give the instance back; row and logs stay.")
    def on_stop(self, request: Said = None, *_: Said) -> None:
        """Want it stopped; nothing to do for a finished one. A life that is to follow begins stopped."""
        meant = which(self.state, request)
        if meant.coming:
            self.hold_next(stopped=True)
        if meant.this or meant.earlier:
            self.state.start_asked = False
            self.state.keep_until = None  # a failed one's machine is not kept any longer
            if not self.final() and self.state.wanted != "stop":
                self.state.wanted = "stop"
                self.record("StopRequested", "stop requested")

    @workflow.signal(name="start", description="Start a finished or stopped container again, as the next attempt.")
    def on_start(self, request: Said = None, *_: Said) -> None:
        """Want it running; nothing to do for one that runs."""
        meant = which(self.state, request)
        if meant.coming:
            self.hold_next(stopped=False)
        self._start_again(meant)

    @workflow.signal(name="restart", description="Restart the command in the same instance.")
    def on_restart(self, request: Said = None, *_: Said) -> None:
        """Want the command started afresh; a finished one is started again."""
        meant = which(self.state, request)
        if meant.coming:
            self.hold_next(stopped=False)
        if meant.this and self.can_run() and not self._ending():
            self.state.restart_asked = True
        else:
            self._start_again(meant)

    def _start_again(self, meant: Meant) -> None:
        """Start what has ended; to who knew only the life before, one that has run began afresh already."""
        fresh = meant.earlier and self.state.status.started_at is None
        if (meant.this or fresh) and self.can_run() and self._ending():
            self.state.start_asked = True

    def _ending(self) -> bool:
        """True for what has ended, or is about to whatever the reason: it is started again after that."""
        return self.final() or self.state.wanted == "stop" or self.state.status.status == Status.STOPPING

    @workflow.signal(name="observe", description="What a sweep saw of the instance.")
    def on_observe(self, request: Said = None, *_: Said) -> None:
        """Take note, unless it is about another rental or an earlier run (rule 7)."""
        try:
            seen = Observation.model_validate(request)
        except ValueError as error:
            workflow.logger.warning("dropped an observation: %s", error)
            return
        state, instance = self.state, self.state.instance
        if instance is None or seen.key != instance.key or self.final():
            return
        if seen.state == "exited":
            self._observe_exit(seen, instance)
        elif seen.state in ("lost", "preempted") and state.seen is None:
            state.seen = seen
        elif seen.state in ("healthy", "unhealthy"):
            self._observe_health(seen, instance)
        elif seen.state == "idle":
            self._observe_idle(seen, instance)
        elif seen.ip:
            state.status.ip = seen.ip

    def _observe_exit(self, seen: Observation, instance: Instance) -> None:
        if seen.run == instance.run and self.state.phase == "running":
            self.state.seen = seen
        elif seen.run != instance.run:
            self.state.early = seen  # `start` has not answered yet

    def _observe_health(self, seen: Observation, instance: Instance) -> None:
        """Show what the checks say of the current run; whether it is restarted is decided by `running`."""
        state, healthy = self.state, seen.state == "healthy"
        if seen.run != instance.run or state.phase != "running" or state.seen or state.container.probed is None:
            return
        unreachable = seen.message.startswith(UNREACHABLE)
        message = seen.message.removeprefix(UNREACHABLE)
        reason = "Healthy" if healthy else "Unreachable" if unreachable else "Unhealthy"
        if self.readiness() == reason:
            return
        state.condition("Ready", "True" if healthy else "Unknown" if unreachable else "False", reason, message)
        state.status.ready = healthy and state.status.status == Status.RUNNING
        self.record(reason, message or f"{state.container.probed} says yes", warning=not healthy)
        if reason == "Unhealthy" and state.container.restart != "Never":
            state.unhealthy = message
        self.publish()

    def _observe_idle(self, seen: Observation, instance: Instance) -> None:
        """Have the current run stopped, unless it may be idle for any time by now."""
        state = self.state
        if seen.run == instance.run and state.phase == "running" and not state.seen and state.container.idle_timeout:
            state.idle = seen.message

    def readiness(self) -> str:
        """The reason of the condition `Ready`, which a container with a health check has."""
        return next((known.reason for known in self.state.status.conditions if known.type == "Ready"), "")

    def expect_checks(self) -> None:
        """Begin a run, or another check: with one it is not ready before the first good answer."""
        state, check = self.state, self.state.container.probed
        if check is not None:
            state.condition("Ready", "False", "Starting", f"no good answer yet from {check}")
        else:
            state.status.conditions = [known for known in state.status.conditions if known.type != "Ready"]
        state.status.ready = state.status.status == Status.RUNNING and check is None

    @workflow.query(name="history", description="Events and attempts, oldest first.")
    def on_history(self) -> dict[str, Any]:
        """The last events, and the attempts table."""
        return {
            **super().on_history(),
            "attempts": [line.model_dump(mode="json") for line in self.state.attempts],
        }

    # --- outcome, and small words for the phases --------------------------------------------------------

    def finish(self, ending: Ending) -> str:
        """Write the outcome, once; while deleting, the word stays `stopping` until the proof."""
        state, status = self.state, self.state.status
        state.ending, state.unhealthy, state.idle = None, "", ""
        state.run_by = state.run_since = state.provision_by = state.restart_at = state.next_try_at = None
        state.offers, state.blocked, state.rounds = [], {}, 0
        status.finished_at, status.next_try_at, status.ready = self.now(), None, False
        if state.deleting:
            self.show(Status.STOPPING, self.farewell, "giving the instance back")
        else:
            self.show(ending.status, ending.reason, ending.message)
            self.record(ending.status.capitalize(), ending.message or ending.reason, ending.status != Status.COMPLETED)
            self.announce("outcome")
        if state.rentals:
            state.condition("Released", "False", "Releasing", "the instance is being given back")
        return self._keep(ending) or "releasing"

    def _keep(self, ending: Ending) -> str | None:
        """Keep the machine of a command that failed for a look at it, if that is wanted and it is there."""
        state = self.state
        if self.leaving() or ending.status != Status.FAILED or state.instance is None or self.gone():
            return None
        span = state.container.keep_span
        if not span or not state.status.started_at:
            return None
        state.keep_until = stamp(workflow.now() + span)
        state.condition("Released", "False", "KeptOnFailure", f"until {state.keep_until}")
        self.record("KeptOnFailure", f"the machine is kept until {state.keep_until}; stop or delete gives it back")
        return "keeping"

    def announce(self, event: Literal["outcome", "recovery"]) -> None:
        """Write what is sent to `notify`; it leaves beside everything else."""
        state, status = self.state, self.state.status
        if not state.spec.get("notify"):
            return
        state.noticed += 1
        where = {name: getattr(state.metadata, name) for name in ("id", "owner", "namespace", "name")}
        shown = {name: getattr(status, name) for name in TOLD}
        body = {"kind": "Container", "event": event, **where, **shown, "at": self.now()}
        key = f"{state.metadata.id}-{state.noticed}"
        state.notices = [*state.notices, Notice(key=key, body=body)][-NOTICES_KEPT:]

    @property
    def farewell(self) -> str:
        """The reason of a container on its way out for good."""
        return "Replacing" if self.state.next else "Deleting"

    def leaving(self) -> bool:
        """True when the user wants it stopped or gone."""
        return self.state.deleting or self.state.wanted == "stop"

    def gone(self) -> bool:
        """True when the instance, not the command, ended."""
        return self.state.seen is not None and self.state.seen.state != "exited"

    def leave_unstarted(self) -> str:
        """The user changed their mind while no command ran: not yet, or not any more."""
        if self.state.instance:
            return "stopping"
        when = "while another machine was looked for" if self.state.status.started_at else "before it ran"
        return self.finish(Ending(status=Status.STOPPED, reason="StoppedByUser", message=when))

    def refuse(self, problem: str) -> str:
        """It can never work: `problem` is "Type: message"."""
        reason, _, message = problem.partition(": ")
        ending = Ending(status=Status.INVALID, reason=reason, message=message)
        return self.finish(ending)

    def lose(self, word: Literal["lost", "preempted"], message: str) -> None:
        """Note that the instance is lost, without waiting for a sweep."""
        instance = self.instance()
        self.state.seen = Observation(key=instance.key, instance_id=instance.id, state=word, message=message)

    def blocked(self, offer: Offer) -> bool:
        """True while an account, region or type is left alone after a quota or login error."""
        until = [moment(at) for scope, at in self.state.blocked.items() if offer.within(scope)]
        return any(time > workflow.now() for time in until if time)

    def next_key(self, offer: Offer) -> str:
        """The key of the try that was just opened; every try has its own, so no refused request is ever replayed."""
        state = self.state
        return rental_key(state.install, state.metadata.id, state.tries, offer.account, offer.region, offer.zone)

    def launch(self, offer: Offer, key: str) -> Launch:
        """All that a platform needs to know."""
        state = self.state
        return Launch(
            metadata=state.metadata,
            spec=spec_of(state.spec),
            key=key,
            install=state.install,
            workflow=workflow.info().workflow_id,
            attempt=state.status.attempt,
            recoveries=state.status.recoveries,
            platform=offer.platform,
            image_digest=state.status.image_digest or "",
        )

    def instance(self) -> Instance:
        """What is rented; only phases after renting ask."""
        assert self.state.instance is not None, "only phases after renting come here"
        return self.state.instance

    def offer(self) -> Offer:
        """The offer it was rented by; only phases after renting ask."""
        assert self.state.offer is not None, "only phases after renting come here"
        return self.state.offer

    def place(self) -> str:
        """Where it is, for people."""
        return self.state.offer.place if self.state.offer else "the machine"

    def ttl(self) -> timedelta:
        """How long it stays visible once finished."""
        try:
            return self.state.container.ttl_span
        except ValueError:  # an invalid spec has no TTL of its own
            return ContainerSpec(image="none").ttl_span

    def now(self) -> str:
        """Now."""
        return stamp(workflow.now())

    def show(self, status: Status, reason: str, message: str) -> None:
        """Set the words that readers see."""
        shown = self.state.status
        shown.status, shown.reason, shown.message = status, reason, shortened(message, reason)
        checked = bool(self.readiness())
        if checked and status != Status.RUNNING:
            self.state.condition("Ready", "False", "NotRunning", "")
        shown.ready = status == Status.RUNNING and (not checked or self.readiness() == "Healthy")


def moved(at: str, by: timedelta) -> str:
    """A stamp so much later, or earlier."""
    return stamp((moment(at) or workflow.now()) + by)


def affordable(offer: Offer, ceiling: float | None) -> bool:
    """True when the offer's price is known to be within the ceiling, or there is none."""
    return ceiling is None or (offer.usd_per_hour is not None and offer.usd_per_hour <= ceiling)
