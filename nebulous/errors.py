"""Every failure that Nebulous tells apart, named for what the caller does next.

    NebulousError
    ├── Unavailable            try the same again later (Temporal retries)
    │   ├── RateLimited        … after `retry_after` seconds
    │   ├── NotReady           … the thing is on its way
    │   ├── KeyMissing         … once its process has the key that Temporal's payloads were encrypted with
    │   └── Unreachable        … once the server can be reached: start it, or check its address
    ├── OutOfCapacity          try the next offer
    ├── QuotaExceeded          leave `scope` alone for a while, and say which quota
    ├── AuthFailed             stop using this credential or account
    ├── Rejected               the request can never work: say what to change
    │   ├── ImageNotFound      … here, the image
    │   ├── NoAccelerator      … here, what the machine's driver says
    │   ├── InvalidRequest     … here, the fields that `problems` names
    │   └── PartlyCopied       … here, nothing: all but `left_out` is copied
    ├── NotFound               it is gone, or never was
    ├── Conflict               somebody else holds the name, or it changed meanwhile
    │   └── PortTaken          … here, the port
    ├── Ended                  what was waited for can no longer come: look at why it ended
    │   └── CommandFailed      … here, an `exec` that was to end with 0: its `exit_code`, `stdout` and `stderr`
    ├── Forbidden              who you are does not allow this
    └── Unauthenticated        we do not know who you are

What a client makes of the API's answers: 401 Unauthenticated · 403 Forbidden · 404 NotFound · 409 Conflict · 413, 422
and other 4xx Rejected, or InvalidRequest where fields are named · 429 RateLimited or QuotaExceeded · 503 and other 5xx
Unavailable · no answer Unreachable. Waiting that takes too long is NotReady.

Platforms translate their cloud's errors once, at their edge. `activities/failures.py` turns these into Temporal
failures whose `type` is the class name; `api/problems.py` maps them to HTTP. A message says what,
which (`{x!r}`) and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class NebulousError(Exception):
    """The root: a message for people, and a hint that says what to do about it."""

    #: True when the same call may succeed later without anybody changing anything.
    transient = False
    #: False when it says something of this one request only, so that others need not heed it.
    lasting = True

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # a program's traceback shows it

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

    #: Those that the typed client waited for in vain, as last seen; its class is beyond this module's reach.
    containers: Sequence[Any] = ()


class KeyMissing(Unavailable):
    """What Temporal holds cannot be read with the keys that this process has."""


class Unreachable(Unavailable):
    """No answer from the server at all."""


class OutOfCapacity(NebulousError):
    """This offer is sold out and nothing was rented; another offer may do."""


class QuotaExceeded(NebulousError):
    """The account may not rent more in `scope`; nothing was rented.

    A scope is the account, or parts of an offer as `Offer.within` reads them: `us-east-1`, `us-east-1/p/spot`.
    """

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


class InvalidRequest(Rejected):
    """What was asked for is wrong; `problems` holds a path, such as `["env_vars", 0, "key"]`, and words for each fault.

    Raised for what the API found, and before anything is sent for what the models tell by themselves.
    """

    def __init__(
        self, message: str, hint: str | None = None, problems: Sequence[tuple[list[str | int], str]] = ()
    ) -> None:
        super().__init__(message, hint)
        self.problems = list(problems)


class PartlyCopied(Rejected):
    """Entries that would have left the target of a copy were left out: `left_out` says which and why."""

    def __init__(self, message: str, hint: str | None = None, left_out: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.left_out = list(left_out)


class NotFound(NebulousError):
    """It does not exist (any more). From a platform this, and nothing else, proves absence."""


class Conflict(NebulousError):
    """It exists already with other contents, or changed since it was read."""


class PortTaken(Conflict):
    """A port that is to be public belongs to another program of that machine."""


class Ended(NebulousError):
    """What was waited for can no longer come."""

    #: The one that ended, as last seen, where the typed client waited for it.
    containers: Sequence[Any] = ()


class CommandFailed(Ended):
    """A command in a container ended with another exit code than 0, and was to be checked."""

    def __init__(
        self, message: str, hint: str | None = None, exit_code: int = 1, stdout: bytes = b"", stderr: bytes = b""
    ) -> None:
        super().__init__(message, hint)
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr


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
        KeyMissing,
        Unreachable,
        OutOfCapacity,
        QuotaExceeded,
        AuthFailed,
        Rejected,
        ImageNotFound,
        NoAccelerator,
        InvalidRequest,
        PartlyCopied,
        NotFound,
        Conflict,
        PortTaken,
        Ended,
        CommandFailed,
        Forbidden,
        Unauthenticated,
    )
}
