"""Lists of resources: one visibility query a page, every row checked again, half a second old at most."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.common import SearchAttributeKey

from api.problems import BadRequest, translated
from nebulous import temporal
from nebulous.errors import NotFound
from nebulous.ids import Address
from nebulous.models.resources import Metadata, Row

log = logging.getLogger(__name__)

LIST_AT_MOST = 1000  # Temporal's largest page
LIST_TTL_S = 0.5
LISTS_KEPT = 256
VISIBILITY_LAG_S = 0.2  # a list read this soon after a write may miss it (measured: 2-50 ms)
SIGNATURE_BYTES = 12


@dataclass(frozen=True)
class Wanted:
    """What a list is narrowed to."""

    fields: Mapping[SearchAttributeKey[str], str]
    labels: Sequence[tuple[str, str]]
    limit: int | None = None
    cursor: str | None = None

    def clauses(self) -> list[str]:
        """As clauses of a visibility query.

        Without labels that hold a backslash: Temporal doubles it for its SQL stores, and finds nothing. `has` decides.
        """
        pairs = [(key.name, value) for key, value in self.fields.items()]
        labels = [f"{key}={value}" for key, value in self.labels]
        pairs += [(temporal.LABELS.name, label) for label in labels if "\\" not in label]
        return [f"{name} = {temporal.quote(value)}" for name, value in pairs]

    def has(self, row: Row) -> bool:
        """True when a row has the labels to the letter; visibility ignores their case."""
        return set(self.labels) <= set((row.metadata.labels or {}).items())


@dataclass(frozen=True)
class Page:
    """Some rows, newest first, and where to go on."""

    rows: list[Row]
    cursor: str | None


@dataclass
class _Cached:
    at: float
    page: Page


@dataclass
class Lists:
    """What visibility says; never used to decide whether something exists."""

    client: Client
    cursor_key: bytes  # cursors are signed: Temporal answers a forged page token with a retriable error
    told: Callable[[], None] = lambda: None  # of every write
    _lists: dict[str, _Cached] = field(default_factory=dict[str, _Cached])
    _written: dict[str, float] = field(default_factory=dict[str, float])  # organization -> when

    async def page(self, kind: str, organization: str, wanted: Wanted) -> Page:
        """One page of a list: at most `limit`, else at most 1,000; half a second old at most."""
        query = temporal.open_query(kind, organization, *wanted.clauses())
        size = min(wanted.limit or LIST_AT_MOST, LIST_AT_MOST)
        key, now = f"{size} {wanted.cursor} {query} {wanted.labels}", time.monotonic()
        cached = self._lists.get(key)
        written = self._written.get(organization.lower(), float("-inf"))
        if cached and now - cached.at < LIST_TTL_S and cached.at > written + VISIBILITY_LAG_S:
            return cached.page
        page = await self._rows(query, size, wanted.cursor)
        kept = [row for row in page.rows if _among(row.metadata.owner, [organization]) and wanted.has(row)]
        page = Page(kept, page.cursor)
        if len(self._lists) >= LISTS_KEPT:
            self._lists.clear()
        self._lists[key] = _Cached(now, page)
        return page

    async def platforms(self) -> list[Row]:
        """The entities of the platform accounts."""
        return (await self._rows(temporal.open_query("platform"), LIST_AT_MOST)).rows

    async def rented(self) -> list[Row]:
        """Every container that holds a rental, in all organizations; for the server's admin."""
        clause = f"{temporal.PLATFORM.name} IS NOT NULL"
        rows = (await self._rows(temporal.open_query("container", None, clause), LIST_AT_MOST)).rows
        return [row for row in rows if row.rentals]

    async def occupied(self, organization: str) -> bool:
        """True when something lives in the organization."""
        query = f"{temporal.ORG.name} = {temporal.quote(organization.lower())} AND ExecutionStatus = 'Running'"
        return bool((await self._rows(query, 1)).rows)

    async def _rows(self, query: str, size: int, cursor: str | None = None) -> Page:
        token = self._token(query, cursor) if cursor else None
        with translated("the list"):
            listed, more = await temporal.page(self.client, query, size, token)
        rows = [each.row or unread(_address(each.id)) for each in listed]
        return Page(rows, base64.urlsafe_b64encode(self._signature(query, more) + more).decode() if more else None)

    def _token(self, query: str, cursor: str) -> bytes:
        """The page token in a cursor that we made for the same list.

        Raises:
            BadRequest: It is another's.
        """
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii"))
        except ValueError:  # also binascii.Error
            raw = b""
        signature, token = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(query, token)):
            raise BadRequest("cursor is not one that this list answered with", "start without a cursor")
        return token

    def _signature(self, query: str, token: bytes) -> bytes:
        text = b"cursor\0" + query.encode() + b"\0" + token
        return hmac.digest(self.cursor_key, text, "sha256")[:SIGNATURE_BYTES]

    async def find(self, kind: str, life: str, organizations: Sequence[str] | None) -> Row:
        """The resource with this id in these organizations, or in any.

        Raises:
            NotFound: None of them has it.
        """
        clauses = [f"{temporal.ID.name} = {temporal.quote(life)}"]
        if organizations is not None:
            clauses.append(_any_of(temporal.ORG, organizations))
        page = await self._rows(temporal.open_query(kind, None, *clauses), LIST_AT_MOST)
        for row in page.rows:
            if organizations is None or _among(row.metadata.owner, organizations):
                return row
        raise NotFound(f"there is no {kind} with id {life!r}", f"see what there is: nebu get {kind}s")

    async def named(self, kind: str, place: Address, names: Sequence[str]) -> list[Row]:
        """Those of these names that live in the place's organization and namespace."""
        space = f"{temporal.NAMESPACE.name} = {temporal.quote(place.namespace.lower())}"
        query = temporal.open_query(kind, place.organization, space, _any_of(temporal.NAME, names))
        return (await self._rows(query, LIST_AT_MOST)).rows

    def wrote(self, organization: str) -> None:
        """Lists of this organization are read afresh."""
        if len(self._written) > LISTS_KEPT:
            self._written.clear()
            self._lists.clear()
        self._written[organization.lower()] = time.monotonic()
        self.told()


async def read_row(execution: WorkflowExecution | WorkflowExecutionDescription, address: Address) -> Row:
    """The row in a workflow's memo; a poor one where there is none to read, so that it hides no other."""
    try:
        row = await temporal.row(execution)
    except (ValidationError, ValueError, TypeError) as error:
        log.warning("the memo of %s cannot be read: %s", execution.id, error)
        row = None
    return row or unread(address)


def unread(address: Address) -> Row:
    """The row of what shows nothing that can be read; better than hiding that it is there."""
    return Row(
        metadata=Metadata(name=address.name, namespace=address.namespace, owner=address.organization, id=""),
        spec={},
        status={"status": "defined", "reason": "NotReadYet", "message": "no worker has looked at it yet"},
    )


def _address(workflow_id: str) -> Address:
    try:
        return Address.parse(workflow_id)
    except ValueError:
        return Address("", "", "", workflow_id)


def _among(organization: str, organizations: Sequence[str]) -> bool:
    return organization.lower() in {name.lower() for name in organizations}


def _any_of(key: SearchAttributeKey[str], values: Sequence[str]) -> str:
    wanted = ", ".join(temporal.quote(value.lower()) for value in values)
    return f"{key.name} IN ({wanted})" if wanted else f"{key.name} = ''"
