"""Telling a URL what became of a container.

The URL is a user's and the request comes from the server's own network, so it may reach only public addresses
unless everybody who can write one is on this machine anyway. What was looked up is what is connected to: a name that
changes its address between the two gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx

from nebulous import __version__
from nebulous.addresses import public
from nebulous.errors import Rejected, Unavailable
from nebulous.models.container_fields import check_url

CALL_S = 10.0
AGENT = f"nebulous/{__version__}"
ALLOW_IT = "only public addresses may be told; NEBU_NOTIFY_PRIVATE=true allows the others"
TRY_AGAIN = frozenset({408, 425, 429})


class Webhook:
    """POSTs to addresses that users gave."""

    def __init__(self, private: bool) -> None:
        """Take whether addresses that are not public may be told."""
        self._private = private

    async def post(self, url: str, key: str, body: dict[str, Any]) -> int:
        """POST the body once and return the answer's code; redirects are not followed.

        Raises:
            Rejected: It can never be told: not public, or it refuses. Unavailable: another time it may.
        """
        try:
            async with asyncio.timeout(CALL_S):
                return await self._post(url, key, body)
        except TimeoutError as error:
            raise Unavailable(f"{_host(url)} did not answer within {CALL_S:g} s") from error
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(f"{_host(url)}: {error or type(error).__name__}") from error

    async def _post(self, given: str, key: str, body: dict[str, Any]) -> int:
        try:
            url = httpx.URL(check_url(given))
        except (ValueError, httpx.InvalidURL) as error:
            raise Rejected(f"notify: {error}") from error
        address = await self._address(url.host, url.port or (443 if url.scheme == "https" else 80))
        headers = {"Host": url.netloc.decode(), "Idempotency-Key": key, "User-Agent": AGENT}
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=CALL_S) as http:
            # Certificate and virtual host are those of the name, the connection goes to the address that was judged.
            reply = await http.post(
                url.copy_with(host=address), json=body, headers=headers, extensions={"sni_hostname": url.host}
            )
        return _judged(reply, url.host)

    async def _address(self, host: str, port: int) -> str:
        """The address to connect to, as a URL has it.

        Raises:
            Rejected: It is not public. Unavailable: The name is not known just now.
        """
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"{host} cannot be looked up: {error}") from error
        addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
        refused = [address for address in addresses if not self._private and not public(address)]
        if refused:
            raise Rejected(f"notify: {host} is {refused[0]}, which is not public", ALLOW_IT)
        # One is tried and not one after the other: of the two kinds the older one works everywhere.
        chosen = next((address for address in addresses if ":" not in address), addresses[0])
        return f"[{chosen}]" if ":" in chosen else chosen


def _judged(reply: httpx.Response, host: str) -> int:
    if reply.is_success:
        return reply.status_code
    if reply.is_redirect:
        raise Rejected(f"{host} answers {reply.status_code}, a redirect, which is not followed")
    if reply.status_code in TRY_AGAIN or reply.is_server_error:
        raise Unavailable(f"{host} answers {reply.status_code}")
    raise Rejected(f"{host} answers {reply.status_code}")


def _host(url: str) -> str:
    """For messages: a path may hold a token."""
    return urlsplit(url).hostname or "the address in notify"
