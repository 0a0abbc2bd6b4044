"""What `nebu doctor` asks of an account: whether the credential may do what we do, and how much of it."""

from __future__ import annotations

import asyncio

from activities.platforms import ec2_errors, ec2_request
from activities.platforms.ec2_api import Api, Fields
from activities.platforms.ec2_request import CANONICAL, Image
from nebulous.errors import AuthFailed, NebulousError
from nebulous.ids import TAG_INSTALL
from nebulous.models.platforms import Offer

NOBODY = "00000000000000000"  # ends the id of what there is not
UBUNTU = Image("/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", CANONICAL, "")
PROBED_AS = "nebulous-doctor"


def _tagged(kind: str) -> list[Fields]:
    """As what we make is: policies go by it, and tagging is a permission of its own."""
    return [{"ResourceType": kind, "Tags": [{"Key": TAG_INSTALL, "Value": PROBED_AS}]}]


#: Operation, and what it is asked with. Amazon answers DryRunOperation, or that it is not allowed; what else it
#: objects to (there is no such group) it says only to who is allowed. What a policy may bind to our tag
#: (ending machines, changing groups) is not asked: of what there is not, Amazon would say that it is forbidden.
DRY: list[tuple[str, Fields]] = [
    ("DescribeRegions", {}),
    ("DescribeInstances", {}),
    ("DescribeInstanceTypeOfferings", {}),
    ("DescribeSpotPriceHistory", {}),
    ("DescribeSubnets", {}),
    ("DescribeSecurityGroups", {}),
    ("DescribeImages", {"Owners": ["amazon"]}),
    ("GetConsoleOutput", {"InstanceId": f"i-{NOBODY}"}),
    (
        "CreateSecurityGroup",
        {"GroupName": PROBED_AS, "Description": PROBED_AS, "TagSpecifications": _tagged("security-group")},
    ),
]


async def missing_permissions(api: Api, region: str) -> list[str]:
    """The actions that are refused in the region, by their names in IAM.

    Raises:
        AuthFailed: The credential itself is refused. Unavailable: no answer.
    """
    await api.identity(anew=True)
    launch: Fields = {"ImageId": UBUNTU.resolved, "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1}
    launch["TagSpecifications"] = _tagged("instance")
    asked = [
        *(_refused(api, region, operation, {**fields, "DryRun": True}) for operation, fields in DRY),
        _refused(api, region, ec2_errors.LAUNCH, {**launch, "DryRun": True}),
        _refused(api, region, "GetParameters", {"Names": [UBUNTU.parameter]}, service="ssm"),
    ]
    found = await asyncio.gather(*asked)
    return sorted({action for action in found if action})


async def _refused(api: Api, region: str, operation: str, fields: Fields, *, service: str = "ec2") -> str:
    """The action that is missing for the call; "" when it may be made."""
    try:
        await api.call(operation, region, fields, service=service)
    except NebulousError as error:
        if not isinstance(error, AuthFailed):
            return ""
        if ec2_errors.code(error) not in ec2_errors.FORBIDDEN:
            raise
        return ec2_errors.Said("", error.message, region, service, operation).action
    return ""


async def images(api: Api, region: str) -> str:
    """Whether the image for accelerators can be had: "" when it can, else why not."""
    wanted = ec2_request.image(Offer(platform="ec2", account="", instance_type="g5.xlarge", accelerator="A10G"))
    try:
        named = await api.read("GetParameters", region, {"Names": [wanted.parameter]}, service="ssm")
        if named.get("Parameters") or await ec2_request.newest(api, region, wanted):
            return ""
    except NebulousError as error:
        return error.message
    return f"neither {wanted.parameter} nor an image {wanted.name!r} is in {region}"


async def quotas(api: Api, region: str) -> dict[str, float]:
    """Virtual processors that may run at once, by quota; empty where the credential may not ask."""
    known = {quota.code for pair in ec2_errors.QUOTAS.values() for quota in pair}
    try:
        rows = await api.pages("ListServiceQuotas", region, "Quotas", {"ServiceCode": "ec2"}, service="service-quotas")
    except NebulousError:
        return {}
    return {
        f"{region} {row['QuotaCode']} {row['QuotaName']}": float(row["Value"])
        for row in rows
        if row["QuotaCode"] in known
    }
