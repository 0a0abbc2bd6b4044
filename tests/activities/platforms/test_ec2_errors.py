"""Every error of Amazon's tables, as a launch meets it, and what each tells people to do."""

from __future__ import annotations

import pytest

from activities.platforms import ec2_errors
from activities.platforms.ec2_errors import Said
from nebulous.errors import (
    AuthFailed,
    NebulousError,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unavailable,
)
from tests.activities.platforms.ec2_stand import Amazon

CAPACITY = """InsufficientInstanceCapacity InsufficientHostCapacity InsufficientReservedInstanceCapacity
UnfulfillableCapacity ReservationCapacityExceeded Unsupported SpotMaxPriceTooLow VolumeTypeNotAvailableInZone
InsufficientVolumeCapacity InsufficientFreeAddressesInSubnet InsufficientAddressCapacity InvalidSubnetID.NotFound
VPCIdNotSpecified InvalidInstanceType"""
QUOTA = "VcpuLimitExceeded InstanceLimitExceeded MaxSpotInstanceCountExceeded VolumeLimitExceeded AddressLimitExceeded"
THROTTLE = "RequestLimitExceeded Throttling ThrottlingException"
SERVER = "InternalError InternalFailure ServerInternal ServiceUnavailable Unavailable SomethingNeverSeen"
AUTH = """UnauthorizedOperation InvalidClientTokenId SignatureDoesNotMatch ExpiredToken RequestExpired Blocked
PendingVerification RequestTimeTooSkewed"""
PERMANENT = """InvalidParameterValue InvalidParameterCombination MissingParameter UnsupportedOperation UnknownParameter
InvalidAMIID.NotFound InvalidAMIID.Malformed InvalidUserData.Malformed InvalidBlockDeviceMapping"""

TABLE = [
    (CAPACITY, OutOfCapacity),
    (QUOTA, QuotaExceeded),
    (THROTTLE, RateLimited),
    (SERVER, Unavailable),
    (AUTH, AuthFailed),
    (PERMANENT, Rejected),
]


@pytest.mark.parametrize(("codes", "meaning"), TABLE, ids=[meaning.__name__ for _, meaning in TABLE])
async def test_a_launch_is_refused_for_what_the_code_means(amazon: Amazon, codes: str, meaning: type[NebulousError]):
    cloud = amazon.cloud()
    for code in codes.split():
        amazon.double.fail("RunInstances", code, "in Amazon's words", status=500 if code in SERVER else 400)
        with pytest.raises(NebulousError) as refused:
            await cloud.rent(amazon.order(), amazon.offer())
        assert type(refused.value) is meaning, code
        assert "in Amazon's words" in refused.value.message
        assert code in refused.value.message
        assert "us-east-1" in refused.value.message
    assert len(amazon.double.made("RunInstances")) == len(codes.split()), "each is one call"
    assert amazon.double.living() == []


@pytest.mark.parametrize(
    ("kind", "spot", "code"),
    [
        ("g5.xlarge", False, "L-DB2E81BA"),
        ("g6e.48xlarge", True, "L-3819A6DF"),
        ("p4d.24xlarge", False, "L-417A185B"),
        ("p4d.24xlarge", True, "L-7212CCBC"),
        ("p5en.48xlarge", True, "L-C4BD4855"),
        ("p5.4xlarge", False, "L-417A185B"),
        ("t3.medium", False, "L-1216C47A"),
        ("m7i.large", True, "L-34B43A08"),
        ("inf2.xlarge", True, "L-B5D1601B"),
        ("trn1.2xlarge", False, "L-2C3B7624"),
    ],
)
async def test_a_quota_names_its_code_and_blocks_its_region(amazon: Amazon, kind: str, spot: bool, code: str):
    amazon.double.fail(
        "RunInstances", "VcpuLimitExceeded", "You have requested more vCPU capacity than your limit of 0"
    )
    with pytest.raises(QuotaExceeded) as refused:
        await amazon.cloud().rent(amazon.order(), amazon.offer(kind=kind, spot=spot))
    assert refused.value.scope == "us-east-1"
    assert code in (refused.value.hint or "")
    assert "us-east-1" in (refused.value.hint or "")


async def test_a_missing_permission_is_named_exactly_and_its_secret_half_page_is_left_out(amazon: Amazon):
    words = (
        "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/nebulous is not "
        "authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:us-east-1:123456789012:instance/* because no "
        "identity-based policy allows it. Encoded authorization failure message: " + "x" * 900
    )
    amazon.double.fail("RunInstances", "UnauthorizedOperation", words, status=403)
    with pytest.raises(AuthFailed) as refused:
        await amazon.cloud().rent(amazon.order(), amazon.offer())
    assert "ec2:CreateTags" in (refused.value.hint or "")
    assert "xxx" not in refused.value.message


