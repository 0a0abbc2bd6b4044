"""A machine in Google's words: the request that rents it, and what is read back of it."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid5

from activities.platforms import gce_shapes
from activities.platforms.gce_shapes import Family
from activities.platforms.machine_cloud import Order
from nebulous.errors import Rejected
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.models.container_fields import PublicPort
from nebulous.models.platforms import Instance, InstanceState, Offer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud import compute_v1

#: Of the ids that stand in requests: the same key is the same request, to Google too.
REQUESTS = UUID("9f6d3a52-5f0e-4e0a-9d6b-0f7f6a1c1b5e")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
HOST_KEY = re.compile(r"nebulous-host-key: (ssh-[a-z0-9-]+ [A-Za-z0-9+/=]+)")

SCRIPT = "startup-script"
MOST_METADATA = 256 * 1024  # bytes of one value
LONGEST_S = 120 * 24 * 3600  # of maxRunDuration
#: Nobody gets in by a key of the project's or by OS Login: only by the one that the boot script names.
CLOSED = {"block-project-ssh-keys": "TRUE", "enable-oslogin": "FALSE"}

STATES = {
    "PENDING": InstanceState.BOOTING,
    "PROVISIONING": InstanceState.BOOTING,
    "STAGING": InstanceState.BOOTING,
    "REPAIRING": InstanceState.BOOTING,
    "RUNNING": InstanceState.READY,
    "PENDING_STOP": InstanceState.DELETING,
    "STOPPING": InstanceState.DELETING,
    "DEPROVISIONING": InstanceState.DELETING,
    "SUSPENDING": InstanceState.DELETING,
    # Nothing of ours stops a machine in order to keep it: it was taken back, or was powered off from within. Unlike on
    # EC2 that does not delete it, and its disk costs until somebody does.
    "STOPPED": InstanceState.PREEMPTED,
    "TERMINATED": InstanceState.PREEMPTED,
    "SUSPENDED": InstanceState.PREEMPTED,
}
ALLOCATED = frozenset({"STAGING", "RUNNING"})  # what is past PROVISIONING has its place in the zone


def name_of(key: str) -> str:
    """The machine's name: the key where it may be one."""
    return key if NAME.fullmatch(key) else "nebu-" + hashlib.sha256(key.encode()).hexdigest()[:32]


def request_id(key: str) -> str:
    """The id under which Google does the same request once."""
    return str(uuid5(REQUESTS, key))


def label(value: str) -> str:
    """The value as a label may have it; what had to be changed ends with a hash, so that no two become one."""
    if LABEL.fullmatch(value):
        return value
    return re.sub(r"[^a-z0-9_-]", "_", value.lower())[:50] + "-" + hashlib.sha256(value.encode()).hexdigest()[:12]


def region_of(zone: str) -> str:
    """`us-central1` of `us-central1-a`."""
    return zone.rpartition("-")[0]


def tags_of(order: Order) -> dict[str, str]:
    """What the machine carries of ours."""
    launch = order.launch
    ours = {
        TAG_KEY: launch.key,
        TAG_INSTALL: launch.install,
        TAG_WORKFLOW: launch.workflow,
        TAG_ID: launch.metadata.id,
    }
    return ours | order.tags


def body(
    order: Order, offer: Offer, family: Family, interface: dict[str, str], doors: list[str]
) -> compute_v1.Instance:
    """The request, the same whenever it is made for the same order and offer.

    Args:
        order: What is wanted.
        offer: Where, and as which type.
        family: Of the image to boot.
        interface: Network, and subnetwork where one has to be named.
        doors: Tags by which the firewall's rules know the machine.

    Raises:
        Rejected: The user data is too long for a machine's metadata, or no machine type suffices.
    """
    from google.cloud import compute_v1

    if len(order.user_data.encode()) > MOST_METADATA:
        raise Rejected(
            f"the boot script has more than {MOST_METADATA // 1024} kB", "that is a fault of Nebulous: report it"
        )
    shape = gce_shapes.shape(offer.instance_type, offer.accelerator or "", offer.accelerator_count)
    wanted = order.launch.container.resources
    kind = gce_shapes.machine_type(shape, wanted and wanted.min_cpu, wanted and wanted.min_memory)
    tags = tags_of(order)
    labels = {name: label(value) for name, value in tags.items()}
    metadata = {SCRIPT: order.user_data, **CLOSED, **tags}
    attached = gce_shapes.beside(shape)
    return compute_v1.Instance(
        name=name_of(order.launch.key),
        description=f"a machine of Nebulous for {order.launch.workflow}",
        machine_type=f"zones/{offer.zone}/machineTypes/{kind}",
        labels=labels,
        tags=compute_v1.Tags(items=doors),
        metadata=compute_v1.Metadata(items=[compute_v1.Items(key=key, value=metadata[key]) for key in metadata]),
        disks=[_disk(order, offer.zone, kind, family, labels)],
        network_interfaces=[
            compute_v1.NetworkInterface(
                **interface, access_configs=[compute_v1.AccessConfig(name="external", type_="ONE_TO_ONE_NAT")]
            )
        ],
        guest_accelerators=[
            compute_v1.AcceleratorConfig(
                accelerator_type=f"zones/{offer.zone}/acceleratorTypes/{attached}", accelerator_count=shape.count
            )
        ]
        if attached
        else [],
        scheduling=_scheduling(order, offer),
    )


