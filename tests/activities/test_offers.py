"""Which accounts are asked, in what order, when a platform is named and when none is."""

from __future__ import annotations

import pytest

from activities.offers import PlacementRequest, named, tiers, unnamed
from nebulous.errors import Rejected
from nebulous.models.platforms import PlatformReport


def report(account: str, simulated: bool = False) -> PlatformReport:
    platform = account.partition(":")[0]
    return PlatformReport(platform=platform, account=account, queue=f"platform-{account}", simulated=simulated)


DOCKER, LOCAL, EC2, RUNPOD = report("docker:a"), report("local:a"), report("ec2:prod"), report("runpod:me")
SIM, SIMULATED_GCE = report("sim:a", simulated=True), report("gce:simulated-a", simulated=True)
ALL = [DOCKER, LOCAL, EC2, RUNPOD, SIM, SIMULATED_GCE]


def test_without_a_name_nothing_simulated_is_chosen() -> None:
    assert unnamed(ALL) == [DOCKER, LOCAL, EC2, RUNPOD]


def test_without_accelerators_docker_comes_first_then_clouds_then_this_host() -> None:
    assert tiers(unnamed(ALL), PlacementRequest()) == [[DOCKER], [EC2, RUNPOD], [LOCAL]]


def test_with_accelerators_clouds_and_docker_compete_on_price() -> None:
    assert tiers(unnamed(ALL), PlacementRequest(accelerated=True)) == [[EC2, RUNPOD, DOCKER], [LOCAL]]


def test_a_name_means_all_its_accounts_simulated_ones_included_and_an_account_means_itself() -> None:
    assert named(ALL, "gce") == [SIMULATED_GCE]
    assert named(ALL, "ec2:prod") == [EC2]


def test_a_platform_that_nobody_serves_is_not_the_specs_fault_but_a_misspelt_one_is() -> None:
    assert named([DOCKER], "ec2") == []
    with pytest.raises(Rejected, match="dokcer") as refused:
        named(ALL, "dokcer")
    assert refused.value.hint == "did you mean 'docker'?"
