"""Reading a file from an http(s) address: bounded in size and time, and without anybody's credentials."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from nebulous import contexts
from nebulous.cli.failures import UsageError
from nebulous.client import httpx
from nebulous.errors import NotFound, Rejected, Unavailable
from nebulous.models.documents import LARGEST_FILE

CONNECT_S, LONGEST_S = 5.0, 30.0  # the whole reading takes no longer than this
REDIRECTS_AT_MOST = 5
PAGE = "text/html"


def fetch(address: str) -> str:
    """The text at an address.

    Raises:
        UsageError: It is no http(s) address, or holds a password. NotFound, Rejected, Unavailable: As it answers.
    """
    _check(address)
    body, deadline = bytearray(), time.monotonic() + LONGEST_S
    try:
        with _client(address) as client, client.stream("GET", address) as reply:
            _check_reply(address, reply)
            for piece in reply.iter_bytes():
                body += piece
                if len(body) > LARGEST_FILE:
                    raise Rejected(f"{address} is larger than {LARGEST_FILE // 1_000_000} MB", "split it up")
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"{address} takes longer than {LONGEST_S:.0f} s", "download it, then give the file"
                    )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"cannot read {address}: {error or type(error).__name__}", "check the address") from error
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{address} is not text: byte {error.start} is not UTF-8") from error


def _check(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{parts.scheme}:// cannot be read", "give a file, a folder, -, or an http(s) address")
    if parts.username or parts.password:
        raise UsageError("an address with a user or a password is not read", "download it, then give the file")


def _client(address: str) -> httpx.Client:
    return httpx.Client(
        timeout=httpx.Timeout(LONGEST_S, connect=CONNECT_S),
        follow_redirects=True,
        max_redirects=REDIRECTS_AT_MOST,
        headers={"Accept": "application/yaml, application/json, text/plain, */*"},
        trust_env=not contexts.is_loopback(address),  # no proxy leads to this machine
    )


def _check_reply(address: str, reply: httpx.Response) -> None:
    if reply.status_code in (404, 410):
        raise NotFound(f"there is nothing at {address}", "check the address")
    if not reply.is_success:
        kind = Unavailable if reply.status_code >= 500 else Rejected
        raise kind(f"{address} answered {reply.status_code} {reply.reason_phrase}", "check the address")
    if reply.headers.get("Content-Type", "").startswith(PAGE):
        raise Rejected(f"{address} is a web page, not a file", "give the address of the raw file")
