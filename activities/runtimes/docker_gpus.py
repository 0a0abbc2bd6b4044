"""The GPUs of an Engine's machine, and which of them a container gets: the Engine knows neither.

A request for a number of GPUs would give every container the first ones, so each gets its own by index, and holds
them by a label for as long as it exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from activities.runtimes import driver
from activities.runtimes.driver import Driver
from nebulous import catalog
from nebulous.errors import NoAccelerator, OutOfCapacity, Rejected
from nebulous.ids import TAG_GPUS

TOOLKIT = "install the NVIDIA Container Toolkit (nvidia-ctk runtime configure), or name another platform"


async def inventory(ask: Driver = driver.here) -> list[str]:
    """List the GPUs of a machine by index, named as in the catalog; empty where the driver does not answer."""
    names = (await ask("--query-gpu=name", "--format=csv,noheader")).splitlines()
    return [_named(name.strip()) for name in names if name.strip()]


def fitting(asked: Iterable[str], here: Sequence[str], info: Mapping[str, Any]) -> list[tuple[int, int, str]]:
    """List what of the asked this machine has, as (rank, count, name), the most wanted first.

    Raises:
        Rejected: Nothing; the hint says what there is.
    """
    asked = list(asked)
    wanted = [(rank, *catalog.resolve(entry)) for rank, entry in enumerate(asked)]
    if "nvidia" not in (info.get("Runtimes") or {}):
        raise Rejected(f"{', '.join(asked)}: this Engine has no GPU", TOOLKIT)
    there = Counter(here)
    found = [(rank, count, member) for rank, count, members in wanted for member in members if there[member] >= count]
    if not found:
        shown = ", ".join(f"{count}:{name}" for name, count in there.items())
        known = f"it has {shown}" if shown else "nvidia-smi on this machine lists none"
        raise Rejected(f"this Engine has no {' or '.join(asked)}", f"{known}; or name another platform")
    return found


def pick(count: int, name: str, here: Sequence[str], containers: Iterable[Mapping[str, Any]]) -> list[int]:
    """Choose GPUs that no container holds.

    Raises:
        OutOfCapacity: Too few are free.
    """
    held = {int(index) for container in containers for index in container["Labels"][TAG_GPUS].split(",")}
    free = [index for index, each in enumerate(here) if each == name and index not in held]
    if len(free) < count:
        raise OutOfCapacity(f"{len(free)} of {here.count(name)} {name} are free on this Engine; {count} are asked")
    return free[:count]


#: What the Engine and NVIDIA's container tools say when a container cannot have its GPU, and what helps.
_GPU_FAILURES = (
    ("could not select device driver", "Docker has no driver for GPUs", TOOLKIT),
    ("unknown or invalid runtime name: nvidia", "Docker has no runtime `nvidia`", TOOLKIT),
    (
        "driver/library version mismatch",
        "the NVIDIA driver that is loaded is not the one that is installed",
        "restart the machine, or reload the kernel modules: the driver was updated under the running kernel",
    ),
    (
        "unsatisfied condition: cuda",
        "the image needs a newer NVIDIA driver than this machine has",
        "update the driver, or choose an image for an older CUDA",
    ),
    (
        "unsatisfied condition: driver",
        "the image needs a newer NVIDIA driver than this machine has",
        "update the driver, or choose an image for an older CUDA",
    ),
    (
        "driver not loaded",
        "the NVIDIA driver is not loaded",
        "load it (modprobe nvidia), and see what nvidia-smi says",
    ),
    (
        "libnvidia-ml.so.1",
        "the NVIDIA driver is not installed",
        "install the driver on the Engine's machine; nvidia-smi must work there",
    ),
    (
        "unknown device",
        "a GPU that was here before is not there any more",
        "see nvidia-smi -L: it has failed, or fallen off its bus",
    ),
    (
        "no such device",
        "a GPU that was here before is not there any more",
        "see nvidia-smi -L: it has failed, or fallen off its bus",
    ),
)


def start_failure(words: str) -> Rejected | None:
    """Why a container got no GPU, from what the Engine said; None when it said something else."""
    folded = words.lower()
    if "nvidia" not in folded and "device driver" not in folded:
        return None
    for sign, meaning, advice in _GPU_FAILURES:
        if sign in folded:
            return NoAccelerator(f"{meaning}: {words}", advice)
    if "nvidia-container-cli" in folded or "nvidia-container-runtime" in folded:
        return NoAccelerator(f"this Engine cannot give a container a GPU: {words}", TOOLKIT)
    return None


def _named(words: str) -> str:
    """`NVIDIA A100-SXM4-80GB` as the catalog calls it; what it does not know keeps its name."""
    try:
        return catalog.lookup(words)[0]
    except Rejected:
        return words
