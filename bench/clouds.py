"""What Nebulous adds between a rented machine and its command, against a script of boto3, ssh and docker."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx

from bench.docker import engine, moments
from bench.installs import Install, install
from bench.report import Figure, seconds
from tests.docker_engine import client as engine_client
from tests.docker_engine import imported, small_system
from tests.doubles.ec2 import Ec2Double
from tests.doubles.guests import Guests, why_not

ROUNDS, QUICK_ROUNDS = 7, 1
LOOKS = 9
COMMAND = ["sleep", "0.3"]
REGION, IMAGE = "us-east-1", "ami-0123456789abcdef0"
ENV = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
#: What a user would let a machine do at its first boot.
USER_DATA = """#!/bin/sh
useradd -m -G docker me
mkdir -p ~me/.ssh
echo '{key}' >~me/.ssh/authorized_keys
chown -R me ~me/.ssh
"""
SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2")


@dataclass
class Stand:
    """The parts of a measurement."""

    amazon: Ec2Double
    engine: httpx.Client
    image: str
    folder: Path


def measure(quick: bool) -> list[Figure]:
    """From the request for a machine to the command's start, by turns."""
    if reason := why_not():
        print(f"clouds: not measured: {reason}")
        return [Figure("ec2: not measured, see above", float("inf"), "s", 0)]
    ours: list[float] = []
    theirs: list[float] = []
    with _stand() as stand, _install(stand) as here:
        _ours(stand, here, "warm")
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            theirs.append(_by_hand(stand))
            ours.append(_ours(stand, here, f"bench-{number}"))
        offers = [seconds(lambda: _offers(here)) for _ in range(LOOKS)]
    return [
        Figure(
            "ec2: machine rented to command started",
            statistics.median(ours),
            "s",
            baseline=statistics.median(theirs),
            against="a script of boto3, ssh and docker",
            ratio_target=1.3,
        ),
        Figure("ec2: offers, from cache", statistics.median(offers[1:]), "s", 0.5),
    ]


@contextmanager
def _stand() -> Iterator[Stand]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nebu-bench-")))
        host = stack.enter_context(engine())
        double = Ec2Double()
        stack.enter_context(double.served())
        double.guests = stack.enter_context(Guests(host, folder))
        client = stack.enter_context(engine_client(host))
        image = stack.enter_context(imported(host, small_system(), "ENV PATH=/bin"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
        yield Stand(double, client, image, folder)


@contextmanager
def _install(stand: Stand) -> Iterator[Install]:
    account = {"regions": [REGION], "ssh_from": "198.51.100.7"}
    settings = {"AWS_ENDPOINT_URL": stand.amazon.url, "NEBU_PLATFORMS": json.dumps({"ec2:prod": account})}
    with install(HOME=str(stand.folder), **ENV, **settings) as here:
        yield here


def _ours(stand: Stand, here: Install, name: str) -> float:
    """Seconds from our RunInstances to the start of the command."""
    asked = time.time()
    here.create(name, image=stand.image, command=COMMAND, platform="ec2")
    here.until(name, "completed", "failed")
    started = moments(stand.engine, asked, {"label": [f"nebulous-workflow=container/local/default/{name}"]})["start"]
    rented = stand.amazon.made("RunInstances")[-1].at
    here.api.delete(f"/v1/containers/default/{name}", params={"wait": True})
    return started - rented


def _by_hand(stand: Stand) -> float:
    """The same for the script: rent, wait until it runs, wait for SSH, run the container."""
    keys = {"aws_access_key_id": ENV["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": ENV["AWS_SECRET_ACCESS_KEY"]}
    ec2 = boto3.client("ec2", region_name=REGION, endpoint_url=stand.amazon.url, **keys)
    script = USER_DATA.format(key=(stand.folder / "key.pub").read_text().strip())
    asked = time.time()
    made = ec2.run_instances(ImageId=IMAGE, InstanceType="t3.medium", MinCount=1, MaxCount=1, UserData=script)
    machine = made["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[machine], WaiterConfig={"Delay": 1})
    seen = ec2.describe_instances(InstanceIds=[machine])["Reservations"][0]["Instances"][0]
    door = [*SSH, "-i", str(stand.folder / "key"), f"me@{seen['PublicIpAddress']}"]
    while subprocess.run([*door, "docker", "info"], capture_output=True, check=False).returncode:
        time.sleep(1)
    run = [*door, "docker", "run", "--detach", stand.image, *COMMAND]
    container = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    stand.engine.post(f"/containers/{container}/wait").raise_for_status()
    started = moments(stand.engine, asked, {"container": [container]})["start"]
    ec2.terminate_instances(InstanceIds=[machine])
    return started - asked


def _offers(here: Install) -> None:
    here.api.get("/v1/offers", params={"accelerators": "1:L4", "platform": "ec2"}).raise_for_status()
