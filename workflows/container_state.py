"""A container's whole state, and how readers see it."""

from __future__ import annotations

from typing import Any, Literal

from nebulous.models.base import Record
from nebulous.models.containers import Attempt, ContainerSpec, ContainerStatus, Status
from nebulous.models.platforms import Instance, Observation, Offer, Rental
from nebulous.models.resources import Condition
from workflows.entity_state import EntityState

ATTEMPTS_KEPT = 30
#: What each phase waits for, for the Temporal UI.
NEXT = {
    "placing": "ask who offers a machine",
    "renting": "rent the next offer",
    "replacing": "prove that an unanswered rental took no effect, then the next offer",
    "pending": "try the offers again",
    "booting": "start the command once the machine is ready",
    "running": "wait for the command to end",
    "restarting": "start the command again",
    "recovering": "prove the lost machine gone, then find another",
    "stopping": "stop the command",
    "keeping": "keep the machine of the failed command",
    "releasing": "give the machine back and prove it gone",
    "finished": "be deleted, started again, or expire",
}
#: Of the messages in the memo, which every list reads: its status stays under 1 kB. Events and attempts, which only
#: `describe` and `events` ask for, keep the whole.
LONGEST_MESSAGE = 160
KEPT_END = 60  # of a message that is cut: what to do about it stands there


class Ending(Record):
    """How a life ends once the command has been stopped."""

    status: Status
    reason: str
    message: str = ""


class Notice(Record):
    """Something that a person wants to be told; leaves the state once told, or given up."""

    key: str  # the same for every try, so that a receiver can drop doubles
    body: dict[str, Any]


