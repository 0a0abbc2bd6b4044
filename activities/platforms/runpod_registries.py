"""Logins for private registries: RunPod keeps them under a name, apart from pods; each of ours is named by its key."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from activities.platforms.base import Command
from activities.platforms.runpod_api import RunpodApi, Shared
from activities.platforms.runpod_errors import IN_USE
from activities.platforms.runpod_pace import Urgency
from nebulous.errors import NebulousError, NotFound, Rejected, Unavailable


class RunpodRegistries:
    """The logins of one account; those with other names than our keys are never touched."""

    def __init__(self, api: RunpodApi) -> None:
        self._api = api
        self._list = Shared(self._listed)

    async def make(self, key: str, command: Command) -> str:
        """Make the login that a launch needs, unless it is there; its id, "" when none is needed.

        Its contents cannot be read back, so one that is there already is made anew: the password may have changed.
        """
        if command.registry_username is None:
            return ""
        await self.remove(key)
        body = {"name": key, "username": command.registry_username, "password": command.registry_password or ""}
        made = await self._api.call(
            "POST", "/v2/registries", "keeping the login of a registry", urgency=Urgency.RENT, body=body
        )
        return str(made["id"])

    async def remove(self, key: str) -> None:
        """Remove what is named by the key.

        Raises:
            Unavailable: A pod that is ending still holds it.
        """
        for each in await self._list.get():
            if each.get("name") == key:
                await self._remove(str(each["id"]))

    async def discard(self, registry: str) -> None:
        """Remove one that no pod came to use, if that can be done now; whoever gives the key back tries again."""
        if registry:
            with suppress(NebulousError):
                await self._remove(registry)

    async def _remove(self, registry: str) -> None:
        what = "removing the login of a registry"
        try:
            await self._api.call("DELETE", f"/v2/registries/{registry}", what, urgency=Urgency.DELETE)
        except NotFound:
            return
        except Rejected as error:  # RunPod answers 400 for one that is not there any more, too (seen by others)
            if any(words in error.message for words in IN_USE):
                raise Unavailable(f"a pod still holds the login {registry!r}: {error.message}") from error
            if any(each.get("id") == registry for each in await self._list.get()):
                raise Unavailable(f"the login {registry!r} stays: {error.message}") from error

    async def _listed(self) -> list[dict[str, Any]]:
        found = await self._api.call("GET", "/v2/registries", "listing registry logins", urgency=Urgency.LIST)
        return cast("list[dict[str, Any]]", found.get("registries") or [])

    async def close(self) -> None:
        """Ask no more."""
        await self._list.close()
