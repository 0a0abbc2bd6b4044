"""What Amazon's errors mean to us: translated here, by the code, and nowhere else.

The table is that of the EC2 API Reference ("Error codes for the Amazon EC2 API") and of what launches were seen to
answer. A code that is in none of its rows is `Unavailable`: we do not know that nothing was rented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from nebulous.errors import (
    AuthFailed,
    NebulousError,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unavailable,
)
from nebulous.models.platforms import Offer


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The last three say that the account has no network there: another region may have one.
CAPACITY = _words("""
    InsufficientInstanceCapacity InsufficientHostCapacity InsufficientReservedInstanceCapacity InsufficientCapacity
    UnfulfillableCapacity ReservationCapacityExceeded Unsupported SpotMaxPriceTooLow VolumeTypeNotAvailableInZone
    InsufficientVolumeCapacity InsufficientFreeAddressesInSubnet InsufficientAddressCapacity InvalidInstanceType
    InvalidInstanceType.NotFound InvalidSubnetID.NotFound InvalidSubnet VPCIdNotSpecified
""")
QUOTA = _words("""
    VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded VolumeLimitExceeded AddressLimitExceeded
    SecurityGroupLimitExceeded RulesPerSecurityGroupLimitExceeded SecurityGroupsPerInterfaceLimitExceeded
    NetworkInterfaceLimitExceeded MaxIOPSLimitExceeded
""")
THROTTLE = _words("""
    RequestLimitExceeded Throttling ThrottlingException ThrottledException TooManyRequestsException
    SnapshotCreationPerVolumeRateExceeded
""")
CLOCK = frozenset(("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"))
FORBIDDEN = frozenset(("UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "UnauthorizedAccess"))
EXPIRED = frozenset(("ExpiredToken", "ExpiredTokenException"))
NOT_OPEN = frozenset(("OptInRequired", "PendingVerification", "Blocked", "SubscriptionRequired"))
UNKNOWN_KEY = _words("""
    AuthFailure InvalidClientTokenId UnrecognizedClientException SignatureDoesNotMatch InvalidAccessKeyId
    IncompleteSignature MissingAuthenticationToken InvalidSignatureException
""")
#: What may be one region's fault: it is not enabled for the account, or its organization forbids it.
REGIONAL = frozenset(("OptInRequired", "AuthFailure"))
PERMANENT = re.compile(
    r"Invalid(?!InstanceID|Group\.NotFound)|Missing|Malformed|UnsupportedOperation|UnknownParameter"
    r"|OperationNotPermitted|ValidationError|BlockDeviceMapping"
)
#: Of these only a launch is judged: what a read is refused for is not the container's fault.
LAUNCH = "RunInstances"

SERVICES = {"service-quotas": "servicequotas"}  # where the name in IAM is another


@dataclass(frozen=True)
class Quota:
    """A limit of an account in a region, by its code in Service Quotas."""

    code: str
    name: str


#: By the letters that instance types begin with: on demand, spot.
QUOTAS = {
    "g": (
        Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
        Quota("L-3819A6DF", "All G and VT Spot Instance Requests"),
    ),
    "p": (
        Quota("L-417A185B", "Running On-Demand P instances"),
        Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
    ),
    "p5": (
        Quota("L-417A185B", "Running On-Demand P instances"),
        Quota("L-C4BD4855", "All P5 Spot Instance Requests"),
    ),
    "inf": (
        Quota("L-1945791B", "Running On-Demand Inf instances"),
        Quota("L-B5D1601B", "All Inf Spot Instance Requests"),
    ),
    "trn": (
        Quota("L-2C3B7624", "Running On-Demand Trn instances"),
        Quota("L-6B0D517C", "All Trn Spot Instance Requests"),
    ),
    "": (
        Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
        Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
    ),
}


def quota(instance_type: str, spot: bool) -> Quota:
    """The quota that counts the processors of such machines."""
    family = instance_type.partition(".")[0]
    letters = re.match("[a-z]*", family)
    for prefix in ("p5", letters.group() if letters else "", family[:1]):
        if prefix in QUOTAS and family.startswith(prefix):
            return QUOTAS[prefix][spot]
    return QUOTAS[""][spot]


def code(error: BaseException | None) -> str:
    """Amazon's word for an error that `translate` made, or for the SDK's own; "" where it has none."""
    if error is None:
        return ""
    response: Any = getattr(error, "response", None)
    return code(error.__cause__) if response is None else str(response.get("Error", {}).get("Code", ""))


def translate(error: Exception, service: str, operation: str, region: str, offer: Offer | None = None) -> NebulousError:
    """Name what an error of the SDK means for the caller's next move."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        response: Any = cast(Any, error).response
        details: dict[str, Any] = response.get("Error", {})
        said = Said(
            code=str(details.get("Code", "")),
            message=_short(str(details.get("Message") or "no message")),
            service=service,
            operation=operation,
            region=region,
            status=int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
        )
        return of(said, offer)
    if isinstance(error, BotoCoreError):
        return _of_sdk(error, service, operation, region)
    return Unavailable(f"{service} in {region} could not be asked ({operation}): {error}")


