"""What it means that nobody offers anything: for ever, or at this moment."""

from __future__ import annotations

import pytest

from activities.failures import Failure
from activities.offers import Placement
from nebulous.models.platforms import PlatformReport
from workflows.placement import nothing


def accounts(*names: str) -> Placement:
    reports = [PlatformReport(platform=name.partition(":")[0], account=name, queue="") for name in names]
    return Placement(tiers=[reports])


REFUSED = Failure("Rejected", "this Engine has no GPU")


@pytest.mark.parametrize(
    ("placement", "problems", "rejected"),
    [
        (accounts("docker:a"), [REFUSED], True),
        (accounts("docker:a", "runpod:me"), [REFUSED], False),  # RunPod refuses nothing, and has none just now
        (accounts("docker:a", "runpod:me"), [REFUSED, REFUSED], True),
        (accounts("docker:a", "runpod:me"), [REFUSED, Failure("OutOfCapacity", "sold out")], False),
        (accounts("docker:a"), [], False),
    ],
)
def test_only_what_all_refuse_can_never_be(placement: Placement, problems: list[Failure], rejected: bool) -> None:
    assert nothing(placement, problems, None).rejected is rejected
