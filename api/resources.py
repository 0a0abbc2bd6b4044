"""The one router for every kind of resource: list, create, get, delete, events.

What changes a living one (PUT, PATCH) is in `applies.py`, what stops and starts one in `verbs.py`.

A kind brings a `Surface`: how it is checked before it is created, and how its row is shown.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from api.auth import Access, Creator, Reader, first_use
from api.bodies import check_size, read_object
from api.filters import Filters, namespace_of
from api.keys import Claim, Key
from api.services import Services, Uses
from api.store import Created, New, named
from nebulous import ids
from nebulous.errors import Forbidden, NotFound, Rejected
from nebulous.ids import Address
from nebulous.models.base import Spec, check
from nebulous.models.kinds import Kind
from nebulous.models.resources import Metadata, MetadataRequest, Row
from nebulous.tokens import Role

log = logging.getLogger(__name__)

DELETE_WAIT_S = 60.0
POLL_S = 0.1
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
NOTICE = "X-Nebu-Notice"
OUTCOME = "X-Nebu-Outcome"


@dataclass(frozen=True)
class Asked:
    """What somebody asks to create, and where."""

    spec: Any  # the kind's model
    address: Address
    uses: Services
    access: Access
    assumed: frozenset[str] = frozenset()  # workflow ids to take for existing: a dry run of many, of which one is next


@dataclass
class Prepared:
    """What is stored, once every check has passed."""

    spec: dict[str, Any]
    shown_spec: dict[str, Any]
    summary: str
    queue: str = ""
    notices: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Surface:
    """What a kind says of itself to the API."""

    kind: Kind
    prepare: Callable[[Asked], Awaitable[Prepared]]
    present: Callable[[Row, Role], dict[str, Any]]
    first_status: dict[str, Any]
    statuses: tuple[str, ...]
    steady: frozenset[str]  # statuses in which a deletion would show at once
    reveal: Callable[[Services, "Target"], Awaitable[dict[str, Any]]] | None = None  # what only admins may see
    written: Callable[[Services, "Target"], Awaitable[dict[str, Any]]] | None = (
        None  # the spec as a PATCH starts from it
    )
    foresee: Callable[[Asked], Awaitable[dict[str, Any]]] | None = None  # what a dry run tells beyond the outcome


@dataclass(frozen=True)
class Target:
    """An existing resource that the path names."""

    row: Row
    address: Address
    role: Role


def router(surface: Surface) -> APIRouter:
    """All routes of a kind."""
    kind = surface.kind
    routes = APIRouter(prefix=f"/v1/{kind.plural}", tags=[kind.plural])
    by_id, by_name = locators(kind)
    _add_collection(routes, surface)
    _add_reads(routes, surface, (("/{id}", by_id), ("/{namespace}/{name}", by_name)))
    return routes


Locator = Callable[..., Awaitable[Target]]
Located = Sequence[tuple[str, Locator]]


def locators(kind: Kind) -> tuple[Locator, Locator]:
    """Dependencies that find the resource of a path, by id and by name, within what the caller may see."""

    async def by_id(uses: Uses, access: Reader, id: str) -> Target:  # noqa: A002 - the path's word
        if not _ID.fullmatch(id):
            raise NotFound(f"there is no {kind.id} with id {id[:60]!r}", "give NAMESPACE/NAME, or an id")
        row = await uses.store.find(kind.id, id.lower(), access.organizations())
        return _target(kind, access, row)

    async def by_name(uses: Uses, access: Reader, namespace: str, name: str) -> Target:
        address = Address(kind.id, access.organization, namespace_of(namespace), name)
        if not ids.NAME.match(name) or not ids.NAME.match(address.namespace):
            raise NotFound(f"{named(address)} does not exist", "no name looks like that")
        return _target(kind, access, await uses.store.get(address))

    return by_id, by_name


def _target(kind: Kind, access: Access, row: Row) -> Target:
    metadata = row.metadata
    role = access.role_in(metadata.owner)
    if role is None:
        raise NotFound(f"there is no {kind.id} {metadata.name!r}")
    return Target(row, Address(kind.id, metadata.owner, metadata.namespace, metadata.name), role)


# --- list and create ----------------------------------------------------------------------------------


def _add_collection(routes: APIRouter, surface: Surface) -> None:
    kind = surface.kind

    @routes.get("", name=f"list {kind.plural}")
    async def list_all(uses: Uses, access: Reader, filters: Annotated[Filters, Depends()]) -> dict[str, Any]:
        """List what is there, newest first; without `limit` up to 1,000."""
        page = await uses.store.lists.page(kind.id, access.organization, filters.wanted(kind, surface.statuses))
        role = access.role_in(access.organization) or "viewer"
        return {kind.plural: shown_all(surface, page.rows, role), "cursor": page.cursor}

    @routes.post("", name=f"create {kind.id}", openapi_extra=body_of(kind))
    async def create(
        request: Request,
        uses: Uses,
        access: Creator,
        idempotency_key: Key = None,
        dry_run: Annotated[bool, Query(description="Check everything, create nothing, say what would be.")] = False,
    ) -> JSONResponse:
        """Create it; the same spec again gives the same one, another spec under a living name is 409."""
        document = await read_object(request)
        claim = await claimed(uses, access, idempotency_key, document)
        creation = Creation(uses, access, check(kind.model, document), claim)
        if dry_run:
            foreseen, notices = await _foresee(surface, creation)
            return with_notices(JSONResponse(foreseen), notices)
        created, notices = await _create(surface, creation)
        role = access.role_in(created.row.metadata.owner) or "viewer"
        code = 202 if created.outcome == "next" else 200
        shown = surface.present(created.row, role)
        return with_notices(JSONResponse(shown, code, {OUTCOME: created.outcome}), notices)


def shown_all(surface: Surface, rows: Sequence[Row], role: Role) -> list[dict[str, Any]]:
    """Rows as replies; one that cannot be shown is left out and said in the log, and hides no other."""
    shown: list[dict[str, Any]] = []
    for row in rows:
        try:
            shown.append(surface.present(row, role))
        except (ValueError, TypeError, KeyError, AttributeError):
            log.exception("cannot show %s %r", surface.kind.id, row.metadata.name)
    return shown


@dataclass(frozen=True)
class Creation:
    """A POST, read and validated."""

    uses: Services
    access: Access
    spec: Spec
    claim: Claim | None  # of an Idempotency-Key
    assumed: frozenset[str] = frozenset()  # see Asked


async def claimed(uses: Services, access: Access, key: str | None, body: dict[str, Any]) -> Claim | None:
    """The claim of a request that came with a key."""
    if not key:
        return None
    return Claim.of(key, await uses.store.install(), access.caller.subject, body, uses.secret_key)


async def _create(surface: Surface, creation: Creation) -> tuple[Created, list[str]]:
    """Check everything, then start; nothing is created before all is well."""
    made = await plan(surface, creation)
    if creation.claim:
        await creation.claim.hold(creation.uses.redis, made.new.address)
    notice = await first_use(creation.uses, creation.access, made.new.address.organization)
    created = await creation.uses.store.create(made.new, made.version)
    return created, [notice, *made.notices] if notice else made.notices


async def _foresee(surface: Surface, creation: Creation) -> tuple[dict[str, Any], list[str]]:
    """Check everything, and tell what creating would come to."""
    made = await plan(surface, creation)
    outcome = await creation.uses.store.foresee(made.new, made.version)
    shown = surface.present(made.new.row, creation.access.role_in(made.new.address.organization) or "viewer")
    more = await surface.foresee(made.asked) if surface.foresee else {}
    return {"outcome": outcome, "resource": shown, **more}, made.notices


@dataclass(frozen=True)
class Plan:
    """A creation that passed every check."""

    asked: Asked
    new: New
    version: str | None  # the resource_version that it expects
    notices: list[str]


async def plan(surface: Surface, creation: Creation) -> Plan:
    """Check everything that can be told beforehand; nothing is created or changed.

    Raises:
        Rejected, Forbidden, NotFound, Conflict: With what to change.
    """
    uses, access, kind = creation.uses, creation.access, surface.kind
    asked: MetadataRequest = getattr(creation.spec, "metadata", None) or MetadataRequest()
    owner = _owner(access, asked)
    access.require(owner, "member")
    claim = creation.claim
    name = asked.name or ids.two_words(claim.seed if claim else None)
    address = Address(kind.id, owner, namespace_of(asked.namespace), name)
    check_size(creation.spec.model_dump(mode="json", exclude_none=True))
    await _check_owner_ref(creation, asked, owner)
    request = Asked(creation.spec, address, uses, access, creation.assumed)
    prepared = await surface.prepare(request)
    new = New(
        address,
        kind.workflow,
        _metadata(address, asked, creation),
        prepared.spec,
        prepared.shown_spec,
        surface.first_status,
        surface.steady,
        prepared.summary,
        prepared.queue,
        claim.key if claim else "",
    )
    return Plan(request, new, asked.resource_version, prepared.notices)


def _owner(access: Access, asked: MetadataRequest) -> str:
    said = asked.owner if asked.owner not in (None, "", "-") else None
    if said and access.owner and said.lower() != access.owner.lower():
        raise Rejected(
            f"metadata says organization {said!r}, ?owner= says {access.owner!r}", "give the organization once"
        )
    return said or access.organization


async def _check_owner_ref(creation: Creation, asked: MetadataRequest, organization: str) -> None:
    if not asked.owner_ref:
        return
    try:
        owner = Address.parse(asked.owner_ref)
    except ValueError as error:
        raise Rejected(f"owner_ref: {error}") from error
    found = None
    if owner.organization.lower() == organization.lower():
        found = await creation.uses.store.look(owner)
    if found is None or not found.open:
        raise Rejected(f"owner_ref {asked.owner_ref!r} names nothing in {organization!r}", "leave it out")


def _metadata(address: Address, asked: MetadataRequest, creation: Creation) -> Metadata:
    now, claim = int(time.time()), creation.claim
    return Metadata(
        name=address.name,
        namespace=address.namespace,
        owner=address.organization,
        id=claim.life(address) if claim else ids.new_id(),
        labels=asked.labels,
        owner_ref=asked.owner_ref,
        request=claim.request if claim else "",
        created_by=creation.access.caller.subject,
        created_at=now,
        updated_at=now,
    )


def with_notices(response: JSONResponse, notices: Sequence[str]) -> JSONResponse:
    """Add what a person should know; in headers, so as printable ASCII."""
    for notice in notices:
        plain = notice.encode("ascii", "replace").decode()
        response.headers.append(NOTICE, "".join(char if char.isprintable() else "?" for char in plain)[:1000])
    return response


def body_of(kind: Kind) -> dict[str, Any]:
    """The request body for the OpenAPI document; `app.py` adds the schemas that it refers to."""
    schema = {"$ref": f"#/components/schemas/{kind.model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


# --- one resource -------------------------------------------------------------------------------------


def _add_reads(routes: APIRouter, surface: Surface, located: Located) -> None:
    # `/{id}/events` first: `events` is a reserved name, so no `/{namespace}/{name}` is hidden by it
    for path, locate in located:
        _add_events(routes, path, locate)
    for path, locate in located:
        _add_get(routes, surface, path, locate)
        _add_delete(routes, surface, path, locate)


def _add_events(routes: APIRouter, path: str, locate: Locator) -> None:
    @routes.get(f"{path}/events", name="events")
    async def events(uses: Uses, target: Annotated[Target, Depends(locate)]) -> dict[str, Any]:
        """The last events, oldest first, and the attempts to place it."""
        return {"events": [], "attempts": [], **await uses.store.history(target.address)}


def _add_get(routes: APIRouter, surface: Surface, path: str, locate: Locator) -> None:
    @routes.get(path, name=f"get {surface.kind.id}")
    async def get(
        uses: Uses,
        response: Response,
        target: Annotated[Target, Depends(locate)],
        reveal: Annotated[bool, Query(description="A secret's value too; for admins.")] = False,
    ) -> dict[str, Any]:
        """Show one; its `ETag` goes into `If-Match` of a PUT or PATCH that must not meet anything newer."""
        response.headers["ETag"] = tag_of(target.row)
        shown = surface.present(target.row, target.role)
        if not reveal or surface.reveal is None:
            return shown
        if target.role != "admin":
            raise Forbidden("only an admin of the organization may see a value again", "ask one of them")
        return {**shown, **await surface.reveal(uses, target)}


def _add_delete(routes: APIRouter, surface: Surface, path: str, locate: Locator) -> None:
    @routes.delete(path, name=f"delete {surface.kind.id}")
    async def delete(
        uses: Uses,
        access: Reader,
        target: Annotated[Target, Depends(locate)],
        wait: Annotated[bool, Query(description="Answer once nothing is left, at most after 60 s.")] = False,
    ) -> JSONResponse:
        """Delete it: accepted at once (202), done on proof of absence (200 with `?wait=true`)."""
        access.require(target.address.organization, "member")
        life = target.row.metadata.id
        await uses.store.signal(target.address, "delete", life, target.row.metadata.resource_version)
        if wait and await _gone(uses, target):
            return JSONResponse(surface.present(target.row, target.role))
        found = await uses.store.look(target.address)
        row = found.row if found and found.row.metadata.id == life else target.row
        return JSONResponse(surface.present(row, target.role), 202)


def tag_of(row: Row) -> str:
    """The `ETag` of a resource as it is."""
    return f'"{row.metadata.tag}"'


async def _gone(uses: Services, target: Target) -> bool:
    """Wait until this life is over and closed; False when that takes too long."""
    deadline = time.monotonic() + DELETE_WAIT_S
    while time.monotonic() < deadline:
        found = await uses.store.look(target.address)
        if found is None or not found.open or found.row.metadata.id != target.row.metadata.id:
            return True
        await asyncio.sleep(POLL_S)
    return False
