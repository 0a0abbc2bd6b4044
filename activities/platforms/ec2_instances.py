"""What Amazon says of machines, as we understand it, and what this process remembers of those it rented."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from activities.platforms.ec2_api import Fields, many
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.models.platforms import Instance, InstanceState

#: For so long after its rental a machine that is in no list may be there all the same.
SETTLE_S = 90.0
REMEMBERED_S = 3_600.0
GONE = "terminated"
ENDING = frozenset(("shutting-down", "stopping", "stopped"))
STATES = {
    "pending": InstanceState.BOOTING,
    "running": InstanceState.READY,
    "shutting-down": InstanceState.DELETING,
    "stopping": InstanceState.DELETING,
    "stopped": InstanceState.DELETING,  # by hand: we rent nothing that stops; its disk costs until it is deleted
}
TAKEN_BACK = "Server.Spot"  # begins the reason of a machine that the spot market took


def instance(row: Fields, account: str, identity: str, region: str) -> Instance:
    """One machine of a description."""
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in many(row, "Tags")}
    word, reason = state(row), why(row)
    seen = STATES.get(word, InstanceState.UNKNOWN)
    if word in ENDING and reason.get("Code", "").startswith(TAKEN_BACK):
        seen = InstanceState.PREEMPTED
    message = reason.get("Message", "") if word in ENDING else "" if word in STATES else f"Amazon calls it {word!r}"
    launched = row.get("LaunchTime")
    return Instance(
        key=tags.get(TAG_KEY, ""),
        id=str(row["InstanceId"]),
        account=account,
        identity=identity,
        region=region,
        zone=str(row["Placement"]["AvailabilityZone"]) if "Placement" in row else "",
        state=seen,
        workflow=tags.get(TAG_WORKFLOW, ""),
        life=tags.get(TAG_ID, ""),
        install=tags.get(TAG_INSTALL, ""),
        ip=row.get("PublicIpAddress") or row.get("PrivateIpAddress"),
        message=message,
        created_at=launched.isoformat().replace("+00:00", "Z") if launched else "",
    )


def state(row: Fields) -> str:
    """Amazon's word."""
    return str(row["State"]["Name"]) if "State" in row else ""


def why(row: Fields) -> dict[str, str]:
    """Amazon's reason for the last change: `Code` and `Message`."""
    reason: Fields = row.get("StateReason", {})
    return {key: str(reason.get(key) or "") for key in ("Code", "Message")}


@dataclass
class _Known:
    """A key that was used here, or seen in a list."""

    region: str
    at: float
    rented: dict[str, tuple[float, Instance]] = field(default_factory=dict[str, tuple[float, Instance]])


class Memory:
    """Where keys are: it saves searching all regions, and bridges the time until Amazon's lists are complete.

    Nothing depends on it but speed and the first seconds of a machine: after a restart every region is searched.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keys: dict[str, _Known] = {}
        self._ending: dict[str, float] = {}  # ids whose end was asked for
        self.had: set[str] = set()  # regions where something of ours was ever rented or seen by this process

    def sent(self, key: str, region: str) -> None:
        """A request under this key is about to be sent to the region."""
        self._note(key, region)

    def rented(self, key: str, machine: Instance) -> None:
        """Amazon answered with a machine."""
        self.had.add(machine.region)
        self._note(key, machine.region).rented.setdefault(machine.id, (self._clock(), machine))

    def seen(self, machine: Instance) -> None:
        """It was in a list."""
        self.had.add(machine.region)
        self._note(machine.key, machine.region)

    def ended(self, machine_id: str) -> None:
        """Its end was asked for."""
        self._ending[machine_id] = self._clock()

    def region(self, key: str) -> str | None:
        """Where the key is, if anywhere."""
        known = self._keys.get(key)
        return known.region if known else None

    def regions(self) -> set[str]:
        """The regions in use."""
        self._prune()
        return {known.region for known in self._keys.values()}

    def unlisted(self, listed: set[str], key: str | None = None) -> list[Instance]:
        """Machines, of the key or of all, too young for their absence from a list to mean anything."""
        chosen = [self._keys[key]] if key in self._keys else [] if key else list(self._keys.values())
        found: list[Instance] = []
        for known in chosen:
            for machine_id, (at, machine) in known.rented.items():
                if machine_id not in listed and self._clock() - at < SETTLE_S:
                    ending = machine_id in self._ending
                    found.append(machine.model_copy(update={"state": InstanceState.DELETING}) if ending else machine)
        return found

    def _note(self, key: str, region: str) -> _Known:
        known = self._keys.setdefault(key, _Known(region, self._clock()))
        known.region, known.at = region, self._clock()
        return known

    def _prune(self) -> None:
        oldest = self._clock() - REMEMBERED_S
        self._keys = {key: known for key, known in self._keys.items() if known.at > oldest}
        self._ending = {machine_id: at for machine_id, at in self._ending.items() if at > oldest}
