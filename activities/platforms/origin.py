"""From which addresses machines see this worker: what firewalls let in to their SSH port."""

from __future__ import annotations

import ipaddress
import time

import httpx

from nebulous.errors import Unavailable

FRESH_S = 300.0
ANSWER_S = 10.0


class Origin:
    """The range that is set, else the one address that a service on the internet sees us come from."""

    def __init__(self, ssh_from: str | None, service: str) -> None:
        """Nothing is asked yet.

        Args:
            ssh_from: A range such as 203.0.113.0/24, or one address.
            service: URL that answers with the asking address as plain text.
        """
        self._range = ssh_from
        self._service = service
        self._seen: tuple[float, str] | None = None

    async def range(self, *, anew: bool = False) -> str:
        """The range, as CIDR; `anew` asks again although the last answer is fresh.

        Raises:
            Unavailable: The service does not answer with an address.
        """
        if self._range:
            return str(ipaddress.ip_network(self._range, strict=False))
        if self._seen and not anew and time.monotonic() - self._seen[0] < FRESH_S:
            return self._seen[1]
        advice = "set ssh_from for the account to the range that your workers come from"
        try:
            async with httpx.AsyncClient(timeout=ANSWER_S) as client:
                answer = (await client.get(self._service)).raise_for_status().text.strip()
            found = str(ipaddress.ip_network(answer))
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self._service} does not tell this worker's address: {error}", advice) from error
        self._seen = (time.monotonic(), found)
        return found
