"""The catalog of accelerators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.auth import Reader
from nebulous import catalog
from nebulous.errors import Rejected
from nebulous.models.base import nearest
from nebulous.settings import CLOUDS


def router() -> APIRouter:
    """GET /v1/accelerators."""
    routes = APIRouter(prefix="/v1", tags=["accelerators"])

    @routes.get("/accelerators", name="list accelerators")
    async def accelerators(
        _: Reader,
        platform: Annotated[str | None, Query(description=f"One of {', '.join(CLOUDS)}.")] = None,
    ) -> dict[str, Any]:
        """What the known clouds, or one of them, rent out; memory in GiB."""
        if platform is not None and platform not in CLOUDS:
            guess = nearest(platform, CLOUDS)
            advice = f"did you mean {guess!r}?" if guess else f"choose one of {', '.join(CLOUDS)}"
            raise Rejected(f"the catalog knows no platform {platform[:60]!r}", advice)
        return {"accelerators": catalog.accelerators(platform)}

    return routes