def _disk(order: Order, zone: str, kind: str, family: Family, labels: dict[str, str]) -> compute_v1.AttachedDisk:
    from google.cloud import compute_v1

    return compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            source_image=family.url,
            disk_size_gb=order.disk_gib,
            disk_type=f"zones/{zone}/diskTypes/{gce_shapes.disk_type(kind)}",
            labels=labels,
        ),
    )


def _scheduling(order: Order, offer: Offer) -> compute_v1.Scheduling:
    """The end of life is in the request: Google removes the machine even when nobody of ours is left."""
    from google.cloud import compute_v1

    made = compute_v1.Scheduling(automatic_restart=False, provisioning_model="SPOT" if offer.spot else "STANDARD")
    if offer.spot or offer.accelerator_count:
        made.on_host_maintenance = "TERMINATE"  # none of these can be moved
    if order.lifetime_s is not None:
        made.max_run_duration = compute_v1.Duration(seconds=min(order.lifetime_s, LONGEST_S))
    if offer.spot or order.lifetime_s is not None:
        made.instance_termination_action = "DELETE"
    return made


def carried(machine: compute_v1.Instance) -> dict[str, str]:
    """Our tags on a machine, exact: labels hold only what labels may."""
    items = {item.key: item.value for item in cast("Iterable[compute_v1.Items]", machine.metadata.items)}
    return {
        name: items.get(name) or machine.labels.get(name, "") for name in (TAG_KEY, TAG_INSTALL, TAG_WORKFLOW, TAG_ID)
    }


def read(machine: compute_v1.Instance, account: str, identity: str, ports: list[PublicPort]) -> Instance:
    """What was rented, as the contract has it."""
    tags, zone = carried(machine), machine.zone.rpartition("/")[2]
    addresses = [
        config.nat_i_p for each in machine.network_interfaces for config in each.access_configs if config.nat_i_p
    ]
    state = STATES.get(machine.status, InstanceState.UNKNOWN)
    ip = addresses[0] if addresses else None
    return Instance(
        key=tags[TAG_KEY],
        id=str(machine.id),
        account=account,
        identity=identity,
        region=region_of(zone),
        zone=zone,
        state=state,
        workflow=tags[TAG_WORKFLOW],
        life=tags[TAG_ID],
        install=tags[TAG_INSTALL],
        ip=ip,
        public_ports=[port.model_copy(update={"public_ip": ip}) for port in ports],
        message=_words(machine, state),
        created_at=machine.creation_timestamp,
    )


def _words(machine: compute_v1.Instance, state: InstanceState) -> str:
    if state == InstanceState.UNKNOWN:
        return f"Google Compute Engine says {machine.status!r} of the machine"
    if state == InstanceState.PREEMPTED:
        return f"the machine does not run any more ({machine.status})"
    return machine.status_message


def doors(machine: compute_v1.Instance) -> list[str]:
    """The network tags of a machine."""
    return list(cast("Iterable[str]", machine.tags.items))


def is_spot(machine: compute_v1.Instance) -> bool:
    """Whether Google may take it back."""
    return cast("str", machine.scheduling.provisioning_model) == "SPOT"


def host_keys(console: str) -> list[str]:
    """The SSH host keys that the boot script wrote on the console, each once."""
    return list(dict.fromkeys(HOST_KEY.findall(console)))