@dataclass(frozen=True)
class Said:
    """An error as the service worded it."""

    code: str
    message: str
    region: str
    service: str = "ec2"
    operation: str = LAUNCH
    status: int = 0

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.service} in {self.region}: {self.message} ({self.code or self.status})"

    @property
    def action(self) -> str:
        """The permission that the call needs, as IAM calls it."""
        named = re.search(r"(?:not authorized to perform|permission to call):? ([a-z0-9-]+:\w+)", self.message)
        return named.group(1) if named else f"{SERVICES.get(self.service, self.service)}:{self.operation}"


def of(said: Said, offer: Offer | None = None) -> NebulousError:
    """The error for what a service said."""
    if said.code in THROTTLE or said.status == 429:
        return RateLimited(said.text)
    if refused := _auth(said):
        return refused
    if said.operation == LAUNCH and (refused := _launch(said, offer)):
        return refused
    if said.code in QUOTA:
        return QuotaExceeded(said.text, _more_of(said, offer), scope=said.region)
    return Unavailable(said.text)


def of_reason(reason: dict[str, str], region: str, offer: Offer) -> NebulousError:
    """Why a machine died before it ran, from its StateReason: `Server.InsufficientInstanceCapacity`.

    It is over, so even a reason that is not in the table leaves nothing rented: the next offer may do.
    """
    word = reason.get("Code", "").partition(".")[2]
    said = Said(word, reason.get("Message", "") or "it ended before it ran", region)
    found = _launch(said, offer) or (_auth(said) if word else None)
    return found or OutOfCapacity(f"{offer.place}: {said.message} ({reason.get('Code') or 'no reason given'})")


def closes_region(error: NebulousError) -> bool:
    """True for a refusal that may concern this region only."""
    return code(error) in REGIONAL or forbidden_by_organization(error)


def forbidden_by_organization(error: NebulousError) -> bool:
    """True where a policy of the account's organization says no, which it mostly does by region."""
    return code(error) in FORBIDDEN and "service control policy" in error.message


def _launch(said: Said, offer: Offer | None) -> NebulousError | None:
    place = offer.place if offer else said.region
    if said.code in CAPACITY:
        hint = "set `subnets` for the account, or make a default VPC" if "ubnet" in said.code + said.message else None
        return OutOfCapacity(f"{place} is not to be had: {said.message} ({said.code})", hint)
    if said.code in QUOTA:
        return QuotaExceeded(f"{place}: {said.message} ({said.code})", _more_of(said, offer), scope=said.region)
    if "smaller than snapshot" in said.message:
        size = re.search(r">= ?(\d+) ?Gi?B", said.message)
        least = f"at least {size.group(1)} GiB" if size else "more"
        return Rejected(f"the disk is smaller than the machine's image: {said.message}", f"ask for {least}: disk")
    if said.code != "IdempotentParameterMismatch" and PERMANENT.match(said.code):
        return Rejected(f"{place}: {said.message} ({said.code})", "see the message; the machine can never be had so")
    return None


def _auth(said: Said) -> AuthFailed | None:
    """The error for a credential that is not taken, with what to do."""
    skewed = re.search(r"Signature (expired|not yet current)", said.message)
    if said.code in CLOCK or skewed:
        return AuthFailed(said.text, "this machine's clock is wrong: set it (chronyc makestep, or timedatectl)")
    if said.code in FORBIDDEN:
        return AuthFailed(said.text, f"allow {said.action}; docs/clouds.md has a policy with all that is needed")
    if said.code in EXPIRED:
        return AuthFailed(said.text, "the session has expired: log in again (aws sso login), or make new keys")
    if said.code in NOT_OPEN:
        return AuthFailed(said.text, f"open {said.region} or the service for the account in Amazon's console")
    if said.code in UNKNOWN_KEY:
        return AuthFailed(
            said.text, "check the access key and its secret, or the profile: `aws sts get-caller-identity`"
        )
    return None


def _more_of(said: Said, offer: Offer | None) -> str:
    if offer and said.code in ("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"):
        limit = quota(offer.instance_type, offer.spot)
        return f"ask for more of {limit.code} ({limit.name}) in {said.region}, under Service Quotas"
    return f"give back what is not needed in {said.region}, or ask for more under Service Quotas"


def _of_sdk(error: Exception, service: str, operation: str, region: str) -> NebulousError:
    from botocore import exceptions as sdk

    missing = (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError, sdk.NoAuthTokenError)
    expired = (sdk.SSOError, sdk.TokenRetrievalError, sdk.UnauthorizedSSOTokenError)
    text = f"{service} in {region}: {_short(str(error))}"
    if isinstance(error, sdk.ProfileNotFound):
        return AuthFailed(text, "`profile` of the account must be one of ~/.aws/config")
    if isinstance(error, expired):
        return AuthFailed(text, "log in again: aws sso login")
    if isinstance(error, missing):
        keys = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `profile` of the account"
        return AuthFailed(f"no credentials for Amazon EC2: {_short(str(error))}", keys)
    if isinstance(error, sdk.ParamValidationError) and operation == LAUNCH:
        return Rejected(text)
    if isinstance(error, (sdk.NoRegionError, sdk.EndpointConnectionError)):
        return Unavailable(text, f"is {region!r} a region, and is there a way to the internet?")
    return Unavailable(f"{text} (no answer to {operation})")


def _short(message: str) -> str:
    """Without Amazon's encoded half page, which only its own API can read."""
    return re.sub(r"\s*Encoded authorization failure message: \S+", "", message)[:600]
