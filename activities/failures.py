"""Failures on their way through Temporal: an error's class name is the wire's word for it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from temporalio import activity, exceptions
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    FailureError,
    TimeoutType,
)

from nebulous import errors
from nebulous.errors import NebulousError, QuotaExceeded, Unavailable

LONGEST_MESSAGE = 500  # failures over about 4 kB are cut by the server; messages are for people anyway


@contextmanager
def translated() -> Generator[None]:
    """Turn a NebulousError into the Temporal failure that the workflow understands."""
    try:
        yield
    except NebulousError as error:
        wait = error.retry_after if isinstance(error, Unavailable) else None
        raise ApplicationError(
            error.message[:LONGEST_MESSAGE],
            {
                "hint": error.hint,
                "scope": error.scope if isinstance(error, QuotaExceeded) else "",
                "tries": activity.info().attempt if activity.in_activity() else 1,
            },
            type=error.type,
            non_retryable=not error.transient,
            next_retry_delay=timedelta(seconds=wait) if wait is not None else None,
            category=ApplicationErrorCategory.BENIGN,  # an answer, not a defect: no stack traces in the log
        ) from error


@dataclass(frozen=True)
class Failure:
    """Why an activity failed, as the workflow decides on it."""

    type: str  # a class name of nebulous.errors, NoWorker, or Unknown
    message: str
    hint: str = ""
    scope: str = ""
    tries: int = 0  # how often it was tried; 0 is unknown
    answered: bool = False  # the activity itself said so; else nobody knows what it did

    def isa(self, *kinds: type[NebulousError]) -> bool:
        """True when the error is one of these, or more special than one of these."""
        known = errors.BY_TYPE.get(self.type)
        return known is not None and issubclass(known, kinds)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @classmethod
    def of(cls, error: FailureError) -> Failure:
        """Read the failure back from what Temporal raises in a workflow; local activities come without a wrapper."""
        cause: BaseException | None = error.cause if isinstance(error, ActivityError) else error
        if isinstance(cause, exceptions.TimeoutError):
            if cause.type == TimeoutType.SCHEDULE_TO_START:
                return cls("NoWorker", "no worker process serves this platform: start `nebu worker` on its host")
            last = cause.cause
            if isinstance(last, ApplicationError):
                return replace(cls._said(last), answered=False)
        if isinstance(cause, ApplicationError):
            return cls._said(cause)
        return cls("Unavailable", str(cause or error))

    @classmethod
    def _said(cls, cause: ApplicationError) -> Failure:
        detail: Any = cause.details[0] if cause.details else {}
        known = cast(dict[str, Any], detail) if isinstance(detail, dict) else {}
        named = cause.type in errors.BY_TYPE
        return cls(
            str(cause.type) if named else "Unknown",
            cause.message if named else f"{cause.type}: {cause.message}",
            str(known.get("hint") or ""),
            str(known.get("scope") or ""),
            int(known.get("tries") or 0),
            answered=True,
        )
