"""What Amazon is asked for: safe when no later call comes, the same to the byte, and free of secrets."""

from __future__ import annotations

import pytest

from activities.platforms import ec2_request
from nebulous.errors import Rejected
from nebulous.ids import TAG_ID, TAG_INSTALL, TAG_KEY, TAG_WORKFLOW
from nebulous.models.container_fields import Port
from tests.activities.platforms.ec2_stand import INSTALL, Amazon
from tests.doubles.ec2_wire import Request

OSS = "base-oss-nvidia-driver-gpu-ubuntu-22.04"


async def launch(amazon: Amazon, order: object = None, **offer: object) -> Request:
    await amazon.cloud().rent(order or amazon.order(), amazon.offer(**offer))  # type: ignore[arg-type]
    return amazon.double.made("RunInstances")[-1]


async def test_a_machine_ends_its_own_billing_and_guards_its_metadata(amazon: Amazon):
    form = (await launch(amazon)).form
    assert form["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert form["MetadataOptions.HttpTokens"] == "required"
    assert form["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert form["BlockDeviceMapping.1.DeviceName"] == "/dev/sda1"
    assert form["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert form["BlockDeviceMapping.1.Ebs.VolumeSize"] == "100"
    assert form["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert form["NetworkInterface.1.AssociatePublicIpAddress"] == "true"
    assert form["NetworkInterface.1.DeleteOnTermination"] == "true"
    assert (form["MinCount"], form["MaxCount"]) == ("1", "1")
    assert not [name for name in form if name.startswith(("KeyName", "IamInstanceProfile", "InstanceMarketOptions"))]


async def test_spot_is_asked_for_once_and_without_a_price(amazon: Amazon):
    request = await launch(amazon, spot=True)
    assert request.form["InstanceMarketOptions.MarketType"] == "spot"
    assert request.form["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert request.form["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"
    assert not [name for name in request.form if "MaxPrice" in name]
    assert request.tags("spot-instances-request")[TAG_INSTALL] == INSTALL


async def test_everything_that_is_made_carries_our_tags_in_the_same_request(amazon: Amazon):
    order = amazon.order()
    request = await launch(amazon, order)
    for kind in ("instance", "volume", "network-interface"):
        tags = request.tags(kind)
        assert tags[TAG_KEY] == order.launch.key
        assert tags[TAG_INSTALL] == INSTALL
        assert tags[TAG_ID] == order.launch.metadata.id
        assert tags[TAG_WORKFLOW] == order.launch.workflow
        assert tags["Name"] == "local/default/train"
    assert request.tags("spot-instances-request") == {}, "Amazon refuses this one where none is made"


async def test_no_secret_is_in_anything_that_is_sent(amazon: Amazon):
    await launch(amazon, amazon.order(ports=[Port(port=80, public=True)]))
    for call in amazon.double.calls:
        assert "hunter2" not in str(call.form) + str(call.document) + call.user_data


async def test_a_repeated_request_is_the_same_to_the_byte(amazon: Amazon):
    order = amazon.order(ports=[Port(port=80, public=True)])
    first = await launch(amazon, order)
    assert (await launch(amazon, order)).body == first.body


def test_a_token_is_of_key_and_zone_and_fits():
    plain = ec2_request.token("nebu-abc", "us-east-1a")
    assert plain == "nebu-abc-us-east-1a"
    long = {ec2_request.token("k" * 80, zone) for zone in ("us-east-1a", "us-east-1b")} | {
        ec2_request.token("schlüssel", "us-east-1a")
    }
    assert len(long) == 3
    assert all(len(token) <= 64 and token.isascii() for token in long)


@pytest.mark.parametrize(
    ("kind", "accelerator", "image", "root"),
    [
        ("g5.xlarge", "A10G", f"deeplearning/ami/x86_64/{OSS}/latest/ami-id", "/dev/sda1"),
        ("g5g.xlarge", "T4G", f"deeplearning/ami/arm64/{OSS}/latest/ami-id", "/dev/sda1"),
        (
            "p3dn.24xlarge",
            "V100-32GB",
            "deeplearning/ami/x86_64/base-proprietary-nvidia-driver-gpu-amazon-linux-2/latest/ami-id",
            "/dev/xvda",
        ),
        ("t3.medium", None, "canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "/dev/sda1"),
        ("g4dn.xlarge", None, "canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "/dev/sda1"),
        ("m7gd.large", None, "canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id", "/dev/sda1"),
    ],
)
def test_the_image_fits_the_machine(amazon: Amazon, kind: str, accelerator: str | None, image: str, root: str):
    wanted = ec2_request.image(amazon.offer(kind=kind, accelerator=accelerator))
    assert wanted.resolved == f"resolve:ssm:/aws/service/{image}"
    assert wanted.root == root


@pytest.mark.parametrize("code", ["InvalidAMIID.NotFound", "InvalidParameterValue", "UnauthorizedOperation"])
async def test_an_image_whose_public_name_may_not_be_read_is_looked_up(amazon: Amazon, code: str):
    amazon.double.named = [
        ("ami-old", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20250101", "2025-01-01T00:00:00.000Z"),
        ("ami-new", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 20260901", "2026-09-01T00:00:00.000Z"),
        ("ami-else", "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) 2", "2026-10-01T00:00:00.000Z"),
    ]
    words = "ImageId resolve:ssm:/aws/service/x: no permission to call ssm:GetParameters"
    amazon.double.fail("RunInstances", code, words)
    order = amazon.order()
    machine = await amazon.cloud().rent(order, amazon.offer())
    assert amazon.double.made("RunInstances")[-1].form["ImageId"] == "ami-new"
    assert amazon.double.launched[order.launch.key] == [machine.id]


async def test_an_image_that_is_nowhere_is_refused(amazon: Amazon):
    amazon.double.fail("RunInstances", "InvalidAMIID.NotFound", "no such image")
    with pytest.raises(Rejected, match="no such image"):
        await amazon.cloud().rent(amazon.order(), amazon.offer())


async def test_a_boot_script_that_is_too_long_is_refused_before_anything_is_asked(amazon: Amazon):
    with pytest.raises(Rejected, match=r"16,385 bytes; Amazon EC2 takes 16,384"):
        await amazon.cloud().rent(amazon.order(user_data="x" * 16_385), amazon.offer())
    assert amazon.double.calls == []
    assert (await launch(amazon, amazon.order(user_data="x" * 16_384))).user_data == "x" * 16_384


async def test_a_burstable_machine_costs_what_its_price_says(amazon: Amazon):
    form = (await launch(amazon, kind="t3.medium", accelerator=None)).form
    assert form["CreditSpecification.CpuCredits"] == "standard"
    assert "CreditSpecification.CpuCredits" not in (await launch(amazon)).form
    assert "CreditSpecification.CpuCredits" not in (await launch(amazon, kind="trn1.2xlarge")).form
