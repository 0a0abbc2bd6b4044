"""What the doctor asks of an account of Amazon: permissions by dry runs, and quotas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nebulous.errors import AuthFailed
from tests.activities.platforms.ec2_stand import Amazon

POLICY = Path(__file__).parents[3] / "docs" / "clouds.md"


async def test_with_all_permissions_nothing_is_missing_and_nothing_was_done(amazon: Amazon):
    assert await amazon.cloud().missing_permissions() == []
    assert amazon.double.living() == []
    assert amazon.double.groups() == []


async def test_missing_permissions_are_named_as_iam_does(amazon: Amazon):
    missing = {"ec2:RunInstances", "ec2:DescribeSubnets", "ssm:GetParameters", "ec2:CreateSecurityGroup"}
    amazon.double.denied = missing
    assert await amazon.cloud().missing_permissions() == sorted(missing)


async def test_a_refused_credential_is_not_told_as_missing_permissions(amazon: Amazon):
    amazon.double.revoked = True
    with pytest.raises(AuthFailed):
        await amazon.cloud().missing_permissions()


async def test_quotas_are_by_region_and_unknown_where_they_may_not_be_asked(amazon: Amazon):
    amazon.double.quotas = {"L-DB2E81BA": 8.0, "L-SOMETHING": 5.0}
    cloud = amazon.cloud(regions=["us-east-1", "eu-west-1"])
    assert await cloud.quotas() == {
        "us-east-1 L-DB2E81BA quota L-DB2E81BA": 8.0,
        "eu-west-1 L-DB2E81BA quota L-DB2E81BA": 8.0,
    }
    amazon.double.denied = {"servicequotas:ListServiceQuotas"}
    assert await cloud.quotas() == {}


async def test_the_image_for_accelerators_is_looked_for(amazon: Amazon):
    assert "is in us-east-1" in await amazon.cloud().images()
    amazon.double.named = [("ami-1", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 2", "2026-09-01")]
    assert await amazon.cloud().images() == ""


async def test_what_the_policy_binds_to_our_tag_is_probed_with_it_or_not_at_all(amazon: Amazon):
    bound = {"TerminateInstances", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "DeleteSecurityGroup"}
    amazon.double.denied = {f"ec2:{each}" for each in {*bound, "CreateTags"}}
    assert await amazon.cloud().missing_permissions() == []
    for made in ("RunInstances", "CreateSecurityGroup"):
        (probe,) = amazon.double.made(made)
        assert probe.form["TagSpecification.1.Tag.1.Key"] == "nebulous-install"


async def test_the_policy_of_the_documentation_allows_every_call_that_is_made(amazon: Amazon):
    cloud, order = amazon.cloud(), amazon.order()
    machine = await cloud.rent(order, amazon.offer(spot=True))
    for call in (cloud.identity(), cloud.owned(), cloud.announced(machine), cloud.admit(machine)):
        await call
    await amazon.cloud("198.51.100.9").admit(machine)
    await cloud.quotas()
    await cloud.missing_permissions()
    await cloud.delete(order.launch.key)
    allowed = set(re.findall(r'"([a-z0-9]+:\w+)"', POLICY.read_text()))
    asked = {call.action for call in amazon.double.calls} - {"sts:GetCallerIdentity"}  # which needs no permission
    assert asked <= allowed
