"""What Google's refusals mean for the caller: the whole table, and the same by way of the real SDK."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.auth.exceptions import RefreshError

from activities.platforms.base import Ask
from activities.platforms.gce_errors import Told, Where, meaning, translate
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
from tests.activities.platforms import gce_builders as builders
from tests.doubles.gce import Fault
from tests.doubles.gce_world import Refusal, sold_out

WHERE = Where("gce:test", "a-project", "us-central1", "us-central1-a", "g2-standard-4")

TABLE: list[tuple[Told, type[NebulousError]]] = [
    # capacity
    (Told(("ZONE_RESOURCE_POOL_EXHAUSTED",), "no room", 503, True), OutOfCapacity),
    (Told(("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",), "no room", 503, True), OutOfCapacity),
    (Told(("REGION_RESOURCE_POOL_EXHAUSTED",), "no room", 503, True), OutOfCapacity),
    (Told(("GPU_STOCKOUT",), "no room", None, True), OutOfCapacity),
    (Told(("insufficientCapacity",), "no room", 503), OutOfCapacity),
    (Told(("UNSUPPORTED_OPERATION",), "preempted", 400, True), OutOfCapacity),
    (Told(("RESOURCE_NOT_READY",), "still stopping", 400, True), OutOfCapacity),
    (Told(("SOMETHING",), "no room", 503, True), OutOfCapacity),
    (Told(("SOMETHING",), "deleted while it was made", 409, True), OutOfCapacity),
    (Told(("forbidden",), "Location x-y is not found or access is unauthorized.", 403), OutOfCapacity),
    (Told(("SUBNET_NOT_FOUND_FOR_VPC",), "no subnet", 400), OutOfCapacity),
    # quota
    (
        Told(("QUOTA_EXCEEDED",), "Quota 'NVIDIA_L4_GPUS' exceeded. Limit: 1.0 in region us-central1.", 403, True),
        QuotaExceeded,
    ),
    (Told(("quotaExceeded",), "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.", 403), QuotaExceeded),
    # pace
    (Told(("RESOURCE_OPERATION_RATE_EXCEEDED",), "too fast", 403, True), RateLimited),
    (Told(("rateLimitExceeded",), "too fast", 403), RateLimited),
    (Told((), "too fast", 429), RateLimited),
    # credential
    (Told(("IAM_PERMISSION_DENIED",), "may not", 403, True), AuthFailed),
    (Told((), "Policy update access denied.", 400), AuthFailed),
    (Told(("forbidden",), "Required 'compute.instances.create' permission", 403), AuthFailed),
    (Told(("accessNotConfigured",), "the API is off", 403), AuthFailed),
    (Told(("authError",), "Invalid Credentials", 401), AuthFailed),
    (Told(("VPC_NOT_FOUND",), "no network", 400), AuthFailed),
    # what can never work
    (Told(("invalid",), "Invalid value for field", 400), Rejected),
    (Told(("resourceNotFound",), "no such type", 400), Rejected),
    (Told(("conditionNotMet",), "violated a constraint", 412), Rejected),
    (Told((), "Requested disk size cannot be smaller than the image size (50 GB)", 400), Rejected),
    # the rest
    (Told(("alreadyExists",), "already exists", 409), Conflict),
    (Told(("notFound",), "was not found", 404), NotFound),
    (Told(("backendError",), "Backend Error", 503), Unavailable),
    (Told(("internalError",), "Internal Error", 500), Unavailable),
    (Told(("A_NEW_WORD",), "never seen", None, True), Unavailable),
]


@pytest.mark.parametrize(("told", "expected"), TABLE, ids=[f"{told.status}-{''.join(told.codes)}" for told, _ in TABLE])
def test_each_row_of_the_table_is_told_apart(told: Told, expected: type[NebulousError]):
    error = meaning(told, WHERE)
    assert type(error) is expected
    assert told.message in error.message
    assert "g2-standard-4 in us-central1-a" in error.message


def test_a_quota_blocks_its_region_or_the_whole_account():
    region = meaning(
        Told(("QUOTA_EXCEEDED",), "Quota 'NVIDIA_L4_GPUS' exceeded. Limit: 1.0 in region us-central1."), WHERE
    )
    project = meaning(Told(("QUOTA_EXCEEDED",), "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally."), WHERE)
    assert isinstance(region, QuotaExceeded)
    assert isinstance(project, QuotaExceeded)
    assert (region.scope, project.scope) == ("us-central1", "gce:test")
    assert region.hint == "ask Google for more at https://console.cloud.google.com/iam-admin/quotas?project=a-project"


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        (
            Told(("authError",), "", 401, skew_s=1200),
            "this worker's clock is 20 minutes ahead of Google's: set it right",
        ),
        (Told(("authError",), "", 401), "check the key of gce:test: it may have been revoked"),
        (Told(("accessNotConfigured",), "", 403), "enable the Compute Engine API in project a-project"),
        (
            Told(("forbidden",), "", 403),
            "give the service account the role of docs/clouds.md; `nebu doctor` lists what is missing",
        ),
    ],
)
def test_a_refused_credential_says_what_to_do(told: Told, advice: str):
    assert meaning(told, WHERE).hint == advice


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (sold_out("us-central1-a", "g2-standard-4"), OutOfCapacity),
        (
            Refusal("QUOTA_EXCEEDED", "Quota 'NVIDIA_L4_GPUS' exceeded. Limit: 1.0 in region us-central1.", 403),
            QuotaExceeded,
        ),
        (Refusal("UNSUPPORTED_OPERATION", "Instance 'x' was preempted while it was created", 400), OutOfCapacity),
        (Refusal("IAM_PERMISSION_DENIED", "Required 'compute.disks.create' permission", 403), AuthFailed),
        (Refusal("RESOURCE_OPERATION_RATE_EXCEEDED", "Operation rate exceeded", 403), RateLimited),
        (Refusal("conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated", 412), Rejected),
        (Refusal("NEVER_SEEN", "what is this", 500), Unavailable),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
async def test_what_an_operation_ends_with_is_told_and_nothing_is_left(
    refusal: Refusal, expected: type[NebulousError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        double.world.refusals["us-central1-a"] = refusal
        with pytest.raises(expected) as refused:
            await cloud.rent(builders.order(), builders.offer())
        assert type(refused.value) is expected
        assert refusal.message in refused.value.message
        assert double.inventory == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            Fault("instances.insert", 403, "quotaExceeded", "Quota 'CPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally."),
            QuotaExceeded,
        ),
        (Fault("instances.insert", 403, "rateLimitExceeded", "Rate Limit Exceeded"), RateLimited),
        (Fault("instances.insert", 403, "forbidden", "Required 'compute.instances.create' permission"), AuthFailed),
        (Fault("instances.insert", 403, "accessNotConfigured", "Compute Engine API has not been used"), AuthFailed),
        (Fault("instances.insert", 503), Unavailable),
        (Fault("instances.insert", 500, "internalError", "Internal Error"), Unavailable),
        (Fault("instances.insert", None), Unavailable),
        (Fault("instances.insert", 400, "invalid", "Invalid value for field 'resource.disks'"), Rejected),
    ],
    ids=lambda value: f"{value.status}-{value.reason}" if isinstance(value, Fault) else "",
)
async def test_what_an_insert_is_answered_is_told_by_the_real_sdk(
    fault: Fault, expected: type[NebulousError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        double.fail(fault)
        with pytest.raises(expected) as refused:
            await cloud.rent(builders.order(), builders.offer())
        assert type(refused.value) is expected
        assert len(double.called("instances.insert")) == 1, "a rent is one call: who sends it again knows why"
        assert double.inventory == []


async def test_a_pause_that_google_names_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        double.fail(Fault("instances.insert", 429, "rateLimitExceeded", "slowly", headers={"Retry-After": "17"}))
        with pytest.raises(RateLimited) as refused:
            await cloud.rent(builders.order(), builders.offer())
        assert refused.value.retry_after == 17


async def test_a_zone_that_is_not_ours_to_use_is_no_credential_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path)
        with pytest.raises(OutOfCapacity, match="access is unauthorized"):
            await cloud.rent(builders.order(), builders.offer(zone="us-central9-a"))


async def test_without_credentials_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path, credentials=tmp_path / "nowhere.json")
        with pytest.raises(AuthFailed, match=r"nowhere\.json is no key of a service account"):
            await cloud.identity()
        (tmp_path / "user.json").write_text('{"type": "authorized_user"}')
        with pytest.raises(AuthFailed, match=r"user\.json is no key of a service account"):
            await builders.client(double, tmp_path, credentials=tmp_path / "user.json").identity()


@pytest.mark.parametrize(("retryable", "expected"), [(True, Unavailable), (False, AuthFailed)])
def test_a_token_service_that_fails_for_now_refuses_nobody(retryable: bool, expected: type[NebulousError]):
    error = RefreshError("internal_failure", retryable=retryable)  # pyright: ignore[reportUnknownVariableType]
    assert type(translate(error, WHERE)) is expected


async def test_a_clock_that_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        double.account.clock_s = -3600 * 3
        cloud = builders.client(double, tmp_path)
        with pytest.raises(AuthFailed) as refused:
            await cloud.owned()
        assert refused.value.hint == "this worker's clock is 180 minutes ahead of Google's: set it right"


async def test_a_project_that_there_is_not_is_no_absence_of_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with builders.double(monkeypatch) as double:
        cloud = builders.client(double, tmp_path, project="another")
        with pytest.raises(AuthFailed, match="another"):
            await cloud.find("nebu-abc")


async def test_accelerators_that_google_never_has_are_refused_with_who_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with builders.double(monkeypatch) as double:
        with pytest.raises(Rejected, match="gce has no A40") as refused:
            await builders.client(double, tmp_path).offers(Ask(accelerators=["1:A40"]))
        assert "1:A40 is on runpod" in str(refused.value.hint)
        assert double.calls == []
