"""Which accelerators this host has, as `nvidia-smi -L` lists them."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter

from nebulous import catalog
from nebulous.errors import Rejected

ANSWER_S = 5.0
GPU = re.compile(r"^GPU \d+: (.+?) \(UUID", re.MULTILINE)


async def installed() -> dict[str, int]:
    """Count the accelerators of this host by their names in the catalog; empty without the driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    asked = await asyncio.create_subprocess_exec(
        program, "-L", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            listed, _ = await asked.communicate()
    except TimeoutError:  # a hung driver: whoever waits for it may hang too
        asked.kill()
        return {}
    return count(listed.decode(errors="replace"))


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