async def test_a_disk_smaller_than_the_image_is_refused_with_the_least_that_does(amazon: Amazon):
    ubuntu = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    amazon.double.images = {ubuntu: 75}
    with pytest.raises(Rejected, match="the disk is smaller than the machine's image") as refused:
        await amazon.cloud().rent(amazon.order(disk_gib=30), amazon.offer())
    assert "at least 75 GiB" in (refused.value.hint or "")
    await amazon.cloud().rent(amazon.order(disk_gib=75), amazon.offer())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ("AuthFailure", "AWS was not able to validate: Signature expired: 20261124T1 is now earlier than 20261124T2"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261124T101010Z is still later than 20261124T1"),
    ],
)
async def test_a_wrong_clock_is_told_as_such(amazon: Amazon, code: str, words: str):
    amazon.double.fail("GetCallerIdentity", code, words, status=403)
    with pytest.raises(AuthFailed) as refused:
        await amazon.cloud().identity()
    assert "clock is wrong" in (refused.value.hint or "")


async def test_without_credentials_it_says_what_to_set(amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AuthFailed, match="no credentials for Amazon EC2") as refused:
        await amazon.cloud().identity()
    assert "AWS_PROFILE" in (refused.value.hint or "")
    assert amazon.double.calls == []


async def test_credentials_that_come_later_are_taken(amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    cloud = amazon.cloud()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AuthFailed):
        await cloud.identity()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    assert await cloud.identity() == "123456789012"


async def test_a_profile_that_is_not_there_is_named(amazon: Amazon):
    with pytest.raises(AuthFailed, match="nosuch") as refused:
        await amazon.cloud(profile="nosuch").identity()
    assert "~/.aws/config" in (refused.value.hint or "")


async def test_a_region_of_the_settings_that_is_not_there_gets_its_nearest(amazon: Amazon):
    with pytest.raises(AuthFailed, match="us-esat-1") as refused:
        await amazon.cloud(regions=["us-esat-1"]).identity()
    assert refused.value.hint == "did you mean 'us-east-1'?"


async def test_no_way_to_amazon_is_unavailable(amazon: Amazon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        await amazon.cloud().identity()


@pytest.mark.parametrize("code", ["AuthFailure", "OptInRequired"])
async def test_a_region_that_is_not_open_is_left_alone_and_the_rest_goes_on(amazon: Amazon, code: str):
    cloud = amazon.cloud()
    amazon.double.fail("DescribeSubnets", code, "not subscribed", region="eu-west-1")
    with pytest.raises(QuotaExceeded, match="eu-west-1 is not open to this account") as refused:
        await cloud.rent(amazon.order(), amazon.offer("eu-west-1a"))
    assert refused.value.scope == "eu-west-1"
    assert (await cloud.rent(amazon.order(), amazon.offer())).region == "us-east-1"


async def test_an_organization_that_forbids_a_region_closes_that_region(amazon: Amazon):
    words = "is not authorized to perform: ec2:RunInstances with an explicit deny in a service control policy"
    amazon.double.fail("RunInstances", "UnauthorizedOperation", words, status=403, region="eu-west-1")
    with pytest.raises(QuotaExceeded) as refused:
        await amazon.cloud().rent(amazon.order(), amazon.offer("eu-west-1a"))
    assert refused.value.scope == "eu-west-1"


def test_a_reason_that_is_in_no_table_leaves_nothing_rented(amazon: Amazon):
    reason = {"Code": "Client.InvalidSnapshot.NotFound", "Message": "no such snapshot"}
    assert isinstance(ec2_errors.of_reason(reason, "us-east-1", amazon.offer()), Rejected)
    assert isinstance(ec2_errors.of_reason({"Code": "Server.New"}, "us-east-1", amazon.offer()), OutOfCapacity)
    limit = ec2_errors.of_reason({"Code": "Client.VolumeLimitExceeded"}, "us-east-1", amazon.offer())
    assert isinstance(limit, QuotaExceeded)


def test_what_a_read_is_refused_for_is_not_the_containers_fault():
    said = Said("InvalidParameterValue", "a bug of ours", "us-east-1", operation="DescribeInstances")
    assert type(ec2_errors.of(said)) is Unavailable
