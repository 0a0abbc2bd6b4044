"""Bearer tokens: signed (JWT, HS256), they carry who calls, for which organizations, and in which role."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import jwt

from nebulous import ids, keys
from nebulous.errors import NotFound, Unauthenticated
from nebulous.settings import Settings

Role = Literal["viewer", "member", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "member", "admin")  # each may do what those before it may

ISSUER = "nebulous"
_ALGORITHM = "HS256"
_LEEWAY = timedelta(seconds=30)  # clocks of API processes differ a little
CODEC = "codec"  # the audience of tokens that only show payloads; without an audience a token is for the whole API
_SHORTEST_KEY = 32  # bytes; RFC 7518 §3.2 asks for as much as the hash has


@dataclass(frozen=True)
class Caller:
    """Who calls. Organizations are in lower case; `admin` is of the whole server."""

    subject: str
    organization: str = ids.LOCAL_ORGANIZATION
    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    admin: bool = False

    def role_in(self, organization: str) -> Role | None:
        """The role in an organization, compared without case; None for a stranger."""
        return self.roles.get(organization.lower())


def local_admin() -> Caller:
    """Whom `nebu serve` makes a token for: admin of this server and of its organization `local`."""
    return Caller("admin", ids.LOCAL_ORGANIZATION, {ids.LOCAL_ORGANIZATION: "admin"}, admin=True)


def signing_key(settings: Settings, *, make: bool = True) -> bytes:
    """The key of this server's tokens: the setting, else a file under the data directory, made once.

    Args:
        settings: Of the server.
        make: False never makes a key: only who serves may, for a token under a new key is good nowhere.

    Raises:
        ValueError: The setting is too short to be safe.
        NotFound: There is none, and none was to be made.
    """
    if settings.signing_key is None:
        kept = settings.data / "keys" / "signing"
        if not make and not kept.exists():
            raise NotFound(
                f"there is no signing key here: NEBU_SIGNING_KEY is not set, and {str(kept)!r} does not exist",
                "tokens are made where the API runs, with its settings: docker compose exec api nebu token create …",
            )
        return keys.kept(kept)
    key = settings.signing_key.encode()
    if len(key) < _SHORTEST_KEY:
        raise ValueError(f"NEBU_SIGNING_KEY has {len(key)} bytes; it needs {_SHORTEST_KEY}: try `openssl rand -hex 32`")
    return key


def mint(key: bytes, caller: Caller, ttl: timedelta, audience: str | None = None) -> str:
    """Sign a token for the caller that expires after `ttl`; one with an audience is good for that alone."""
    now = time.time()
    claims = {
        "iss": ISSUER,
        "sub": caller.subject,
        "org": caller.organization.lower(),
        "orgs": {name.lower(): role for name, role in caller.roles.items()},
        "adm": caller.admin,
        "iat": int(now),
        "exp": int(now + ttl.total_seconds()),
        **({"aud": audience} if audience else {}),
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def read(key: bytes, token: str, audience: str | None = None) -> Caller:
    """Return the caller whom the token names.

    Raises:
        Unauthenticated: It is no token of this server, is for something else, was changed, or has expired.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            issuer=ISSUER,
            audience=audience,
            leeway=_LEEWAY,
            options={"require": ["exp", "iat", "sub", "iss"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("the token has expired", "run `nebu login` to get a new one") from error
    except (jwt.InvalidTokenError, ValueError) as error:  # ValueError: bytes that are no text
        raise Unauthenticated(
            "the token is not one of this server's",
            "run `nebu login`, or set NEBU_API_KEY to a token of this server",
        ) from error
    return _caller(claims)


def _caller(claims: dict[str, Any]) -> Caller:
    """The claims of a token that we signed; a role that this version does not know gives no rights."""
    granted: dict[str, Role] = claims.get("orgs") or {}
    roles: dict[str, Role] = {name.lower(): role for name, role in granted.items() if role in ROLES}
    organization = claims.get("org") or next(iter(roles), "")
    return Caller(str(claims["sub"]), str(organization).lower(), roles, claims.get("adm") is True)
