"""`stop`, `start` and `restart`: signals, durable with no worker alive. What has nothing to do says so."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from api.auth import Reader
from api.resources import OUTCOME, Locator, Surface, Target, locators
from api.services import Uses
from api.store import named
from nebulous.errors import Conflict
from nebulous.models.containers import FINAL, Status
from nebulous.models.resources import Row

VERBS = ("stop", "start", "restart")


def router(surface: Surface) -> APIRouter:
    """The verbs that the kind knows."""
    kind = surface.kind
    routes = APIRouter(prefix=f"/v1/{kind.plural}", tags=[kind.plural])
    by_id, by_name = locators(kind)
    for word in VERBS:
        if word in kind.verbs:
            _add(routes, surface, word, (("/{id}", by_id), ("/{namespace}/{name}", by_name)))
    return routes


def _add(routes: APIRouter, surface: Surface, word: str, located: Sequence[tuple[str, Locator]]) -> None:
    for path, locate in located:

        def add(path: str, locate: Locator) -> None:
            @routes.post(f"{path}/{word}", name=f"{word} {surface.kind.id}", status_code=202)
            async def act(uses: Uses, access: Reader, target: Annotated[Target, Depends(locate)]) -> JSONResponse:
                """Say what is wanted; `describe` and `wait` show what comes of it.

                `X-Nebu-Outcome` is `accepted`, or `same` when it is so already. What can never run again is 409.
                """
                access.require(target.address.organization, "member")
                require_possible(word, target)
                found = await uses.store.look(target.address)
                # a row that something is under way for is no word on what will be
                same = found is not None and found.idle and is_so(word, found.row)
                seen = target.row.metadata
                await uses.store.signal(target.address, word, seen.id, seen.resource_version)
                now = await uses.store.get(target.address)
                row = now if now.metadata.id == seen.id else target.row  # the next one may not be meant
                shown: dict[str, Any] = surface.present(row, target.role)
                return JSONResponse(shown, 202, {OUTCOME: "same" if same else "accepted"})

        add(path, locate)


def require_possible(word: str, target: Target) -> None:
    """Refuse to start what has no life to go on with.

    Raises:
        Conflict: It is being deleted, or can never run as it is, and no other life is to follow.
    """
    if word == "stop" or target.row.metadata.next_id:
        return
    what, row = named(target.address), target.row
    if row.metadata.deleted_at is not None:
        raise Conflict(f"{what} is being deleted", "create it again: its next life begins once this one is gone")
    if row.status.get("status") == Status.INVALID:
        why = row.status.get("message") or row.status.get("reason")
        raise Conflict(f"{what} is invalid and can never run as it is: {why}", "change it: nebu apply --replace")


def is_so(word: str, row: Row) -> bool:
    """True when what the verb asks for is so already, or on its way."""
    if row.metadata.next_id:  # it is asked of the life that is to follow too
        return False
    status = row.status.get("status")
    if word == "stop":
        return row.metadata.deleted_at is not None or status == Status.STOPPING or (status in FINAL and not _kept(row))
    return word == "start" and status not in FINAL and status != Status.STOPPING


def _kept(row: Row) -> bool:
    """True while the machine of a failed command is kept: stop gives it back."""
    conditions: list[dict[str, Any]] = row.status.get("conditions") or []
    return any(each.get("reason") == "KeptOnFailure" for each in conditions)
