# Made of _async/client.py by `make client`; change that file, not this one.
"""The client that programs use: everything typed, on one connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Self

from nebulous import contexts
from nebulous.client import wire
from nebulous.client._sync.api import Api
from nebulous.client._sync.containers import Containers
from nebulous.client._sync.follow import PATIENCE
from nebulous.client._sync.secrets import Secrets
from nebulous.client.replies import Accelerator, Me, Offers, Platform, record
from nebulous.client.scope import Scope
from nebulous.durations import span_of

log = logging.getLogger("nebulous.client")


class Client:
    """A connection to one server as one caller; a context manager.

    Without arguments it goes where the command line goes: `NEBU_SERVER` and `NEBU_API_KEY`, else the current context
    of `~/.nebu/config.yaml`, which `nebu serve` and `nebu login` write.

    Args:
        server: Address, such as `http://127.0.0.1:3000`.
        token: Default the one that is known for the server; a token of the file is sent to its own server only.
        context: Name of a context of the file, instead of the one in force.
        organization: Where to look unless `owner` says otherwise; default the context's, else the token's own.
        namespace: Where names are unless a call says otherwise; default the context's, else `default`.
        timeout: How long to wait for each piece of an answer; a number is seconds.
        patience: How long a log, a watch or a wait tries to come back to a server that went away.
        notice: Takes what the server says beside its answers, such as that a value looks like a key in clear;
            default the logger `nebulous.client`, as warnings.

    Raises:
        Rejected: The address is none, or the file of contexts is malformed.
        NotFound: There is no context of this name.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        context: str | None = None,
        organization: str | None = None,
        namespace: str | None = None,
        timeout: timedelta | float = wire.READ_TIMEOUT,
        patience: timedelta | float = PATIENCE,
        notice: Callable[[str], None] = log.warning,
    ) -> None:
        found = contexts.load().chosen(context, server, token)
        scope = Scope(organization or found.organization, namespace or found.namespace)
        #: The same connection with plain dicts in and out.
        self.api = Api(found.server, found.token, notice=notice, patience=span_of(patience), timeout=span_of(timeout))
        self.containers = Containers(self.api, scope)
        self.secrets = Secrets(self.api, scope)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self.api.close()

    def platforms(self) -> list[Platform]:
        """Every platform: whether it can be used now, and if not, why and what to do."""
        return [record(Platform, row) for row in (self.api.read("/v1/platforms"))["platforms"]]

    def accelerators(self, platform: str | None = None) -> list[Accelerator]:
        """What the known clouds, or one of them, rent out."""
        rows = (self.api.read("/v1/accelerators", platform=platform))["accelerators"]
        return [record(Accelerator, row) for row in rows]

    def offers(
        self,
        accelerators: str | Sequence[str] | None = None,
        *,
        platform: str | None = None,
        spot: bool = False,
        regions: Sequence[str] | None = None,
        max_price: float | None = None,
    ) -> Offers:
        """What could be rented now, in the order in which creating would try it, and why everything else is out.

        Args:
            accelerators: `COUNT:NAME`, several in order of preference; default none.
            platform: Only there; simulated ones only when named.
            spot: Machines that the cloud may take back.
            regions: Only in these.
            max_price: USD per hour.

        Raises:
            Rejected: There is no such accelerator or platform.
        """
        query = {"platform": platform, "spot": spot or None, "regions": regions and [*regions], "max_price": max_price}
        wanted = [accelerators] if isinstance(accelerators, str) else accelerators and [*accelerators]
        return record(Offers, self.api.read("/v1/offers", accelerators=wanted, **query))

    def me(self) -> Me:
        """Who the token says one is.

        Raises:
            Unauthenticated: There is no token, or it is good for nothing.
        """
        return record(Me, self.api.read("/v1/users/me"))
