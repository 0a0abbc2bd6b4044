"""The synchronous client of the REST API: plain dicts in and out, one method for each thing the API does.

It imports no model, so that a command starts fast; the typed SDK builds on it. A write carries an
`Idempotency-Key`, so every request may be repeated after a broken connection. What the API refuses is raised
as the class of `nebulous.errors` that its `error.type` names.
"""

from __future__ import annotations

import re
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

from nebulous import __version__, contexts
from nebulous.errors import (
    BY_TYPE,
    Conflict,
    Forbidden,
    NebulousError,
    NotFound,
    RateLimited,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from nebulous.logs import PATIENCE, SILENCE, LogFollow
from nebulous.remote import RemoteExecution
from nebulous.watches import Watch

# httpx imports its own command line when it can (rich, pygments, click: 0.2 s), and does without when not.
sys.modules.setdefault("httpx._main", cast(Any, None))
import httpx  # noqa: E402

Json = dict[str, Any]

CONNECT_TIMEOUT = timedelta(seconds=5)
READ_TIMEOUT = timedelta(seconds=30)
FILES_TIMEOUT = timedelta(minutes=5)  # without a byte, while a large folder is packed or a slow disk is written
LONGEST_URL = 200_000
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


class Unreachable(Unavailable):
    """No answer from the server at all."""


class InvalidRequest(Rejected):
    """The API found fault with what was sent; `problems` holds a path and a message for each fault."""

    def __init__(self, message: str, hint: str | None, problems: list[tuple[list[str | int], str]]) -> None:
        super().__init__(message, hint)
        self.problems = problems


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
    outcome: str  # new, same, changed (in place), next (begins once the old life is over)

    @property
    def unchanged(self) -> bool:
        """True when it was there just so."""
        return self.outcome in {"same", "unchanged"}


class Api:
    """A connection to one server as one caller; a context manager."""

    def __init__(
        self,
        server: str,
        token: str | None = None,
        *,
        notice: Callable[[str], None] | None = None,
        patience: timedelta = PATIENCE,
    ) -> None:
        self.server = contexts.server_url(server)
        self.patience = patience
        #: What the server had to say beside its answers, unless `notice` took it.
        self.notices: list[str] = []
        self._notice = notice or self.notices.append
        headers = {"User-Agent": f"nebu/{__version__}", "Accept": "application/json"}
        if token and not (token.isascii() and token.isprintable()):
            raise Unauthenticated("the token is not one: it has characters that no token has", "log in: nebu login")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._http = httpx.Client(
            base_url=self.server,
            headers=headers,
            timeout=httpx.Timeout(READ_TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds()),
            verify=self.server.startswith(
                "https:"
            ),  # loading the authorities takes 30 ms that plain http can do without
            trust_env=not contexts.is_loopback(self.server),  # no proxy leads to this machine
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def read(self, path: str, **query: Any) -> Any:  # noqa: ANN401 - any JSON
        """GET a path of the API, such as `/v1/platforms`; parameters that are None are left out."""
        return _decoded(self._send("GET", path, query))

    def list(self, plural: str, **filters: Any) -> list[Json]:  # noqa: ANN401 - query parameters
        """All resources of a kind, page by page; filters are namespace, owner, status, label, queue."""
        rows: list[Json] = []
        cursor: str | None = None
        while True:
            page: Json = self.read(f"/v1/{plural}", **filters, cursor=cursor)
            rows += page[plural]
            cursor = page.get("cursor")
            if not cursor:
                return rows

    def get(self, place: Place) -> Json:
        """One resource.

        Raises:
            NotFound: It does not exist (any more).
        """
        return self.read(place.path, owner=place.owner)

    def create(self, plural: str, document: Json, owner: str | None = None) -> Created:
        """Create a resource; the same document again gives the same one."""
        reply = self._send("POST", f"/v1/{plural}", {"owner": owner}, document)
        return Created(_decoded(reply), reply.headers.get("X-Nebu-Outcome", "new"))

    def delete(self, place: Place) -> Json:
        """Ask for the end of a resource, and return at once; it is gone when `get` raises NotFound."""
        return _decoded(self._send("DELETE", place.path, {"owner": place.owner}))

    def act(self, place: Place, action: str) -> Json:
        """Ask for `stop`, `start` or `restart`, and return at once."""
        return _decoded(self._send("POST", f"{place.path}/{action}", {"owner": place.owner}))

    def history(self, place: Place) -> Json:
        """What happened to a resource: `events` and `attempts`, oldest first."""
        return self.read(f"{place.path}/events", owner=place.owner)

    def logs(self, place: Place, *, tail: int | None = None) -> Iterator[bytes]:
        """What the command wrote so far, as it comes."""
        query = {"owner": place.owner, "tail": tail}
        with self._stream(f"{place.path}/logs", query, READ_TIMEOUT) as chunks:
            yield from chunks

    def follow(self, place: Place, life: str | None = None, **start: Any) -> LogFollow:  # noqa: ANN401 - query
        """What the command writes, until it ends; survives broken connections.

        Args:
            place: The container.
            life: Its `metadata.id`; after a cut this life is followed on, and no later one of the same name.
            start: Where to begin: `tail` (last lines) or `offset` (of another `LogFollow`); default everything.
        """
        again = Place(place.plural, life, owner=place.owner) if life else place

        def connect(query: Json, resumed: bool) -> AbstractContextManager[Iterator[bytes]]:
            path = (again if resumed else place).path
            return self._stream(f"{path}/logs", {"follow": "true", "owner": place.owner, **query}, SILENCE)

        return LogFollow(connect, start, self.patience)

    def watch(self, kind: str = "container", **filters: Any) -> Watch:  # noqa: ANN401 - query parameters
        """What there is of a kind, and then each change, for ever; survives broken connections.

        Args:
            kind: Any word for it.
            filters: `namespace`, `owner`, `name`, and `label`, a list of `k=v`.
        """

        def connect(query: Json, _: bool) -> AbstractContextManager[Iterator[bytes]]:
            return self._stream("/v1/watch", {"kind": kind, **filters, **query}, SILENCE)

        return Watch(connect, {}, self.patience)

    def apply(self, place: Place, document: Json, *, replace: bool = False) -> Created:
        """Make the resource what the document says: create it, or change in place what can change.

        `metadata.resource_version` of the document refuses what changed since; "" refuses what exists.

        Raises:
            Conflict: It would need a new life, and `replace` is not true; or it changed since it was read.
        """
        query = {"owner": place.owner, "replace": replace or None}
        reply = self._send("PUT", place.path, query, document)
        return Created(_decoded(reply), reply.headers.get("X-Nebu-Outcome", "new"))

    def plan(self, place: Place, document: Json, *, assume: Sequence[str] = ()) -> Json:
        """What `apply` would do: `outcome`, `changes` of `{field, from, to, in_place}`, and the `resource_version`.

        `assume` lists what to take for existing, as KIND/NAMESPACE/NAME.
        """
        query = {"owner": place.owner, "dry_run": True, "assume": list(assume) or None}
        return _decoded(self._send("PUT", place.path, query, document))

    def execute(self, place: Place, argv: list[str], terminal: tuple[int, int] | None = None) -> RemoteExecution:
        """Run a further command in a container.

        Args:
            place: The container.
            argv: Program and arguments.
            terminal: Rows and columns of the terminal that it gets; None gives it none, and stderr apart.

        Raises:
            Unreachable: No answer. NebulousError: from `output()` of what is returned, if the API refuses.
        """
        from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
        from websockets.sync.client import connect

        query: list[tuple[str, Any]] = [("command", word) for word in argv]
        query += [("owner", place.owner)] if place.owner else []
        query += [("tty", "true"), ("rows", terminal[0]), ("cols", terminal[1])] if terminal else []
        url = f"{self.server.replace('http', 'ws', 1)}{place.path}/exec?{urlencode(query)}"
        if len(url) > LONGEST_URL:
            raise Rejected("the command is too long to travel", "pass what is long on standard input: -i")
        token = self._http.headers.get("Authorization")
        try:
            connection = connect(
                url,
                additional_headers={"Authorization": token} if token else None,
                user_agent_header=self._http.headers["User-Agent"],
                compression=None,
                ping_timeout=None,
                proxy=None if contexts.is_loopback(self.server) else True,
                open_timeout=READ_TIMEOUT.total_seconds(),
            )
        except InvalidStatus as error:
            what = f"{self.server} answered {error.response.status_code} {error.response.reason_phrase}"
            raise _class_for(error.response.status_code)(
                what, "does a Nebulous API that knows exec run there?"
            ) from error
        except (OSError, InvalidHandshake, InvalidMessage) as error:
            raise self._unreachable(error) from error
        return RemoteExecution(connection)

    def stat(self, place: Place, path: str) -> Json:
        """What is at a path in a container: kind (file, folder, other, dangling), link, size, mode, modified_at.

        Raises:
            NotFound: Nothing, or there is no such container.
        """
        return _decoded(self._send("GET", f"{place.path}/files", {"owner": place.owner, "path": path, "stat": "true"}))

    def read_files(self, place: Place, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """A tar archive of what is at a path in a container, as it comes; its first entry has the path's last name."""
        return self._stream(f"{place.path}/files", {"owner": place.owner, "path": path}, FILES_TIMEOUT)

    def write_files(self, place: Place, path: str, archive: Iterator[bytes]) -> None:
        """Unpack a tar archive in a folder of a container; never repeated by itself.

        Raises:
            NotFound: There is no such folder. Rejected: something does not fit, or no space is left.
        """
        query = _given({"owner": place.owner, "path": path})
        limits = httpx.Timeout(FILES_TIMEOUT.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())
        kind = {"Content-Type": "application/x-tar"}
        try:
            url = f"{place.path}/files"
            self._checked(self._http.put(url, params=query, content=archive, headers=kind, timeout=limits))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def foresee(self, plural: str, document: Json, owner: str | None = None) -> Json:
        """What creating the document would come to: `outcome`, and for containers `offers` and what is `out`.

        Raises:
            NebulousError: What creating would raise.
        """
        return _decoded(self._send("POST", f"/v1/{plural}", {"owner": owner, "dry_run": "true"}, document))

    def stats(self, place: Place) -> Json:
        """What a running container uses.

        Raises:
            Conflict: Nothing runs.
        """
        return self.read(f"{place.path}/stats", owner=place.owner)

    def glance(self, path: str, limit_s: float, **query: Any) -> Any:  # noqa: ANN401 - any JSON
        """GET a path once, with no patience: for what nobody should wait for.

        Raises:
            NebulousError: There is no answer within the limit, or a refusal.
        """
        try:
            reply = self._http.get(path, params=_given(query), timeout=limit_s)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return _decoded(self._checked(reply))

    def _send(self, method: str, path: str, query: Json, body: Json | None = None) -> httpx.Response:
        """One request, repeated with the same key while the server is out of reach or says 503.

        Raises:
            Unreachable: No answer, after all repetitions.
            NebulousError: What the API refused, as the class that it named.
        """
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
        for pause in (*PAUSES, None):
            try:
                reply = self._http.request(method, path, params=_given(query), json=body, headers=headers)
            except httpx.TransportError as error:
                if pause is None or isinstance(error, (httpx.UnsupportedProtocol, httpx.ReadTimeout)):
                    raise self._unreachable(error) from error
                time.sleep(pause)
                continue
            wanted = _retry_after(reply)
            if reply.status_code in {429, 503} and pause is not None and (wanted or 0) <= LONGEST_PAUSE:
                time.sleep(wanted or pause)
                continue
            return self._checked(reply)
        raise AssertionError("the last repetition returns or raises")

    def _checked(self, reply: httpx.Response) -> httpx.Response:
        for notice in reply.headers.get_list("X-Nebu-Notice"):
            self._notice(notice)
        if reply.is_success:
            return reply
        raise _failure(reply)

    @contextmanager
    def _stream(self, path: str, query: Json, silence: timedelta) -> Generator[Iterator[bytes]]:
        """A reply as it comes, closed whatever happens; a break is Unreachable, here and in the middle."""
        limits = httpx.Timeout(silence.total_seconds(), connect=CONNECT_TIMEOUT.total_seconds())
        try:
            with self._http.stream("GET", path, params=_given(query), timeout=limits) as reply:
                if not reply.is_success:
                    reply.read()
                yield self._checked(reply).iter_bytes()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        why = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        hint = (
            "start one with `nebu serve`, or name another with `nebu login --url URL`"
            if contexts.is_loopback(self.server)
            else "check the address with `nebu config show`, and that the server runs"
        )
        return Unreachable(f"the server {self.server} does not answer: {why}", hint)


def _given(query: Json) -> Json:
    return {name: value for name, value in query.items() if value is not None}


def _retry_after(reply: httpx.Response) -> float | None:
    try:
        return float(reply.headers.get("Retry-After", ""))
    except ValueError:
        return None


def _decoded(reply: httpx.Response) -> Any:  # noqa: ANN401 - any JSON
    if not reply.content:
        return {}
    try:
        return reply.json()
    except ValueError as error:
        raise Unavailable(
            f"{reply.url} did not answer with JSON: is a Nebulous API there?",
            "check the address: nebu config show",
        ) from error


def _failure(reply: httpx.Response) -> NebulousError:
    try:
        body = reply.json()["error"]
        message, hint = str(body["message"]), body.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        return _foreign_failure(reply)
    if body.get("problems"):
        problems = [(list(problem["path"]), str(problem["message"])) for problem in body["problems"]]
        return InvalidRequest(message, hint, problems)
    kind = BY_TYPE.get(str(body.get("type"))) or _class_for(reply.status_code)
    if issubclass(kind, Unavailable):
        return kind(message, hint, retry_after=_retry_after(reply))
    return kind(message, hint)


def _class_for(status: int) -> type[NebulousError]:
    return _BY_STATUS.get(status) or (Unavailable if status >= 500 else Rejected)


def _foreign_failure(reply: httpx.Response) -> NebulousError:
    """Something that is not our API answered: a proxy, a gateway, another program on that port."""
    what = f"{reply.request.method} {reply.url} answered {reply.status_code} {reply.reason_phrase}"
    if reply.has_redirect_location:
        return Rejected(f"{what}, a redirect to {reply.headers['Location']}", "log in there: nebu login --url URL")
    if reply.status_code in {401, 403}:
        return _class_for(reply.status_code)(what, "log in with `nebu login`")
    return _class_for(reply.status_code)(what, "is a Nebulous API there? check the address: nebu config show")
