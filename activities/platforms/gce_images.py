"""Which image a machine boots on Google Compute Engine: the first family that there is, and how large it is."""

from __future__ import annotations

import time

from activities.platforms import gce_shapes
from activities.platforms.gce_api import GceApi
from activities.platforms.gce_shapes import Family
from nebulous.errors import NotFound, Rejected, Unavailable
from nebulous.models.platforms import Offer

FRESH_S = 3600.0


class GceImages:
    """Sizes of families, kept for an hour; None for one that Google has no more."""

    def __init__(self, api: GceApi) -> None:
        """Nothing is asked yet."""
        self._api = api
        self._known: dict[Family, tuple[float, int | None]] = {}

    async def booting(self, offer: Offer, disk_gib: int) -> Family:
        """The family for a machine of this offer.

        Raises:
            Rejected: The disk is smaller than the image. Unavailable: Google has none of the families that we know.
        """
        shape = gce_shapes.shape(offer.instance_type, offer.accelerator or "", offer.accelerator_count)
        families = gce_shapes.families(shape)
        for family in families:
            size = await self._size(family)
            if size is None:
                continue
            if size > disk_gib:
                raise Rejected(
                    f"a disk of {disk_gib} GiB is smaller than the image that gce boots, of {size} GiB",
                    f"ask for disk: {size + 20} or more",
                )
            return family
        names = ", ".join(family.name for family in families)
        raise Unavailable(
            f"Google has none of the images {names}", "a newer Nebulous may know what they are called now"
        )

    async def _size(self, family: Family) -> int | None:
        known = self._known.get(family)
        if known is None or time.monotonic() - known[0] > FRESH_S:
            self._known[family] = known = (time.monotonic(), await self._ask(family))
        return known[1]

    async def _ask(self, family: Family) -> int | None:
        try:
            image = await self._api.read(
                lambda clients: clients.images.get_from_family(
                    request={"project": family.project, "family": family.name}, **clients.reads
                )
            )
        except NotFound:
            return None
        return image.disk_size_gb
