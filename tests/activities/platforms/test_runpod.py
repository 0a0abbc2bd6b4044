"""The platform `runpod` against a RunPod of our own (`tests/doubles/runpod.py`): the contract on real containers."""

from __future__ import annotations

import pytest

from tests.activities.platforms.contract import PlatformContract
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.runpod_builders import OnRunpod, ssh_image  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker


class TestRunpodContract(OnRunpod, RealExecContract, PlatformContract):
    """Every promise of `base.py`, in an image with an SSH server."""

    @pytest.fixture(autouse=True)
    def _image(self, ssh_image: str) -> None:  # noqa: F811
        self.image = ssh_image
