"""Who the caller is, as the published clients read it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api.auth import authenticate
from nebulous.tokens import Caller


def router() -> APIRouter:
    """GET /v1/users/me."""
    routes = APIRouter(prefix="/v1/users", tags=["users"])

    @routes.get("/me", name="who am I")
    async def me(caller: Annotated[Caller, Depends(authenticate)]) -> dict[str, Any]:
        """The caller, and the organizations with their roles."""
        return {
            "email": caller.subject,
            "display_name": caller.subject,
            "handle": caller.subject,
            "picture": None,
            "organization": caller.organization,
            "role": caller.role_in(caller.organization),
            "organizations": {
                name: {"org_name": name, "org_role": role} for name, role in sorted(caller.roles.items())
            },
            "admin": caller.admin,
        }

    return routes
