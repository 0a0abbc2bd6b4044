"""Whoever asks the server for containers during a campaign: over REST, patient with an API that is killed meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

RETRY_S = 0.2
PATIENCE_S = 90.0


@dataclass
class Answer:
    """What the server said in the end."""

    code: int
    body: dict[str, Any]


class Desk:
    """Asks until somebody answers; a repeated write carries the same Idempotency-Key."""

    def __init__(self, api: str, token: str) -> None:
        self._http = httpx.AsyncClient(base_url=api, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def ask(self, method: str, path: str, *, key: str = "", **options: Any) -> Answer:
        """The answer; errors of the server and broken connections are asked again, for a while."""
        headers = {"Idempotency-Key": key} if key else {}
        end, last = time.monotonic() + PATIENCE_S, ""
        while time.monotonic() < end:
            try:
                reply = await self._http.request(method, f"/v1/containers{path}", headers=headers, **options)
                if reply.status_code < 500 and reply.status_code != 429:
                    return Answer(reply.status_code, reply.json() if reply.content else {})
                last = f"{reply.status_code}: {reply.text[:300]}"
            except httpx.TransportError as error:
                last = repr(error)
            await asyncio.sleep(RETRY_S)
        raise AssertionError(f"{method} {path} had no answer within {PATIENCE_S:g} s; last: {last}")

    async def row(self, name: str) -> dict[str, Any] | None:
        """The container as it is shown; None when there is none."""
        answer = await self.ask("GET", f"/default/{name}")
        assert answer.code in (200, 404), answer
        return answer.body if answer.code == 200 else None
