"""What an object store refuses, and what goes wrong on the way to it, in the words of this project."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from nebulous.errors import AuthFailed, NebulousError, NotFound, RateLimited, Rejected, Unavailable

WHO = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
ALLOW = "s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, s3:GetObject, s3:PutObject and \
s3:AbortMultipartUpload on what is in it"

#: The store knows no such key, or the key has expired, or signs what it may not.
BAD_KEY = frozenset(
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")
)
BUSY = frozenset(("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"))
GONE = frozenset(("NoSuchKey", "NotFound", "404"))
LOST_UPLOAD = frozenset(("NoSuchUpload", "InvalidPart", "InvalidPartOrder"))


class PastTheEnd(NotFound):
    """The file is there, and has no byte at this place."""


class UploadLost(Unavailable):
    """The upload is not there any more: a later try gave it up, or the store did. Only a new one helps."""

    @property
    def type(self) -> str:
        """In a history an unavailability like any other."""
        return "Unavailable"


_NO_CREDENTIALS = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.CredentialRetrievalError,
    exceptions.ProfileNotFound,
    exceptions.TokenRetrievalError,
    exceptions.SSOError,
)
_SILENCE = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,  # a connection that breaks, no answer in time, no trust in a certificate
    exceptions.ResponseStreamingError,
    exceptions.IncompleteReadError,
    OSError,
)


@contextmanager
def translated(place: str, bucket: str) -> Generator[None]:
    """Turn what the SDK raises into the errors of this project, with the place that it is about."""
    try:
        yield
    except ClientError as error:
        raise _refused(place, bucket, error) from error
    except _NO_CREDENTIALS as error:
        raise AuthFailed(f"no credentials for the archive {place}: {error}", WHO) from error
    except _SILENCE as error:
        hint = "check NEBU_ARCHIVE_ENDPOINT, AWS_REGION, and the network from here to there"
        raise Unavailable(f"the archive {place} does not answer: {error}", hint) from error
    except (BotoCoreError, ValueError) as error:
        raise Rejected(f"the archive {place} cannot be used: {error}", "see docs/settings.md") from error


def _refused(place: str, bucket: str, error: ClientError) -> NebulousError:
    reply = cast(dict[str, Any], error.response)
    said: dict[str, Any] = reply.get("Error") or {}
    about: dict[str, Any] = reply.get("ResponseMetadata") or {}
    code, status = str(said.get("Code") or ""), int(about.get("HTTPStatusCode") or 0)
    words = f"{code}: {said['Message']}" if said.get("Message") else code
    if code == "InvalidRange":
        return PastTheEnd(f"a log in the archive {place} is shorter than that")
    if code in GONE and error.operation_name == "GetObject":  # elsewhere it would say that there is nothing to keep
        return NotFound(f"there is no such log in the archive {place}")
    if code == "NoSuchBucket":
        return Rejected(f"there is no bucket {bucket!r} for the archive {place}", "make it, or change NEBU_ARCHIVE")
    if code in BAD_KEY:
        return AuthFailed(f"the archive {place} does not take our credentials: {words}", WHO)
    if code in BUSY or status == 429:
        return RateLimited(f"the archive {place} asks for a pause: {words}")
    if code in LOST_UPLOAD:
        return UploadLost(f"an upload to the archive {place} is gone: {words}")
    if status >= 500 or code == "RequestTimeout":
        return Unavailable(f"the archive {place} failed: {words}")
    if status in (401, 403):
        return AuthFailed(f"our credentials may not {error.operation_name} in {place}: {words}", f"allow {ALLOW}")
    return Rejected(f"the archive {place} refused {error.operation_name}: {words}", "see docs/settings.md")
