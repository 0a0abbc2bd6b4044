"""What Google Compute Engine says when it refuses, translated once: HTTP errors, and those that stand in operations.

Words and what they mean: research of November 2026, from Google's documentation and what other projects met. A full
zone and a full quota are mostly told by the *operation* of an accepted insert, not by its answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

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

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.compute_v1 import Errors, Operation

CAPACITY = frozenset(
    {
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "REGION_RESOURCE_POOL_EXHAUSTED",
        "GPU_STOCKOUT",
        "insufficientCapacity",
        "UNSUPPORTED_OPERATION",  # seen where a spot machine was taken back while it was being made
        "RESOURCE_NOT_READY",
    }
)
QUOTA = frozenset({"QUOTA_EXCEEDED", "quotaExceeded"})
RATE = frozenset(
    {"RESOURCE_OPERATION_RATE_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
)
AUTH = frozenset(
    {"IAM_PERMISSION_DENIED", "forbidden", "accessNotConfigured", "authError", "required", "SERVICE_DISABLED"}
)
NO_NETWORK, NO_SUBNET = "VPC_NOT_FOUND", "SUBNET_NOT_FOUND_FOR_VPC"
PERMANENT = frozenset(
    {"invalid", "INVALID_FIELD_VALUE", "resourceNotFound", "RESOURCE_NOT_FOUND", "conditionNotMet", "badRequest"}
)

NOT_OPEN = (
    "access is unauthorized"  # "Location X is not found or access is unauthorized": a zone that is not ours to use
)
POLICY = "Policy update access denied"
SMALL_DISK = "cannot be smaller than the image size"
WHOLE_PROJECT = ("_ALL_REGIONS", "globally")  # in what a quota says of itself

PAUSE_S = 5.0  # where Google names none
SKEW_S = 300.0  # a signature older, or younger, than this is refused


@dataclass(frozen=True)
class Where:
    """What an error is about: the scopes that may be blocked, and words for people."""

    account: str
    project: str = ""
    region: str = ""
    zone: str = ""
    thing: str = ""  # what was asked for, for example `a2-highgpu-1g`

    def __str__(self) -> str:
        place = self.zone or self.region or self.project or "Google Compute Engine"
        return f"{self.thing} in {place}" if self.thing else place


@dataclass(frozen=True)
class Told:
    """An error as Google told it, by whichever way."""

    codes: tuple[str, ...]
    message: str
    status: int | None = None
    in_operation: bool = False
    retry_after: float | None = None
    skew_s: float = 0.0  # by how much our clock differs from Google's


def translate(error: Exception, where: Where) -> NebulousError:
    """Say what an exception of the SDK, of its sessions or of its credentials means for the caller."""
    from google.api_core.exceptions import GoogleAPICallError  # here: loads slowly
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import RequestException

    if isinstance(error, NebulousError):
        return error
    if isinstance(error, GoogleAPICallError):
        return meaning(_told(error), where)
    if isinstance(error, (RequestException, TransportError)):
        return Unavailable(f"Google Compute Engine does not answer: {error}", "look at the connection of the worker")
    if isinstance(error, GoogleAuthError) and error.retryable:  # the token service fails, and says so
        return Unavailable(f"Google's token service does not answer: {error}", "try again")
    if isinstance(error, GoogleAuthError):
        return AuthFailed(
            f"Google refuses the credentials of {where.account}: {error}", _credentials_advice(str(error))
        )
    return Unavailable(f"{where}: {type(error).__name__}: {error}")


def of_operation(operation: Operation, where: Where) -> NebulousError | None:
    """The error that an operation ended with, translated; None where it has none."""
    errors = list(cast("Iterable[Errors]", operation.error.errors))
    status = operation.http_error_status_code or None
    if not errors and not status:
        return None
    codes = tuple(each.code for each in errors)
    words = "; ".join(each.message for each in errors if each.message) or operation.http_error_message
    return meaning(Told(codes, words, status, in_operation=True), where)


def meaning(told: Told, where: Where) -> NebulousError:
    """The table: capacity, quota, rate, credential, network, what can never work, and what nobody knows."""
    words = f"{where}: {told.message}" if where.thing else told.message
    if CAPACITY.intersection(told.codes) or NOT_OPEN in told.message:
        return OutOfCapacity(words)
    if QUOTA.intersection(told.codes):
        return _quota(told, words, where)
    if RATE.intersection(told.codes) or told.status == 429:
        return RateLimited(words, retry_after=told.retry_after or PAUSE_S)
    if NO_SUBNET in told.codes:
        return OutOfCapacity(
            words, f"make a subnet of the account's network in {where.region}, or leave the region out"
        )
    if NO_NETWORK in told.codes:
        return AuthFailed(words, f"set network for {where.account} to a VPC network of the project")
    if told.status == 401 or AUTH.intersection(told.codes) or told.status == 403 or POLICY in told.message:
        return AuthFailed(words, _auth_advice(told, where))
    return _by_status(told, words)


def _by_status(told: Told, words: str) -> NebulousError:
    if SMALL_DISK in told.message:
        return Rejected(words, "ask for a larger disk:")
    if told.status == 409 and not told.in_operation:
        return Conflict(words)
    if told.status == 404 and not told.in_operation:
        return NotFound(words)
    if told.in_operation and told.status in (409, 503):  # deleted while it was being made; no room for it
        return OutOfCapacity(words)
    if PERMANENT.intersection(told.codes) or (told.status is not None and 400 <= told.status < 500):
        return Rejected(words)
    return Unavailable(words, retry_after=told.retry_after)  # an error that nobody knows is never "no capacity"


def _quota(told: Told, words: str, where: Where) -> QuotaExceeded:
    whole = any(word in told.message for word in WHOLE_PROJECT)
    page = f"https://console.cloud.google.com/iam-admin/quotas?project={where.project}"
    scope = where.account if whole or not where.region else where.region
    return QuotaExceeded(words, f"ask Google for more at {page}", scope)


def _auth_advice(told: Told, where: Where) -> str:
    if abs(told.skew_s) > SKEW_S:
        way = "ahead of" if told.skew_s > 0 else "behind"
        return f"this worker's clock is {abs(told.skew_s) / 60:.0f} minutes {way} Google's: set it right"
    if "accessNotConfigured" in told.codes or "SERVICE_DISABLED" in told.codes:
        return f"enable the Compute Engine API in project {where.project}"
    if told.status == 401:
        return f"check the key of {where.account}: it may have been revoked"
    return "give the service account the role of docs/clouds.md; `nebu doctor` lists what is missing"


def _credentials_advice(words: str) -> str:
    if "reasonable timeframe" in words:  # how Google's token service refuses a signature of another time
        return "this worker's clock is wrong: set it right"
    return "set credentials for the account, or GOOGLE_APPLICATION_CREDENTIALS, to the JSON key of a service account"


def _told(error: GoogleAPICallError) -> Told:
    details = [each for each in cast("list[dict[str, object]]", error.errors or []) if isinstance(each, dict)]
    reasons = [str(each.get("reason", "")) for each in details]
    texts = [str(each.get("message", "")) for each in details]
    headers: dict[str, str] = getattr(cast("object", error.response), "headers", None) or {}
    pause = headers.get("Retry-After", "")
    return Told(
        codes=tuple(reason for reason in (*reasons, cast("str | None", error.reason) or "") if reason),
        message=next(filter(None, texts), cast("str", error.message)),
        status=int(error.code) if error.code else None,
        retry_after=float(pause) if pause.isdigit() else None,
        skew_s=_skew(headers.get("Date", "")),
    )


def _skew(date: str) -> float:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return 0.0
