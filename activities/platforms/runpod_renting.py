"""The one call that costs money: a login for the image's registry if it needs one, then the pod."""

from __future__ import annotations

from functools import partial

from activities.platforms import runpod_pod
from activities.platforms.base import Command, in_time
from activities.platforms.runpod_api import RunpodApi
from activities.platforms.runpod_errors import renting
from activities.platforms.runpod_keys import PodKeys
from activities.platforms.runpod_pace import Urgency
from activities.platforms.runpod_pod import Pod
from activities.platforms.runpod_registries import RunpodRegistries
from nebulous.errors import NebulousError, Unavailable
from nebulous.models.containers import Launch
from nebulous.models.platforms import Offer


class Renting:
    """Rents with one account, and knows for which keys a pod may have come of it."""

    def __init__(self, api: RunpodApi, registries: RunpodRegistries, secret_key: bytes) -> None:
        self._api = api
        self._registries = registries
        self._secret_key = secret_key
        self._sent: set[str] = set()

    def sent(self, key: str) -> bool:
        """Whether this process has sent the key, and was not refused."""
        return key in self._sent

    def forget(self, key: str) -> None:
        """Nothing of the key is left."""
        self._sent.discard(key)

    async def rent(self, launch: Launch, offer: Offer, command: Command) -> Pod:
        """Rent a pod that waits.

        Raises:
            Unavailable: It may have been rented. Other errors of RunPod: it was not, and no login of it is left.
        """
        keys = PodKeys(self._secret_key, launch.key)
        runpod_pod.order(launch, offer, command, keys, self._api.base, "")  # refuse before a login is made
        registry = await self._registries.make(launch.key, command)
        body = runpod_pod.order(launch, offer, command, keys, self._api.base, registry)
        earlier = self.sent(launch.key)
        self._sent.add(launch.key)
        refuse = partial(renting, scope=offer.instance_type)
        try:
            answer = await self._api.call(
                "POST",
                "/v2/pods",
                "renting a pod",
                urgency=Urgency.RENT,
                body=body,
                translate=refuse,
                before=in_time,
            )
        except Unavailable:
            raise
        except NebulousError:
            if not earlier:  # else a pod of the first try may still come to light
                self.forget(launch.key)
            await self._registries.discard(registry)
            raise
        return Pod.of(answer)