class ContainerState(EntityState):
    """What a container's workflow knows; every field has a default, so `{"spec": {…}}` starts one."""

    phase: str = "placing"
    status: ContainerStatus = ContainerStatus()
    attempts: list[Attempt] = []
    rentals: dict[str, Rental] = {}
    instance: Instance | None = None
    offer: Offer | None = None  # of the instance
    archived: bool = False

    wanted: Literal["run", "stop"] = "run"
    start_asked: bool = False
    restart_asked: bool = False
    ending: Ending | None = None
    seen: Observation | None = None  # the end of the current run, or of its instance
    early: Observation | None = None  # an exit that overtook the answer of `start`
    unhealthy: str = ""  # why the command has to be restarted
    idle: str = ""  # why the command has to be stopped
    notices: list[Notice] = []  # still to be sent
    noticed: int = 0  # so many were written in this life

    offers: list[Offer] = []  # still to be tried in this round
    blocked: dict[str, str] = {}  # scope -> until when it is left alone
    rounds: int = 0  # fruitless rounds over all offers
    why: str = ""  # why these offers, in words
    failure: str = ""  # why the latest offer failed, "Type: message"
    tries: int = 0  # rentals asked for in this life; part of each key
    retries: int = 0
    start_failures: int = 0  # of the current start of the command
    recoveries_at: list[str] = []

    provision_by: str | None = None  # deadlines are absolute, so that they survive anything
    run_since: str | None = None  # first running of this attempt of the user's; the timeout counts from here
    run_by: str | None = None
    next_try_at: str | None = None
    not_before: str | None = None  # all that there is was refused lately: nothing can change before
    restart_at: str | None = None
    stopped_until: str | None = None  # a stop for a restart was not answered: an exit before this is its doing
    keep_until: str | None = None
    expires_at: str | None = None

    @property
    def container(self) -> ContainerSpec:
        """The spec as a model."""
        return ContainerSpec.model_validate(spec_of(self.spec))

    def condition(self, kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str = "") -> None:
        """Set one condition, replacing the earlier word on it."""
        others = [known for known in self.status.conditions if known.type != kind]
        self.status.conditions = [
            *others,
            Condition(type=kind, status=status, reason=reason, message=shortened(message, reason)),
        ]

    def begin_attempt(self, offer: Offer, now: str) -> None:
        """Open a line in the attempts table."""
        self.tries += 1
        line = Attempt(
            number=self.tries,
            platform=offer.platform,
            place=offer.place,
            usd_per_hour=offer.usd_per_hour,
            started_at=now,
        )
        self.attempts = [*self.attempts, line][-ATTEMPTS_KEPT:]

    def end_attempt(self, outcome: str, message: str, now: str) -> None:
        """Close the open line with what became of it."""
        if self.attempts and not self.attempts[-1].outcome:
            line = self.attempts[-1]
            line.outcome, line.message, line.ended_at = outcome, message, now

    def take_offer(self, offer: Offer) -> None:
        """Show where the container goes, and at what price: the one recorded now is the one that counts."""
        status = self.status
        self.offer = offer
        status.platform, status.account, status.region = (
            offer.platform,
            offer.account,
            offer.zone or offer.region,
        )
        status.instance_type, status.simulated = offer.instance_type, offer.simulated
        status.accelerator = f"{offer.accelerator_count}:{offer.accelerator}" if offer.accelerator else None
        status.cost_per_hr, status.price_source = offer.usd_per_hour, offer.price_source

    def leave_offer(self) -> None:
        """Show that it is nowhere, and costs nothing."""
        status = self.status
        self.offer = None
        status.platform = status.account = status.region = status.instance_type = status.price_source = ""
        status.simulated, status.accelerator, status.cost_per_hr = False, None, None

    def rented(self) -> dict[str, Any]:
        """What is or may be rented, as the memo shows it and the sweep reads it."""
        return {
            key: {
                "account": rental.offer.account,
                "platform": rental.offer.platform,
                "instance_id": rental.instance_id,
                "identity": rental.identity,
                "usd_per_hour": rental.offer.usd_per_hour,
                "simulated": rental.offer.simulated,
                "since": rental.since,
            }
            for key, rental in self.rentals.items()
        }

    def markdown(self) -> str:
        """What a person reads in the Temporal UI."""
        status, instance = self.status, self.instance
        lines = [f"## {status.status}" + (f" ({status.reason})" if status.reason else ""), status.message, ""]
        if status.platform:
            price = "price unknown" if status.cost_per_hr is None else f"${status.cost_per_hr:.2f}/h"
            words = [price if self.rentals else "given back", *(["simulated"] if status.simulated else [])]
            lines.append(f"* **Where**: {status.platform} {status.region} {status.instance_type} ({', '.join(words)})")
        if instance:
            lines.append(f"* **Instance**: `{instance.id}`, rental key `{instance.key}`")
        lines.append(f"* **Attempt** {status.attempt}, restarts {status.restarts}, recoveries {status.recoveries}")
        if status.exit_code is not None:
            lines.append(f"* **Exit code**: {status.exit_code}")
        lines.append(f"* **Wanted**: {'delete' if self.deleting else self.wanted}")
        due = next(
            (at for at in (self.next_try_at, self.restart_at, self.run_by, self.keep_until, self.expires_at) if at), ""
        )
        lines.append(f"* **Next**: {NEXT.get(self.phase, self.phase)}" + (f" (by {due})" if due else ""))
        lines += [f"* **{c.type}**: {c.status} ({c.reason}) {c.message}" for c in status.conditions]
        if self.events:
            lines += ["", f"Latest event: {self.events[-1].reason}: {self.events[-1].message}"]
        return "\n".join(lines)


def shortened(message: str, reason: str = "") -> str:
    """The message as the memo has it: without the reason that stands beside it, cut at words in the middle."""
    told = message.removeprefix(f"{reason}: ") if reason else message
    if len(told) <= LONGEST_MESSAGE:
        return told
    head, tail = told[: LONGEST_MESSAGE - KEPT_END - 3], told[-KEPT_END:]
    begun, ended = head.rpartition(" ")[0] or head, tail.partition(" ")[2] or tail
    return f"{begun} … {ended}"


def spec_of(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored spec without the metadata that a program may have written into it."""
    return {name: value for name, value in stored.items() if name != "metadata"}
