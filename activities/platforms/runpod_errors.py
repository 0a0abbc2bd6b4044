"""RunPod's refusals in our words, translated here and once.

Its API says what went wrong by status and prose (RFC 9457); only prose tells a full data centre from a broken rule,
both are 400 (runpod/docs, api-reference-v2/openapi.json, `createPod`; texts seen in public issues).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from nebulous.errors import (
    AuthFailed,
    Conflict,
    NebulousError,
    NotFound,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unavailable,
)

CAPACITY = (
    "no longer any instances available",
    "does not have the resources",
    "no instances",
    "no available",
    "not enough free",
    "out of capacity",
    "no capacity",
    "could not be placed",
    "sold out",
)
RULES = (
    "mutually exclusive",
    "exactly one",
    "must be",
    "must not",
    "is required",
    "not supported",
    "not allowed",
    "invalid",
    "exceeds",
    "unknown",
)
IN_USE = ("in use", "uses this", "being used")
PAUSE_S = 5.0  # after a 429 that names no time
KEY_ADVICE = "set RUNPOD_API_KEY, or api_key_file of the account, to a key from the RunPod console (Settings, API keys)"


def words_of(body: bytes) -> str:
    """The prose of an answer, whatever shape it has."""
    try:
        problem = json.loads(body)
    except ValueError:
        return body.decode(errors="replace").strip()[:200]
    if not isinstance(problem, dict):
        return str(problem)[:200]
    words = str(problem.get("detail") or problem.get("title") or problem.get("message") or "")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    errors = problem.get("errors")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    faults = "; ".join(map(str, errors)) if isinstance(errors, list) else ""  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return f"{words}: {faults}" if faults else words


def refusal(status: int, body: bytes, headers: Mapping[str, str], what: str) -> NebulousError:
    """What an answer that is no success means for any call; `renting` refines it for a create.

    Args:
        status: HTTP status.
        body: As it came.
        headers: Names in lower case, or a mapping that does not care.
        what: The call in words, such as `listing pods`.
    """
    said = words_of(body)
    told = f"RunPod refuses {what}: {said or status}"
    if status == 429:
        return RateLimited(told, "RunPod's limits are per user: 60 a minute in its example", pause(headers))
    if status >= 500 or status == 408:
        return Unavailable(f"RunPod fails at {what}: {status} {said}".rstrip())
    known: dict[int, Callable[[], NebulousError]] = {
        401: lambda: AuthFailed(f"RunPod does not accept the key ({said or 'unauthorized'})", KEY_ADVICE),
        402: lambda: QuotaExceeded(told, "top up the balance at RunPod: it wants an hour of credit"),
        403: lambda: AuthFailed(told, "give the key this permission in the RunPod console, or make one that may all"),
        404: lambda: NotFound(told),
        409: lambda: Conflict(told),
        422: lambda: Rejected(told, "RunPod's API does not take such a request: is it newer than this release?"),
    }
    make = known.get(status)
    return make() if make else Rejected(told, "change what RunPod names here")


def renting(status: int, body: bytes, headers: Mapping[str, str], scope: str) -> NebulousError:
    """What the refusal of a create means: 400 is a rule or no room, told apart by its text; 403 is this offer only."""
    said = words_of(body)
    low = said.lower()
    if status == 403:
        return QuotaExceeded(f"RunPod does not rent this to the account: {said}", "ask RunPod for access", scope)
    if status != 400:
        return refusal(status, body, headers, "renting a pod")
    if not any(text in low for text in CAPACITY) and any(text in low for text in RULES):
        return Rejected(f"RunPod refuses the pod: {said}", "change what RunPod names here")
    # A text that was never seen before: RunPod's own advice is the next candidate. Its words are kept.
    error = OutOfCapacity(f"RunPod has no room: {said}", "if every offer answers so, it is the request that is wrong")
    error.lasting = any(text in low for text in CAPACITY)  # else others need not heed it
    return error


def pause(headers: Mapping[str, str]) -> float:
    """How long a 429 asks to wait, in seconds."""
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return PAUSE_S
