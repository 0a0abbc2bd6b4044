"""What the workers last said of their platform accounts."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from pydantic import ValidationError

from api.lists import Lists
from nebulous.models.platforms import PlatformReport

log = logging.getLogger(__name__)

REPORTS_TTL_S = 1.0


@dataclass
class Reports:
    """A second old at most; the first is never kept while empty, so that a worker's start is seen at once."""

    lists: Lists
    _at: float = float("-inf")
    _reports: list[PlatformReport] = field(default_factory=list[PlatformReport])

    async def all(self) -> list[PlatformReport]:
        """Every account, by name; one that cannot be read is left out and hides no other."""
        if time.monotonic() - self._at > REPORTS_TTL_S or not self._reports:
            found: list[PlatformReport] = []
            for row in await self.lists.platforms():
                try:
                    found.append(PlatformReport.model_validate(row.status))
                except ValidationError as error:
                    log.warning("the report of platform %r cannot be read: %s", row.metadata.name, error)
            self._reports, self._at = sorted(found, key=lambda report: report.account), time.monotonic()
        return self._reports
