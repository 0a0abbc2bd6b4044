"""What a shape of the catalog is on Google Compute Engine: machine type, accelerators beside it, image, kind of disk.

Facts of November 2026, from Google's documentation and the catalog's sources. N1 machines take accelerators beside
them, within limits; all other types with accelerators bring their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from nebulous import catalog
from nebulous.catalog import Shape
from nebulous.errors import Rejected

N1_PREFIX = "n1+"  # before the accelerator's name, in the catalog's shapes
#: Which N1 machine carries accelerators when nothing is asked for: this many processors for each.
N1_VCPU_EACH = 4
N1_SIZES = (1, 2, 4, 8, 16, 32, 64, 96)
N1_GIB = {"standard": 3.75, "highmem": 6.5}
N1_CUSTOM_GIB = (0.9, 6.5)  # for each processor of a custom machine

UBUNTU, DEEP_LEARNING, DRIVERS = "ubuntu-os-cloud", "deeplearning-platform-release", "ubuntu-os-accelerator-images"


@dataclass(frozen=True)
class Family:
    """A family of images: its newest one is booted."""

    project: str
    name: str

    @property
    def url(self) -> str:
        """As a disk names it."""
        return f"projects/{self.project}/global/images/family/{self.name}"


PLAIN = (Family(UBUNTU, "ubuntu-2404-lts-amd64"), Family(UBUNTU, "ubuntu-2204-lts"))
PLAIN_ARM = (Family(UBUNTU, "ubuntu-2404-lts-arm64"), Family(UBUNTU, "ubuntu-2204-lts-arm64"))
#: Driver 580 is the last that knows Pascal and Volta; Docker and the container toolkit are inside.
READY = (
    Family(DEEP_LEARNING, "common-cu129-ubuntu-2404-nvidia-580"),
    Family(DEEP_LEARNING, "common-cu129-ubuntu-2204-nvidia-580"),
)
#: Driver only, with the open modules that Blackwell and the RDMA machines need; Docker comes by the boot script.
OPEN = (
    Family(DRIVERS, "ubuntu-accelerator-2404-amd64-with-nvidia-580"),
    Family(DRIVERS, "ubuntu-accelerator-2404-amd64-with-nvidia-595"),
)
OPEN_ARM = (Family(DRIVERS, "ubuntu-accelerator-2404-arm64-with-nvidia-580"),)
OPEN_TYPES = ("a3-ultragpu", "a4-", "a4x-", "g4-")
#: Types that boot from no pd-balanced disk.
HYPERDISK_TYPES = ("a3-ultragpu", "a4-", "a4x-", "g4-", "c4", "n4", "h3", "m4")


def shape(instance_type: str, accelerator: str, count: int) -> Shape:
    """The catalog's shape of an offer.

    Raises:
        Rejected: The catalog has it no more.
    """
    known = catalog.load().shapes["gce"].values()
    for each in (*(every for shapes in known for every in shapes), *catalog.machines("gce")):
        if each.type == instance_type and (not accelerator or (each.accelerator, each.count) == (accelerator, count)):
            return each
    raise Rejected(f"gce has no {instance_type} any more", "look at `nebu get offers`")


def families(shape: Shape) -> tuple[Family, ...]:
    """Which images the machine may boot, the first that there is."""
    arm = shape.cpu == "arm64"
    if not shape.count:
        return PLAIN_ARM if arm else PLAIN
    if shape.type.startswith(OPEN_TYPES):
        return OPEN_ARM if arm else OPEN + READY
    return READY + OPEN


def disk_type(instance_type: str) -> str:
    """The kind of boot disk that a type takes."""
    return "hyperdisk-balanced" if instance_type.startswith(HYPERDISK_TYPES) else "pd-balanced"


def beside(shape: Shape) -> str:
    """The accelerator that is attached to an N1 machine, by Google's name; "" where the type brings its own."""
    return shape.type.removeprefix(N1_PREFIX) if shape.type.startswith(N1_PREFIX) else ""


def machine_type(shape: Shape, cpu: float | None, memory_gib: float | None) -> str:
    """The machine type to ask for: of N1 the smallest that suffices and that the accelerators may be attached to.

    Raises:
        Rejected: So many accelerators can be attached to no machine of that size.
    """
    if not beside(shape):
        return shape.type
    most_cpu, most_gib = shape.vcpu or N1_SIZES[-1], shape.memory_gib or N1_SIZES[-1] * N1_GIB["highmem"]
    least_cpu = max(cpu or 0, min(N1_VCPU_EACH * shape.count, most_cpu))
    least_gib = memory_gib or 0.0
    fitting = [
        (size, each * size, f"n1-{kind}-{size}")
        for kind, each in N1_GIB.items()
        for size in N1_SIZES
        if size > 1 or kind == "standard"
        if least_cpu <= size <= most_cpu and least_gib <= each * size <= most_gib
    ]
    if fitting:
        return min(fitting)[2]
    return _custom(shape, least_cpu, least_gib, most_cpu, most_gib)


def _custom(shape: Shape, least_cpu: float, least_gib: float, most_cpu: int, most_gib: float) -> str:
    least_gib = max(least_gib, 1.0)
    for size in range(2, most_cpu + 1, 2):  # more than one processor comes in pairs
        gib = max(least_gib, size * N1_CUSTOM_GIB[0])
        if size >= least_cpu and gib <= min(size * N1_CUSTOM_GIB[1], most_gib):
            return f"custom-{size}-{-(-int(gib * 1024) // 256) * 256}"  # memory in steps of 256 MiB
    raise Rejected(
        f"{shape.count}:{shape.accelerator} on gce have at most {most_cpu} processors and {most_gib:g} GiB",
        "ask for less in resources:, or for more accelerators",
    )
