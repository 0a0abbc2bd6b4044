"""Changing what exists, for every kind: PUT applies a whole spec, PATCH a part of one; both may be tried dry.

Whether that is a change in place or a new life is decided by the workflow (`workflows/wishes.py`).
"""

from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse

from api.auth import Access, Creator, Reader, first_use
from api.bodies import read_object
from api.filters import namespace_of
from api.keys import Claim, Key
from api.resources import (
    OUTCOME,
    Creation,
    Locator,
    Surface,
    Target,
    body_of,
    claimed,
    locators,
    plan,
    tag_of,
    with_notices,
)
from api.services import Services, Uses
from api.store import TRIES
from api.wishes import Came, Stale, Wish, apply, foresee, require_in_place
from nebulous.errors import Conflict, NotFound, Rejected
from nebulous.ids import Address
from nebulous.models.base import Spec, check
from nebulous.models.kinds import Kind
from nebulous.models.resources import Row

MERGE_PATCH = "application/merge-patch+json"
PATCHABLE = ("labels", "resource_version")
ASSUMED_AT_MOST = 100

IfMatch = Annotated[str | None, Header(alias="If-Match", description="ETag as read: refuse if it changed since.")]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="`*`: refuse if it exists.")]
DryRun = Annotated[bool, Query(description="Check everything, change nothing, answer what would change.")]
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"description": "It changed since it was read, or `changes` lists what needs a new life."}
}


def router(surface: Surface) -> APIRouter:
    """PUT and PATCH of a kind."""
    kind = surface.kind
    routes = APIRouter(prefix=f"/v1/{kind.plural}", tags=[kind.plural], responses=CONFLICT)
    by_id, by_name = locators(kind)
    _add_put(routes, surface)
    for path, locate in (("/{id}", by_id), ("/{namespace}/{name}", by_name)):
        _add_patch(routes, surface, path, locate)
    return routes


