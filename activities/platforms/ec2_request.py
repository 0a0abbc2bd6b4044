"""The request that rents a machine: the same to the byte for the same order, and safe when no later call ever comes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from activities.platforms.ec2_api import Api, Fields
from activities.platforms.ec2_places import Subnet
from activities.platforms.machine_cloud import Order
from nebulous import catalog
from nebulous.errors import Rejected
from nebulous.models.platforms import Offer

USER_DATA_LIMIT = 16_384  # bytes, before base64
TOKEN_LIMIT = 64
TAG_LIMIT = 256
DEEP_LEARNING, CANONICAL = "898082745236", "099720109477"  # accounts that publish images
TAGGED = ("instance", "volume", "network-interface")
SPOT_TAGGED = "spot-instances-request"  # refused where none is made


@dataclass(frozen=True)
class Image:
    """A machine image: its public name in Systems Manager, and how to look it up where that may not be read."""

    parameter: str
    owner: str
    name: str
    root: str = "/dev/sda1"

    @property
    def resolved(self) -> str:
        """What RunInstances resolves itself."""
        return f"resolve:ssm:{self.parameter}"


def image(offer: Offer) -> Image:
    """The image for a machine: with Nvidia's driver and Docker, or plain.

    The open kernel modules know Turing and newer, so that V100 needs the image with the proprietary ones, which
    Amazon builds on its own Linux.
    """
    arm = cpu(offer) == "arm64"
    if not offer.accelerator:
        chip = "arm64" if arm else "amd64"
        return Image(
            f"/aws/service/canonical/ubuntu/server/24.04/stable/current/{chip}/hvm/ebs-gp3/ami-id",
            CANONICAL,
            f"ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{chip}-server-*",
        )
    shelf = f"/aws/service/deeplearning/ami/{'arm64' if arm else 'x86_64'}"
    if catalog.load().accelerators.get(offer.accelerator, {}).get("arch") == "volta":
        return Image(
            f"{shelf}/base-proprietary-nvidia-driver-gpu-amazon-linux-2/latest/ami-id",
            DEEP_LEARNING,
            "Deep Learning Base Proprietary Nvidia Driver GPU AMI (Amazon Linux 2) *",
            root="/dev/xvda",
        )
    return Image(
        f"{shelf}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id",
        DEEP_LEARNING,
        f"Deep Learning {'ARM64 ' if arm else ''}Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) *",
    )


def cpu(offer: Offer) -> str:
    """The architecture of a machine's processors, by the catalog, else by Amazon's way to name types.

    After the generation stand letters, of which `g` is Amazon's own processor: m7g, c7gd, t4g.
    """
    for shape in catalog.shapes("ec2", offer.accelerator or ""):
        if shape.type == offer.instance_type:
            return shape.cpu
    return "arm64" if re.match(r"[a-z]+\d+[a-z]*g|a1\.", offer.instance_type) else "x86_64"


async def newest(api: Api, region: str, wanted: Image) -> str:
    """The id of the newest image of that name; "" where there is none."""
    rows = await api.pages(
        "DescribeImages",
        region,
        "Images",
        {
            "Owners": [wanted.owner],
            "Filters": [{"Name": "name", "Values": [wanted.name]}, {"Name": "state", "Values": ["available"]}],
        },
    )
    return str(max(rows, key=lambda row: str(row.get("CreationDate", "")))["ImageId"]) if rows else ""


def token(key: str, zone: str) -> str:
    """What Amazon knows a rental by: sent again in the same zone, it gives the same machine.

    The zone is in it because Amazon remembers it by zone, as the request names a subnet.
    """
    plain = f"{key}-{zone}"
    if len(plain) <= TOKEN_LIMIT and plain.isascii():
        return plain
    return "nebu-" + hashlib.sha256(plain.encode()).hexdigest()[: TOKEN_LIMIT - len("nebu-")]


def check(order: Order) -> None:
    """Refuse what Amazon would refuse less clearly.

    Raises:
        Rejected: User data or a tag is too long.
    """
    size = len(order.user_data.encode())
    if size > USER_DATA_LIMIT:
        raise Rejected(
            f"the machine's boot script has {size:,} bytes; Amazon EC2 takes {USER_DATA_LIMIT:,}",
            "it grows with public keys and settings: give it fewer",
        )
    for name, value in order.tags.items():
        if len(value) > TAG_LIMIT:
            raise Rejected(f"tag {name} has {len(value)} characters; Amazon EC2 takes {TAG_LIMIT}", "use shorter names")


def request(order: Order, offer: Offer, subnet: Subnet, groups: list[str]) -> Fields:
    """The parameters of RunInstances for one machine in one zone.

    Ends billing by itself: the machine's own power-off terminates it, its disk goes with it, and a spot request is
    for one time. No key pair and no instance profile: its user data has our public key, and nothing that runs in it
    gets a credential of the account.
    """
    wanted = image(offer)
    fields: Fields = {
        "ClientToken": token(order.launch.key, subnet.zone),
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": wanted.resolved,
        "InstanceType": offer.instance_type,
        "UserData": order.user_data,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,  # containers on a bridge are one hop further
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": wanted.root,
                "Ebs": {"VolumeSize": order.disk_gib, "VolumeType": "gp3", "DeleteOnTermination": True},
            }
        ],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet.id,
                "Groups": groups,
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": _tags(order, offer.spot),
    }
    if offer.spot:  # no MaxPrice: it would only make for more interruptions, by Amazon's own advice
        fields["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    if re.match(r"t\d", offer.instance_type):  # bursts beyond the credits would cost more than the price we show
        fields["CreditSpecification"] = {"CpuCredits": "standard"}
    return fields


def _tags(order: Order, spot: bool) -> list[Fields]:
    metadata = order.launch.metadata
    name = f"{metadata.owner}/{metadata.namespace}/{metadata.name}"[:TAG_LIMIT]  # for people in Amazon's console
    tags = [{"Key": key, "Value": value} for key, value in sorted({**order.tags, "Name": name}.items())]
    return [{"ResourceType": kind, "Tags": tags} for kind in (*TAGGED, *((SPOT_TAGGED,) if spot else ()))]
