"""Which accelerators this host has, as `nvidia-smi -L` lists them."""

from __future__ import annotations

import re
from collections import Counter

from activities.runtimes import driver
from nebulous import catalog
from nebulous.errors import Rejected

GPU = re.compile(r"^GPU \d+: (.+?) \(UUID", re.MULTILINE)


async def installed() -> dict[str, int]:
    """Count the accelerators of this host by their names in the catalog; empty without the driver."""
    return count(await driver.here("-L"))


def count(listed: str) -> dict[str, int]:
    """Count what `nvidia-smi -L` printed; what the catalog does not know is not offered."""
    found: Counter[str] = Counter()
    for name in GPU.findall(listed):
        try:
            members = catalog.lookup(name)
        except Rejected:
            continue
        found[members[0]] += 1
    return dict(found)
