"""Every failure that Nebulous tells apart, named for what the caller does next.

    NebulousError
    ├── Unavailable            try the same again later (Temporal retries)
    │   ├── RateLimited        … after `retry_after` seconds
    │   └── NotReady           … the thing is on its way
    ├── OutOfCapacity          try the next offer
    ├── QuotaExceeded          leave `scope` alone for a while, and say which quota
    ├── AuthFailed             stop using this credential or account
    ├── Rejected               the request can never work: say what to change
    │   ├── ImageNotFound      … here, the image
    │   └── NoAccelerator      … here, what the machine's driver says
    ├── NotFound               it is gone, or never was
    ├── Conflict               somebody else holds the name, or it changed meanwhile
    │   └── PortTaken          … here, the port
    ├── Forbidden              who you are does not allow this
    └── Unauthenticated        we do not know who you are

Platforms translate their cloud's errors once, at their edge. `activities/failures.py` turns these into Temporal
failures whose `type` is the class name; `api/problems.py` maps them to HTTP. A message says what,
which (`{x!r}`) and what to do.
"""

from __future__ import annotations


class NebulousError(Exception):
    """The root: a message for people, and a hint that says what to do about it."""

    #: True when the same call may succeed later without anybody changing anything.
    transient = False

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def type(self) -> str:
        """The class name: the word that crosses wires and histories."""
        return type(self).__name__


class Unavailable(NebulousError):
    """Something is out of reach or broken for now; the same call may work later."""

    transient = True

    def __init__(self, message: str, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after  # seconds; None leaves the pace to the caller


class RateLimited(Unavailable):
    """The other side asks for a pause of `retry_after` seconds."""


class NotReady(Unavailable):
    """What was asked for is on its way; ask again in `retry_after` seconds."""


class OutOfCapacity(NebulousError):
    """This offer is sold out and nothing was rented; another offer may do."""


class QuotaExceeded(NebulousError):
    """The account may not rent more in `scope` (a region, a family, the account); nothing was rented."""

    def __init__(self, message: str, hint: str | None = None, scope: str = "") -> None:
        super().__init__(message, hint)
        self.scope = scope


class AuthFailed(NebulousError):
    """The credential is missing, wrong, expired, or belongs to another account than expected."""


class Rejected(NebulousError):
    """The specification can never work as it is; the hint says what to change."""


class ImageNotFound(Rejected):
    """No registry that we may read has this image."""


class NoAccelerator(Rejected):
    """The machine has the accelerator, and its driver does not give it to a container."""


class NotFound(NebulousError):
    """It does not exist (any more). From a platform this, and nothing else, proves absence."""


class Conflict(NebulousError):
    """It exists already with other contents, or changed since it was read."""


class PortTaken(Conflict):
    """A port that is to be public belongs to another program of that machine."""


class Forbidden(NebulousError):
    """The caller is known, and is not allowed to do this."""


class Unauthenticated(NebulousError):
    """The caller is not known: the token is missing, malformed, forged or expired."""


BY_TYPE: dict[str, type[NebulousError]] = {
    kind.__name__: kind
    for kind in (
        Unavailable,
        RateLimited,
        NotReady,
        OutOfCapacity,
        QuotaExceeded,
        AuthFailed,
        Rejected,
        ImageNotFound,
        NoAccelerator,
        NotFound,
        Conflict,
        PortTaken,
        Forbidden,
        Unauthenticated,
    )
}
