"""What a request and a reply are to the client: places, pauses, and the errors in what a server answers.

Nothing here waits or sends; `_async/api.py` does, and its blocking twin.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from nebulous import __version__, contexts
from nebulous.errors import (
    BY_TYPE,
    Conflict,
    Forbidden,
    InvalidRequest,
    NebulousError,
    NotFound,
    RateLimited,
    Rejected,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

Json = dict[str, Any]

CONNECT_TIMEOUT = timedelta(seconds=5)
READ_TIMEOUT = timedelta(seconds=30)
FILES_TIMEOUT = timedelta(minutes=5)  # without a byte, while a large folder is packed or a slow disk is written
#: Pauses before the repetitions of one request.
PAUSES = (0.2, 0.5, 1.0)
LONGEST_PAUSE = 5.0  # seconds; a server that asks for more is reported instead

_BY_STATUS: dict[int, type[NebulousError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}


@dataclass(frozen=True)
class Place:
    """Where the API has one resource: namespace and name, or, without a namespace, its id."""

    plural: str
    name: str
    namespace: str | None = None
    owner: str | None = None  # organization; None is the token's own

    @property
    def path(self) -> str:
        """The path under the server's address."""
        parts = [self.plural, self.namespace, self.name] if self.namespace else [self.plural, self.name]
        return "/v1/" + "/".join(quote(part, safe="") for part in parts)


@dataclass(frozen=True)
class Created:
    """What a create or an apply gave: the resource, and in one word what came of it."""

    resource: Json
    outcome: str  # new, same, changed (in place), next (begins once the old life is over); of verbs: accepted, same

    @property
    def unchanged(self) -> bool:
        """True when it was there just so."""
        return self.outcome in {"same", "unchanged"}


class Change(NamedTuple):
    """What a watch tells: a resource that appeared, changed or went; once `synced`, after all that was there at first.

    `reset`, only of a watch that went on from a cursor: the server no longer knows what changed since, so forget what
    you know, everything that is there follows.
    """

    kind: str  # added, modified, deleted, synced, reset
    resource: Json  # of a deleted one its last row; of synced and reset nothing


def settings(server: str, token: str | None, read: timedelta = READ_TIMEOUT) -> Json:
    """The arguments of an HTTP client that speaks to `server` as the holder of `token`.

    Raises:
        Unauthenticated: That cannot be a token.
    """
    headers = {"User-Agent": f"nebu/{__version__}", "Accept": "application/json"}
    if token and not (token.isascii() and token.isprintable()):
        raise Unauthenticated("the token is not one: it has characters that no token has", "log in: nebu login")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {
        "base_url": server,
        "headers": headers,
        "timeout": limits(read),
        "verify": server.startswith("https:"),  # loading the authorities takes 30 ms that plain http can do without
        "trust_env": not contexts.is_loopback(server),  # no proxy leads to this machine
    }


def limits(read: timedelta) -> httpx.Timeout:
    """How long to wait for a connection, and for each piece of a reply."""
    return httpx.Timeout(read.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())


def given(query: Json) -> Json:
    """The parameters that are not None, as URLs write them."""
    written = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return {name: value for name, value in written.items() if value is not None}


def pause_asked(reply: httpx.Response, usual: float | None) -> float | None:
    """How long to wait before the same request is sent again; None when its answer is final."""
    wanted = _retry_after(reply)
    if reply.status_code not in {429, 503} or usual is None or (wanted or 0) > LONGEST_PAUSE:
        return None
    return wanted or usual


def is_final(error: httpx.TransportError) -> bool:
    """True when sending the request again is of no use, or would hold the caller for too long."""
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.ReadTimeout))


def decoded(reply: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    """The JSON of a reply.

    Raises:
        Unavailable: Something else answered.
    """
    if not reply.content:
        return {}
    try:
        return reply.json()
    except ValueError as error:
        raise Unavailable(
            f"{reply.url} did not answer with JSON: is a Nebulous API there?",
            "check the address: nebu config show",
        ) from error


def unreachable(server: str, error: Exception) -> Unreachable:
    """A connection that could not be made, or broke."""
    why = _reason(error) or re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    hint = (
        "start one with `nebu serve`, or name another with `nebu login --url URL`"
        if contexts.is_loopback(server)
        else "check the address with `nebu config show`, and that the server runs"
    )
    return Unreachable(f"the server {server} does not answer: {why}", hint)


def _reason(error: BaseException | None) -> str:
    """What the system said, which the asynchronous client's own words hide."""
    while error is not None:
        if isinstance(error, OSError) and error.errno and error.errno > 0:
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return ""


def failure(reply: httpx.Response) -> NebulousError:
    """What the API refused, as the class that it named."""
    try:
        body = reply.json()["error"]
        message, hint = str(body["message"]), body.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        return _foreign_failure(reply)
    if body.get("problems"):
        problems = [(list(problem["path"]), str(problem["message"])) for problem in body["problems"]]
        return InvalidRequest(message, hint, problems)
    kind = BY_TYPE.get(str(body.get("type"))) or class_for(reply.status_code)
    if issubclass(kind, Unavailable):
        return kind(message, hint, retry_after=_retry_after(reply))
    return kind(message, hint)


def class_for(status: int) -> type[NebulousError]:
    """The error that a status stands for where nothing more special was said."""
    return _BY_STATUS.get(status) or (Unavailable if status >= 500 else Rejected)


def _retry_after(reply: httpx.Response) -> float | None:
    try:
        return float(reply.headers.get("Retry-After", ""))
    except ValueError:
        return None


def _foreign_failure(reply: httpx.Response) -> NebulousError:
    """Something that is not our API answered: a proxy, a gateway, another program on that port."""
    what = f"{reply.request.method} {reply.url} answered {reply.status_code} {reply.reason_phrase}"
    if reply.has_redirect_location:
        return Rejected(f"{what}, a redirect to {reply.headers['Location']}", "log in there: nebu login --url URL")
    if reply.status_code in {401, 403}:
        return class_for(reply.status_code)(what, "log in with `nebu login`")
    return class_for(reply.status_code)(what, "is a Nebulous API there? check the address: nebu config show")
