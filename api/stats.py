"""GET …/stats: what a running container uses at this moment, asked of its platform's worker."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.containers import KIND
from api.output import View, view_of
from api.resources import Target, locators
from api.services import Services, Uses
from nebulous import ids, sessions
from nebulous.errors import Conflict, Rejected
from nebulous.models.containers import FINAL
from nebulous.models.platforms import Feature, Usage
from nebulous.sessions import SessionRequest


def router() -> APIRouter:
    """Stats by id and by name."""
    routes = APIRouter(prefix=f"/v1/{KIND.plural}", tags=[KIND.plural])
    by_id, by_name = locators(KIND)

    @routes.get("/{id}/stats", name="stats")
    async def stats_by_id(uses: Uses, target: Annotated[Target, Depends(by_id)]) -> dict[str, Any]:
        """What it uses; as by name."""
        return await _measured(uses, target)

    @routes.get("/{namespace}/{name}/stats", name="stats")
    async def stats_by_name(uses: Uses, target: Annotated[Target, Depends(by_name)]) -> dict[str, Any]:
        """Processors in percent of one, memory in bytes, accelerators where the machine tells."""
        return await _measured(uses, target)

    return routes


async def _measured(uses: Services, target: Target) -> dict[str, Any]:
    """Ask the worker.

    Raises:
        Conflict: Nothing runs. Rejected: the platform does not tell. Unavailable: no worker answers.
    """
    view = view_of(target.row)
    if not view.rental or view.status.get("status") != "running":
        raise _idle(target, view)
    for report in await uses.reports.all():
        if report.account == view.account and Feature.STATS not in report.features:
            raise Rejected(f"platform {report.platform!r} does not tell what a container uses", "look with `nebu logs`")
    request = SessionRequest(kind="stats", key=view.rental)
    found = await sessions.answer(uses.redis, ids.platform_queue(view.account), request)
    return Usage.model_validate(found).model_dump(mode="json")


def _idle(target: Target, view: View) -> Conflict:
    status, name = str(view.status.get("status")), target.row.metadata.name
    over = status in FINAL
    hint = f"what came of it: nebu describe {name}" if over else f"wait for it: nebu wait {name} --for running"
    return Conflict(f"container {name!r} is {status}: nothing runs that could be measured", hint)
