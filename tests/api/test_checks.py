"""What is refused before anything is created, as far as it depends on what the platforms report."""

from __future__ import annotations

import pytest

from api import checks
from nebulous.models.base import InvalidDocument
from nebulous.models.containers import ContainerSpec
from nebulous.models.platforms import Feature, PlatformReport


def report(account: str, *features: Feature) -> PlatformReport:
    platform = account.partition(":")[0]
    return PlatformReport(platform=platform, account=account, queue="q", features=frozenset(features))


def spec(platform: str) -> ContainerSpec:
    return ContainerSpec(image="x", platform=platform, accelerators=["1:L4"], idle_timeout="5m")


@pytest.mark.parametrize(
    ("platform", "reports"),
    [
        ("local", [report("local:a", Feature.STATS)]),
        ("docker", [report("docker:a", Feature.LOGS)]),
    ],
)
def test_idleness_that_nobody_can_see_is_refused(platform: str, reports: list[PlatformReport]):
    with pytest.raises(InvalidDocument) as refused:
        checks.check_platform(spec(platform), reports)
    assert str(refused.value) == f"idle_timeout: {platform} does not measure how busy accelerators are"


def test_one_account_that_measures_is_enough():
    checks.check_platform(spec("docker"), [report("docker:a"), report("docker:b", Feature.STATS)])
