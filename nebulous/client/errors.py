"""The errors that only a client has; all others are those of `nebulous.errors`, as the API names them.

    NebulousError
    ├── Unavailable
    │   └── Unreachable        the server does not answer at all: start it, or check its address
    ├── Rejected
    │   └── InvalidRequest     … and `problems` says where in what was sent, and why
    └── Ended                  what was waited for can no longer come: look at why it ended

What each of the API's answers becomes: 401 Unauthenticated · 403 Forbidden · 404 NotFound · 409 Conflict ·
413, 422 and other 4xx Rejected (InvalidRequest where fields are named) · 429 RateLimited or QuotaExceeded ·
503 and other 5xx Unavailable. Waiting that takes too long is NotReady.
"""

from __future__ import annotations

from collections.abc import Sequence

from nebulous.errors import NebulousError, Rejected, Unavailable

#: Where a problem is: `["env_vars", 0, "key"]`, and what it is.
FoundProblem = tuple[list[str | int], str]


class Unreachable(Unavailable):
    """No answer from the server at all."""


class InvalidRequest(Rejected):
    """What was asked for is wrong; `problems` holds a path and a message for each fault.

    Raised for what the API found, and before anything is sent for what the models tell by themselves.
    """

    def __init__(self, message: str, hint: str | None, problems: Sequence[FoundProblem]) -> None:
        super().__init__(message, hint)
        self.problems = list(problems)


class Ended(NebulousError):
    """What was waited for can no longer come."""