class Terms:
    """On which conditions a PUT is done."""

    def __init__(
        self,
        replace: Annotated[bool, Query(description="Begin a new life where fields cannot change in place.")] = False,
        dry_run: DryRun = False,
        assume: Annotated[
            list[str] | None,
            Query(description="KIND/NAMESPACE/NAME that a dry run takes for existing; repeatable"),
        ] = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> None:
        self.replace = replace
        self.dry_run = dry_run
        self.assume = (assume or [])[:ASSUMED_AT_MOST] if dry_run else []
        self.version = "" if if_none_match == "*" else _version(if_match)

    def assumed(self, organization: str) -> frozenset[str]:
        """The workflow ids to take for existing."""
        parts = [each.split("/") for each in self.assume]
        return frozenset(str(Address(part[0], organization, *part[1:])) for part in parts if len(part) == 3)


def _version(if_match: str | None) -> str | None:
    return None if if_match is None else if_match.strip().removeprefix("W/").strip('"')


# --- PUT ----------------------------------------------------------------------------------------------


def _add_put(routes: APIRouter, surface: Surface) -> None:
    kind = surface.kind

    @routes.put("/{namespace}/{name}", name=f"apply {kind.id}", openapi_extra=body_of(kind))
    async def put(
        request: Request,
        uses: Uses,
        access: Creator,
        namespace: str,
        name: str,
        terms: Annotated[Terms, Depends()],
        idempotency_key: Key = None,
    ) -> JSONResponse:
        """Apply it: create it, change in place what can change, or with `?replace=true` begin a new life.

        `X-Nebu-Outcome` says which: new, same, changed or next (accepted: it begins once the old one is proven gone).
        """
        body = await read_object(request)
        claim = await claimed(uses, access, idempotency_key, body)
        spec = check(kind.model, _placed(body, namespace_of(namespace), name))
        creation = Creation(uses, access, spec, claim, terms.assumed(_organization(spec, access)))
        made = await plan(surface, creation)
        version = terms.version if terms.version is not None else made.version
        wish = Wish(made.new, kind.model, version, terms.replace)
        if terms.dry_run:
            return _foreseen(await foresee(uses.store, wish))
        if claim:
            await claim.hold(uses.redis, made.new.address)
        notice = await first_use(uses, access, made.new.address.organization)
        came = await apply(uses.store, wish)
        reply = _reply(surface, access, came)
        return with_notices(reply, [notice, *made.notices] if notice else made.notices)


def _organization(spec: Spec, access: Access) -> str:
    metadata = getattr(spec, "metadata", None)
    return (metadata.owner if metadata else None) or access.organization


def _placed(document: dict[str, Any], namespace: str, name: str) -> dict[str, Any]:
    """The document with the name and namespace of its path, which it may repeat and not contradict.

    Raises:
        Rejected: It does.
    """
    metadata: object = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        return document  # its model says what is wrong
    given = cast("dict[str, Any]", metadata)
    owner, slash, said = str(given.get("name") or "").rpartition("/")
    for what, path, body in (("name", name, said), ("namespace", namespace, given.get("namespace"))):
        if body not in (None, "", "-") and str(body).lower() != path.lower():
            raise Rejected(f"the path says {what} {path!r}, metadata says {body!r}", f"give the {what} once")
    return {**document, "metadata": {**given, "name": f"{owner}{slash}{name}", "namespace": namespace}}


def _foreseen(came: Came) -> JSONResponse:
    there = came.outcome != "new"
    body = {
        "outcome": came.outcome,
        "changes": [change.shown() for change in came.changes],
        "resource_version": came.row.metadata.tag if there else "",  # in a write's metadata: refuse what is newer
    }
    return JSONResponse(body, headers={OUTCOME: came.outcome, **({"ETag": tag_of(came.row)} if there else {})})


def _reply(surface: Surface, access: Access, came: Came) -> JSONResponse:
    role = access.role_in(came.row.metadata.owner) or "viewer"
    headers = {OUTCOME: came.outcome}
    if came.outcome != "next":  # the announced life has no version yet
        headers["ETag"] = tag_of(came.row)
    return JSONResponse(surface.present(came.row, role), 202 if came.outcome == "next" else 200, headers)


# --- PATCH --------------------------------------------------------------------------------------------


def _add_patch(routes: APIRouter, surface: Surface, path: str, locate: Locator) -> None:
    kind = surface.kind

    @routes.patch(path, name=f"patch {kind.id}", openapi_extra=_patch_of(kind))
    async def patch(
        request: Request,
        uses: Uses,
        access: Reader,
        target: Annotated[Target, Depends(locate)],
        dry_run: DryRun = False,
        if_match: IfMatch = None,
        idempotency_key: Key = None,
    ) -> JSONResponse:
        """Change some fields in place (JSON merge patch, RFC 7396): null removes one; `metadata.labels` merges."""
        access.require(target.address.organization, "member")
        body = await read_object(request, MERGE_PATCH)
        asked = _checked_patch(kind, body)
        version = asked["metadata"].pop("resource_version", None)
        if if_match is not None:
            version = _version(if_match)
        made = _Patch(surface, uses, access, await claimed(uses, access, idempotency_key, body), asked)
        if dry_run:
            wish = await made.wish(target, version)
            return _foreseen(require_in_place(wish, await foresee(uses.store, wish)))
        if made.claim:
            await made.claim.hold(uses.redis, target.address)
        return _reply(surface, access, await made.apply(target, version))


@dataclass(frozen=True)
class _Patch:
    """A patch on its way."""

    surface: Surface
    uses: Services
    access: Access
    claim: Claim | None  # of an Idempotency-Key
    asked: dict[str, Any]

    async def apply(self, target: Target, version: str | None) -> Came:
        """Change it; somebody else's change in between is merged with, unless a version was given."""
        uses = self.uses
        for _ in range(TRIES - 1):
            try:
                return await apply(uses.store, await self.wish(target, version))
            except Stale:
                if version is not None:
                    raise
                target = Target(await _same_life(uses, target), target.address, target.role)
        return await apply(uses.store, await self.wish(target, version))

    async def wish(self, target: Target, version: str | None) -> Wish:
        """The patch on what is there now, as a whole spec."""
        surface, row = self.surface, target.row
        if row.metadata.deleted_at is not None:
            raise Conflict(
                f"{target.address.kind} {row.metadata.name!r} is being deleted", "PUT it to begin a new life"
            )
        merged = merge(await _written(surface, self.uses, target), self.asked)
        creation = Creation(self.uses, self.access, check(surface.kind.model, merged), self.claim)
        known = row.metadata.tag if version in (None, "", "*") else version
        return Wish((await plan(surface, creation)).new, surface.kind.model, known)


async def _written(surface: Surface, uses: Services, target: Target) -> dict[str, Any]:
    """The document that a person would have written for what is there."""
    spec = await surface.written(uses, target) if surface.written else target.row.spec
    metadata = target.row.metadata
    where = {"name": metadata.name, "namespace": metadata.namespace, "owner": metadata.owner}
    return {**spec, "metadata": {**where, "labels": metadata.labels}}


async def _same_life(uses: Services, target: Target) -> Row:
    row = await uses.store.get(target.address)
    if row.metadata.id != target.row.metadata.id:
        raise NotFound(f"{target.address.kind} {target.row.metadata.id!r} is over; its name has another by now")
    return row


def _checked_patch(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """The patch with canonical spellings and its own `metadata`.

    Raises:
        Rejected: It is about something that is no field of the spec and no label.
    """
    metadata: object = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise Rejected(f"metadata: should be an object, not {str(metadata)[:60]!r}")
    given = cast("dict[str, Any]", metadata)
    if others := [name for name in given if name not in PATCHABLE]:
        raise Rejected(f"metadata.{others[0][:60]} cannot be patched", "of metadata only labels change in place")
    if not isinstance(given.get("resource_version"), str | None):
        raise Rejected("metadata.resource_version: should be text", "write it as a GET shows it")
    spelled = {kind.model.aliases.get(name, name): value for name, value in document.items()}
    return {**spelled, "metadata": dict(given)}


def merge(target: object, patch: object) -> Any:  # noqa: ANN401 - any JSON
    """Merge a patch into a JSON value, as RFC 7396 has it; neither is modified."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, Any]", patch).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _patch_of(kind: Kind) -> dict[str, Any]:
    """The request body for the OpenAPI document."""
    about = f"Fields of {kind.model.__name__} that change in place, and `metadata.labels`; null removes."
    schema = {"type": "object", "description": about}
    content = {media: {"schema": schema} for media in (MERGE_PATCH, "application/json")}
    return {"requestBody": {"required": True, "content": content}}
