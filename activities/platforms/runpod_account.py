"""Who the account is, and what its key may do.

REST v2 names no user, so the question goes to RunPod's GraphQL API: through the `runpod` package where that is
installed (no values are pasted into the question, so its pasting cannot break), else as the package would put it. See
docs/adr/0016.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, cast

from activities.platforms.base import Check
from activities.platforms.runpod_api import API, RunpodApi
from activities.platforms.runpod_errors import refusal
from nebulous.errors import AuthFailed, NebulousError, NotFound, Unavailable

QUESTION = "query myself { myself { id } }"


class RunpodIdentity:
    """The user of a key, asked for once a key."""

    def __init__(self, api: RunpodApi) -> None:
        self._api = api
        self._known: dict[str, str] = {}
        self._asking = asyncio.Lock()

    @property
    def known(self) -> str:
        """The last answer; "" before any."""
        return next(iter(self._known.values()), "")

    async def get(self) -> str:
        """The user's id.

        Raises:
            AuthFailed: The key is refused. Unavailable: no answer.
        """
        key = self._api.key
        async with self._asking:
            if key not in self._known:
                self._known = {key: await self._ask(key)}
        return self._known[key]

    async def _ask(self, key: str) -> str:
        usual = os.environ.get("RUNPOD_API_BASE_URL", API).rstrip("/") == self._api.base  # the package reads no other
        usable = usual and find_spec("runpod") is not None
        try:
            found = (await asyncio.to_thread(_by_package, key) if usable else None) or await self._by_hand()
        except NotFound as error:  # no other name in its place: what is not under that would count as gone
            raise Unavailable(f"RunPod does not say whose key this is: {error.message}") from error
        if not found.get("id"):
            raise AuthFailed("RunPod does not say whose key this is", "make a key that may read GraphQL")
        return str(found["id"])

    async def _by_hand(self) -> dict[str, Any]:
        answer = await self._api.call("POST", "/graphql", "asking whose key it is", body={"query": QUESTION})
        data = cast("dict[str, Any]", answer.get("data") or {})
        return cast("dict[str, Any]", data.get("myself") or {})


def _by_package(key: str) -> dict[str, Any] | None:
    """Blocking: the package takes 1.8 s to import, and speaks `requests`. None: ask in another way, which says why."""
    import requests
    import runpod
    from runpod.error import RunPodError

    try:
        return cast("dict[str, Any] | None", runpod.get_user(api_key=key))
    except (RunPodError, requests.RequestException, KeyError, TypeError, ValueError):
        return None


async def missing_permissions(api: RunpodApi) -> list[str]:
    """What the key may not do, as RunPod's console names it; a request that can rent nothing tells of renting.

    Raises:
        AuthFailed: The key itself is refused. Unavailable: no answer.
    """
    calls: list[tuple[str, str, str, dict[str, Any] | None]] = [
        ("GET", "/v2/pods", "pods: read", None),
        ("GET", "/v2/catalog/gpus", "catalog: read", None),
        ("GET", "/v2/registries", "registries: read and write", None),
        ("POST", "/v2/pods", "pods: write", {}),  # neither name nor image: 422 for whoever may rent
    ]
    missing: list[str] = []
    for method, path, words, body in calls:
        status = await _status(api, method, path, body)
        if status == 403:
            missing.append(words)
    return missing


async def checks(api: RunpodApi) -> list[Check]:
    """The same for `nebu doctor`.

    Raises:
        AuthFailed: The key itself is refused. Unavailable: no answer.
    """
    missing = await missing_permissions(api)
    if missing:
        advice = "give the key these in the RunPod console (Settings, API keys)"
        return [Check("permissions", False, f"the key lacks: {', '.join(missing)}", advice)]
    return [Check("permissions", True, "the key may list, rent and read the catalog")]


async def _status(api: RunpodApi, method: str, path: str, body: dict[str, Any] | None) -> int:
    """What a call is answered with.

    Raises:
        AuthFailed: The key itself is refused. Unavailable: no answer.
    """
    seen: list[int] = []

    def note(status: int, content: bytes, headers: Mapping[str, str]) -> NebulousError:
        seen.append(status)
        return refusal(status, content, headers, "a question of what the key may do")

    try:
        await api.call(method, path, "asking what the key may", body=body, translate=note)
    except NebulousError:
        if not seen or seen[0] == 401 or seen[0] == 429 or seen[0] >= 500:
            raise
        return seen[0]
    return 200
