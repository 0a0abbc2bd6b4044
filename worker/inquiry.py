"""What `nebu serve` asks its own API, as the admin of this server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx

from nebulous import tokens
from nebulous.settings import Settings

TOKEN_TTL = timedelta(days=90)  # a new one at every start
READ_LIMIT_S = 5.0


class Inquiry:
    """Asks one API."""

    def __init__(self, api: str, settings: Settings) -> None:
        """Take the address of the API; the token is signed here, with the key that the API checks it with.

        Raises:
            ValueError: The signing key is not usable.
        """
        self._api = api
        self.token = tokens.mint(tokens.signing_key(settings), tokens.local_admin(), TOKEN_TTL)

    async def diagnosis(self, limit_s: float = READ_LIMIT_S) -> dict[str, Any] | None:
        """What GET /v1/doctor says; None when the API or the engine behind it does not answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            async with httpx.AsyncClient(
                base_url=self._api, headers=headers, timeout=limit_s, trust_env=False
            ) as client:
                if (await client.get("/health")).status_code != 200:
                    return None
                reply = await client.get("/v1/doctor")
                known: dict[str, Any] = reply.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return known if known.get("install") else None
