"""Who calls, for which organization, and what that allows.

Every route takes `?owner=`; without it the token's own organization is meant. An organization that is not the
caller's does not exist, as far as the caller is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from starlette.requests import HTTPConnection

from api.services import Services, Uses
from nebulous import ids, tokens
from nebulous.errors import Forbidden, NotFound, Rejected, Unauthenticated
from nebulous.tokens import ROLES, Caller, Role

LOGIN = "run `nebu login`, or send a token: `Authorization: Bearer …`"


@dataclass(frozen=True)
class Access:
    """A caller, and what they may do where."""

    caller: Caller
    owner: str | None  # what `?owner=` said
    everywhere: bool  # the local admin, whose first use of an organization makes it

    @property
    def organization(self) -> str:
        """The organization that this request is about."""
        return self.owner or self.caller.organization

    def role_in(self, organization: str) -> Role | None:
        """The role in an organization; None for a stranger."""
        return "admin" if self.everywhere else self.caller.role_in(organization)

    def organizations(self) -> list[str] | None:
        """Where to look for something whose organization was not said; None is everywhere."""
        if self.owner:
            return [self.owner]
        return None if self.everywhere else sorted(self.caller.roles)

    def require(self, organization: str, least: Role) -> None:
        """Let pass who has at least this role.

        Raises:
            NotFound: The organization is not the caller's. Forbidden: the role does not reach.
        """
        role = self.role_in(organization)
        if role is None:
            raise NotFound(
                f"there is no organization {organization!r} that you belong to",
                f"create it (`nebu create organization {organization}`), or ask one of its admins to invite you",
            )
        if ROLES.index(role) < ROLES.index(least):
            raise Forbidden(f"you are {role} of {organization!r}; this needs {least}", "ask one of its admins")


def authenticate(request: HTTPConnection, uses: Uses) -> Caller:
    """Who calls, by the bearer token.

    Raises:
        Unauthenticated: There is no valid token.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("this needs a token", LOGIN)
    return tokens.read(uses.signing_key, token.strip())


def _access(request: HTTPConnection, uses: Uses, owner: str | None) -> Access:
    caller = authenticate(request, uses)
    access = Access(caller, owner or None, everywhere=caller.admin and uses.settings.loopback)
    try:
        if owner:
            ids.check_name(owner, "owner")
    except ValueError as error:
        raise Rejected(str(error)) from error
    access.require(access.organization, "viewer")
    return access


Owner = Annotated[str | None, Query(description="Organization; default the token's own.")]


def reader(request: HTTPConnection, uses: Uses, owner: Owner = None) -> Access:
    """Any member of the organization."""
    return _access(request, uses, owner)


def creator(request: HTTPConnection, uses: Uses, owner: Owner = None) -> Access:
    """Whoever may change things somewhere; the body says where, and is checked against it."""
    access = _access(request, uses, owner)
    if owner or not any(role != "viewer" for role in access.caller.roles.values()):
        access.require(access.organization, "member")
    return access


def operator(request: HTTPConnection, uses: Uses) -> Caller:
    """The admin of this server."""
    caller = authenticate(request, uses)
    if not caller.admin:
        raise Forbidden("this is for admins of the server", "ask whoever runs `nebu serve`")
    return caller


Reader = Annotated[Access, Depends(reader)]
Creator = Annotated[Access, Depends(creator)]
Operator = Annotated[Caller, Depends(operator)]


async def first_use(uses: Services, access: Access, organization: str) -> str | None:
    """The notice for the local admin's first write in an organization, which makes it; else None."""
    folded = organization.lower()
    if access.caller.role_in(folded) or folded in uses.known_organizations:
        return None
    uses.known_organizations.add(folded)
    if await uses.store.lists.occupied(folded):
        return None
    return f"organization {organization!r} is new: it was made by this first use"
